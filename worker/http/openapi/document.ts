/** The API as an OpenAPI 3.1 document, made from the operations and schemas that the routes are made from. */
import { z } from 'zod';
import {
  ADMIN_ROUTES,
  adminOperation,
  type AdminAnswer,
  type AdminOperation,
  type AdminRoute,
} from '../../../protocol/index.ts';
import { routePath, adminRoute } from '../admin-route.ts';
import { ANSWERS } from './answers.ts';
import { BODIES } from './bodies.ts';
import { CLIENT_OPERATIONS, type Operation, type OperationAnswer } from './client-operations.ts';
import { Hono } from 'hono';
import type { AppEnv } from '../request-scope.ts';

type JsonSchema = Record<string, unknown>;

const how = {
  unrepresentable: 'any',
  /** zod says a date's format twice, the second time in half a kilobyte of pattern. */
  override({ jsonSchema }) {
    if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
  },
} satisfies z.core.ToJSONSchemaParams;

const uri = (id: string): string => `#/components/schemas/${id}`;

/**
 * Checks that JSON Schema has no words for (a name's syntax, weights that sum to 1) are left out: what the schema refuses
 * the route refuses, and the route refuses more.
 */
function schemasOf(named: Record<string, z.ZodType>, io: 'input' | 'output'): Record<string, JsonSchema> {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { uri, io, ...how });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema]),
  );
}

/** `components.schemas` of the document. */
const componentSchemas = (): Record<string, JsonSchema> => ({
  ...schemasOf(BODIES, 'input'),
  ...schemasOf(ANSWERS, 'output'),
});

/** One schema as it is sent, in place. */
function inlineSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', ...how });
  return json;
}

/** Of the package. */
export const API_VERSION = '0.1.0';

type Json = Record<string, unknown>;

const named = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });

/** For whoever has an admin key; it tells nothing of what is stored. */
export function openApiDocument(): Json {
  const paths: Record<string, Json> = {};
  const add = (route: string, describe: (path: ParsedPath) => Json): void => {
    const [method = '', raw = ''] = route.split(' ');
    const path = parsePath(raw);
    (paths[path.template] ??= {})[method.toLowerCase()] = describe(path);
  };
  for (const [route, operation] of Object.entries(CLIENT_OPERATIONS))
    add(route, (path) => clientOperation(operation, path));
  for (const route of ADMIN_ROUTES)
    add(`${route.split(' ')[0]} ${routePath(route)}`, (path) => adminOperationObject(route, path));
  const bearer = (description: string) => ({ type: 'http', scheme: 'bearer', description });
  return {
    openapi: '3.1.1',
    info: {
      title: 'graft',
      version: API_VERSION,
      description: 'What the edge takes and answers.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: componentSchemas(),
      responses: {
        Error: {
          description: 'What went wrong.',
          content: { 'application/json': { schema: named('Error') } },
        },
      },
      securitySchemes: {
        adminKey: bearer("An admin key, `ga_…`, or the operator's bootstrap key."),
        apiKey: bearer('An API key, `gk_…`.'),
        downloadKey: bearer('A download token, `gd_v1.…`.'),
      },
    },
  };
}

function clientOperation(operation: Operation, path: ParsedPath): Json {
  const { key, body, query, headers = {}, answers } = operation;
  return operationObject(operation, {
    key,
    parameters: [
      ...pathParameters(path, {}),
      ...(query === undefined ? [] : queryParameters(query)),
      ...headerParameters(headers),
    ],
    body: body === undefined ? null : jsonContent(named(body)),
    answers: mapValues(answers, clientAnswer),
  });
}

function adminOperationObject(route: AdminRoute, path: ParsedPath): Json {
  const operation = adminOperation(route);
  const { request, query, answers } = operation;
  return operationObject(operation, {
    key: 'admin',
    parameters: [
      ...pathParameters(path, { ...operation.params, ...operation.ids }),
      ...(query === null ? [] : queryParameters(query)),
    ],
    body: request === null ? null : bodyContent(request),
    answers: mapValues(answers, adminAnswer),
  });
}

function operationObject(
  { id, tag, summary, description }: Pick<Operation, 'id' | 'tag' | 'summary' | 'description'>,
  parts: { key: 'admin' | Operation['key']; parameters: Json[]; body: Json | null; answers: Json },
): Json {
  const { key, parameters, body, answers } = parts;
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    security: key === 'none' ? [] : [{ [`${key}Key`]: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === null ? {} : { requestBody: { required: true, content: body } }),
    responses: { ...answers, default: { $ref: '#/components/responses/Error' } },
  };
}

