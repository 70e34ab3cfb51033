/**
 * The admin API, one entry per operation: path, input, output and permissions. The edge registers its routes
 * from it and generates OpenAPI; clients build requests and parse answers with it.
 */
import type { z } from 'zod';
import { BACKUP_OPERATIONS } from './backup.ts';
import { BLOB_OPERATIONS, DOWNLOAD_OPERATIONS } from './blobs.ts';
import {
  ABOUT_OPERATIONS,
  NAME_OPERATIONS,
  HISTORY_OPERATIONS,
  CHANGE_OPERATIONS,
  REMOVAL_OPERATIONS,
} from './names.ts';
import { ERASE_OPERATIONS } from './erasures.ts';
import { EVALUATION_OPERATIONS } from './evaluations.ts';
import { EXPERIMENT_OPERATIONS } from './experiments.ts';
import { GRANT_OPERATIONS } from './grants.ts';
import { KEY_OPERATIONS } from './keys.ts';
import { IMPROVEMENT_OPERATIONS } from './improvements.ts';
import type { AdminAnswer, AdminOperation, AdminOperationTable } from './operation.ts';
import { ORIGIN_OPERATIONS, PIN_OPERATIONS } from './origins.ts';
import { PLAN_OPERATIONS, VERSION_OPERATIONS, TRIAL_OPERATIONS } from './versions.ts';
import { PROMPT_OPERATIONS } from './prompts.ts';
import { ROOM_OPERATIONS } from './rooms.ts';
import { TENANT_OPERATIONS, USAGE_OPERATIONS } from './tenants.ts';
import { TRAFFIC_OPERATIONS } from './traffic.ts';
import { UPKEEP_OPERATIONS } from './upkeep.ts';
import { WEBHOOK_OPERATIONS } from './webhooks.ts';

export const OPENAPI_OPERATIONS = {
  'GET /admin/openapi.json': {
    id: 'readOpenApi',
    tag: 'operation',
    rights: 'admin',
    summary: 'This document.',
    query: null,
    request: null,
    answers: { 200: { description: 'An OpenAPI 3.1 document.', schema: 'object' } },
  },
} as const satisfies AdminOperationTable;

/** Named rather than inferred, so that declarations do not repeat every schema. */
type Table = typeof BLOB_OPERATIONS &
  typeof VERSION_OPERATIONS &
  typeof PLAN_OPERATIONS &
  typeof NAME_OPERATIONS &
  typeof CHANGE_OPERATIONS &
  typeof ABOUT_OPERATIONS &
  typeof REMOVAL_OPERATIONS &
  typeof ERASE_OPERATIONS &
  typeof DOWNLOAD_OPERATIONS &
  typeof HISTORY_OPERATIONS &
  typeof TRIAL_OPERATIONS &
  typeof EVALUATION_OPERATIONS &
  typeof TENANT_OPERATIONS &
  typeof USAGE_OPERATIONS &
  typeof TRAFFIC_OPERATIONS &
  typeof PROMPT_OPERATIONS &
  typeof IMPROVEMENT_OPERATIONS &
  typeof ORIGIN_OPERATIONS &
  typeof PIN_OPERATIONS &
  typeof UPKEEP_OPERATIONS &
  typeof WEBHOOK_OPERATIONS &
  typeof BACKUP_OPERATIONS &
  typeof OPENAPI_OPERATIONS &
  typeof GRANT_OPERATIONS &
  typeof ROOM_OPERATIONS &
  typeof KEY_OPERATIONS &
  typeof EXPERIMENT_OPERATIONS;

export const ADMIN_OPERATIONS: Table = {
  ...BLOB_OPERATIONS,
  ...VERSION_OPERATIONS,
  ...PLAN_OPERATIONS,
  ...NAME_OPERATIONS,
  ...CHANGE_OPERATIONS,
  ...ABOUT_OPERATIONS,
  ...REMOVAL_OPERATIONS,
  ...ERASE_OPERATIONS,
  ...DOWNLOAD_OPERATIONS,
  ...HISTORY_OPERATIONS,
  ...TRIAL_OPERATIONS,
  ...EVALUATION_OPERATIONS,
  ...TENANT_OPERATIONS,
  ...USAGE_OPERATIONS,
  ...TRAFFIC_OPERATIONS,
  ...PROMPT_OPERATIONS,
  ...IMPROVEMENT_OPERATIONS,
  ...ORIGIN_OPERATIONS,
  ...PIN_OPERATIONS,
  ...UPKEEP_OPERATIONS,
  ...WEBHOOK_OPERATIONS,
  ...BACKUP_OPERATIONS,
  ...OPENAPI_OPERATIONS,
  ...GRANT_OPERATIONS,
  ...ROOM_OPERATIONS,
  ...KEY_OPERATIONS,
  ...EXPERIMENT_OPERATIONS,
};

/** `POST /admin/retire`. */
export type AdminRoute = keyof Table;

export const ADMIN_ROUTES = Object.keys(ADMIN_OPERATIONS) as AdminRoute[];

type Sent<Schema> = Schema extends z.ZodType ? z.input<Schema> : Schema extends 'bytes' ? Uint8Array : null;
type Parsed<Schema> = Schema extends z.ZodType ? z.output<Schema> : null;
type Answered<Schema> = Schema extends z.ZodType
  ? z.output<Schema>
  : Schema extends 'object'
    ? Record<string, unknown>
    : null;
type InAnswers<Answers> = Answers[keyof Answers] extends { schema: infer Schema } ? Schema : never;

type ParamOf<Path extends string> = Path extends `${string}/:${infer Name}/${infer Rest}`
  ? Name | ParamOf<`/${Rest}`>
  : Path extends `${string}/:${infer Name}`
    ? Name
    : never;

/** Path parameters, by name. */
export type ParamsOf<Route extends AdminRoute> = Readonly<Record<ParamOf<Route>, string>>;
/** Body as a client sends it: fields with a default may be omitted … */
export type RequestOf<Route extends AdminRoute> = Sent<Table[Route]['request']>;
/** … and as the edge has parsed it. */
export type ParsedRequestOf<Route extends AdminRoute> = Parsed<Table[Route]['request']>;
/** Query, as a client sends it. */
export type QueryOf<Route extends AdminRoute> = Sent<Table[Route]['query']>;
/** … and as the edge has parsed it. */
export type ParsedQueryOf<Route extends AdminRoute> = Parsed<Table[Route]['query']>;
/** A client's view of a successful answer; null = no body. */
export type AnswerOf<Route extends AdminRoute> = Answered<InAnswers<Table[Route]['answers']>>;

type Given<Name extends string, Value> = [Value] extends [null]
  ? unknown
  : Partial<Value> extends Value
    ? { readonly [Key in Name]?: Value }
    : { readonly [Key in Name]: Value };

/** What a client passes to a call: path parameters, query and body, if the operation has them. */
export type CallOf<Route extends AdminRoute> = Given<'query', QueryOf<Route>> &
  Given<'body', RequestOf<Route>> &
  ([ParamOf<Route>] extends [never] ? unknown : { readonly params: ParamsOf<Route> });

/** … of any operation. */
export interface AnyCall extends RouteParameters {
  readonly body?: unknown;
}

export const adminOperation = (route: AdminRoute): AdminOperation => ADMIN_OPERATIONS[route];

/** @returns `POST` and `/admin/keys/:id`. */
export function splitRoute(route: string): { method: string; path: string } {
  const [method = '', path = ''] = route.split(' ');
  return { method, path };
}

/** Values for the parameters of a route's path and query; null and undefined are omitted. */
export interface RouteParameters {
  readonly params?: Readonly<Record<string, string>> | undefined;
  readonly query?: Readonly<Record<string, string | null | undefined>> | undefined;
}

/** @returns the path with its parameters filled in, and the query, such as `/admin/keys/key_1?report=true`. */
export function operationPath(route: AdminRoute, { params = {}, query }: RouteParameters = {}): string {
  const path = splitRoute(route).path.replaceAll(/:(\w+)/g, (_, name: string) =>
    encodeURIComponent(params[name] ?? ''),
  );
  const given = Object.entries(query ?? {}).flatMap(([name, value]): [string, string][] =>
    value == null ? [] : [[name, value]],
  );
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
}

/** @returns the schema of a successful answer, by its status; for unknown statuses, the first. */
export function answerSchema(route: AdminRoute, status: number): AdminAnswer['schema'] {
  const { answers } = adminOperation(route);
  const known = Object.entries(answers).find(([code]) => Number(code) === status);
  return (known ?? Object.entries(answers)[0])?.[1]?.schema ?? null;
}