const mapValues = <T>(values: Readonly<Record<string, T>>, map: (value: T) => Json): Json =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, map(value)]));

const jsonContent = (schema: JsonSchema): Json => ({ 'application/json': { schema } });

const bodyContent = (request: NonNullable<AdminOperation['request']>): Json =>
  request === 'bytes' ? { 'application/octet-stream': {} } : jsonContent(schemaObject(request, BODIES));

/** By its name, where it has one. */
function schemaObject(schema: z.ZodType, names: Readonly<Record<string, z.ZodType>>): JsonSchema {
  const name = Object.keys(names).find((one) => names[one] === schema);
  return name === undefined ? inlineSchema(schema) : named(name);
}

function answerContent(schema: NonNullable<AdminAnswer['schema']>): Json {
  if (schema === 'bytes') return { 'application/octet-stream': {} };
  return jsonContent(schema === 'object' ? { type: 'object' } : schemaObject(schema, ANSWERS));
}

const adminAnswer = ({ description, schema }: AdminAnswer): Json => ({
  description,
  ...(schema === null ? {} : { content: answerContent(schema) }),
});

const clientAnswer = ({ description, schema, body, bytes, headers }: OperationAnswer): Json => ({
  description,
  ...(headers === undefined
    ? {}
    : { headers: mapValues(headers, (text) => ({ description: text, schema: { type: 'string' } })) }),
  content: {
    ...(bytes === true ? { 'application/octet-stream': {} } : {}),
    ...(bytes === true ? {} : jsonContent(schema === undefined ? { type: 'object' } : named(schema))),
    ...(body === undefined ? {} : { [body]: { schema: { type: 'string' } } }),
  },
});

interface PathParameter {
  name: string;
  /** What the route takes, where it says so. */
  pattern: string | null;
}

interface ParsedPath {
  /** As OpenAPI writes it, `/admin/keys/{id}`. */
  template: string;
  parameters: PathParameter[];
}

/** @param path as the app has it: `:id`, `:index{[0-9]{1,4}}`, and a `*` at the end for a name. */
export function parsePath(path: string): ParsedPath {
  const parameters: PathParameter[] = [];
  const segments = path.split('/').map((segment) => {
    const match = segment === '*' ? ['', 'name'] : /^:(\w+)(?:\{(.+)\})?$/.exec(segment);
    if (match === null) return segment;
    const [, name = '', pattern] = match;
    parameters.push({ name, pattern: pattern === undefined ? null : `^${pattern}$` });
    return `{${name}}`;
  });
  return { template: segments.join('/'), parameters };
}

export const pathParameters = (
  { parameters }: ParsedPath,
  schemas: Record<string, z.ZodType>,
): Record<string, unknown>[] =>
  parameters.map(({ name, pattern }) => {
    const schema = schemas[name];
    const text = { type: 'string', ...(pattern === null ? {} : { pattern }) };
    return { name, in: 'path', required: true, schema: schema === undefined ? text : inlineSchema(schema) };
  });

export function queryParameters(query: z.ZodObject): Record<string, unknown>[] {
  const { properties = {}, required = [] } = inlineSchema(query) as {
    properties?: Record<string, JsonSchema>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema: asSent(schema),
  }));
}

const headerParameters = (headers: Record<string, string>): Record<string, unknown>[] =>
  Object.entries(headers).map(([name, description]) => ({
    name,
    in: 'header',
    required: false,
    description,
    schema: { type: 'string' },
  }));

/** A query has no null: it is how the route says that the parameter was not there. */
function asSent({ default: preset, anyOf, ...schema }: JsonSchema): JsonSchema {
  const choices = (anyOf as JsonSchema[] | undefined)?.filter(({ type }) => type !== 'null');
  return {
    ...schema,
    ...(choices === undefined ? {} : choices.length === 1 ? choices[0] : { anyOf: choices }),
    ...(preset === undefined || preset === null ? {} : { default: preset }),
  };
}

/** `GET /admin/openapi.json` -> the API as an OpenAPI 3.1 document. */
export function adminOpenApiRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  // Made once, when somebody asks: it takes tens of milliseconds.
  let document: object | undefined;
  adminRoute(routes, 'GET /admin/openapi.json', ({ context }) =>
    context.json((document ??= openApiDocument())),
  );
  return routes;
}
