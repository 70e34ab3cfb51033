import type { z } from 'zod';
import {
  answerSchema,
  operationPath,
  splitRoute,
  type AdminRoute,
  type AnswerOf,
  type AnyCall,
  type CallOf,
} from '../../protocol/admin-api/operations.ts';
import { err, ok, type Result } from '../../protocol/result.ts';
import { reported } from './reach.ts';
import { jsonOf, noAnswer, oddAnswer, problemOf, unsendableKey, type Problem } from '../model/problem.ts';

/** Operations that are answered with JSON of a shape that the page knows. */
type PageRoute = Exclude<
  Extract<AdminRoute, `GET ${string}` | `POST ${string}` | `DELETE ${string}`>,
  'GET /admin/openapi.json' | BytesRoute
>;
/** Those that take, or are answered with, bytes. */
type BytesRoute = 'PUT /admin/blobs/:digest/parts/:index' | 'GET /admin/downloads/parts/:index';

export interface Client {
  /** @param call.as what the answer has to be, where that is narrower than the operation's. */
  call<Route extends PageRoute, Answer = AnswerOf<Route>>(
    route: Route,
    call: CallOf<Route> & { readonly as?: z.ZodType<Answer> },
  ): Promise<Result<Answer, Problem>>;
  /** @returns bytes of the answer, which is none of JSON where they were sent. */
  bytes<Route extends BytesRoute>(route: Route, call: CallOf<Route>): Promise<Result<ArrayBuffer, Problem>>;
  /** What is not of the admin API. @param path with its query. */
  get<T>(path: string, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
  post<T>(path: string, body: unknown, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
}

/** @param key goes into a header, never into an address; null for who has none yet. @param fetch the page's unless given. */
export function createClient(key: string | null, fetch: typeof globalThis.fetch = globalThis.fetch): Client {
  async function exchange(
    path: string,
    init: RequestInit,
  ): Promise<Result<{ status: number; body: ArrayBuffer }, Problem>> {
    if (key !== null && !/^[\x21-\x7e]+$/.test(key)) return err(unsendableKey());
    const headers = {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(typeof init.body === 'string' ? { 'content-type': 'application/json' } : {}),
    };
    try {
      const response = await fetch(path, { ...init, headers, cache: 'no-store', credentials: 'omit' });
      const { status } = response;
      const body = await response.arrayBuffer();
      reported(true);
      return status < 200 || status > 299 ? err(problemOf(status, textOf(body))) : ok({ status, body });
    } catch {
      reported(false);
      return err(noAnswer());
    }
  }
  async function send<T>(
    path: string,
    init: RequestInit,
    schemaOf: (status: number) => z.ZodType<T> | null,
  ): Promise<Result<T, Problem>> {
    const answer = await exchange(path, init);
    if (!answer.ok) return answer;
    const { status, body } = answer.value;
    const schema = schemaOf(status);
    // An answer without a body, whose type is null.
    if (schema === null) return ok(null as T);
    const parsed = schema.safeParse(jsonOf(textOf(body)));
    return parsed.success ? ok(parsed.data) : err(oddAnswer(path));
  }
  return {
    call<Route extends PageRoute, Answer = AnswerOf<Route>>(
      route: Route,
      call: CallOf<Route> & { readonly as?: z.ZodType<Answer> },
    ) {
      const { body, as, ...where } = call as AnyCall & { readonly as?: z.ZodType<Answer> };
      const init = {
        method: splitRoute(route).method,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      };
      // The type of the answer is made of this schema.
      const schemaOf = (status: number) => as ?? (answerSchema(route, status) as z.ZodType<Answer> | null);
      return send(operationPath(route, where), init, schemaOf);
    },
    async bytes(route, call) {
      const { body, ...where } = call as AnyCall & { readonly body?: Uint8Array<ArrayBuffer> };
      const init = { method: splitRoute(route).method, ...(body === undefined ? {} : { body }) };
      const answer = await exchange(operationPath(route, where), init);
      return answer.ok ? ok(answer.value.body) : answer;
    },
    get: (path, schema) => send(path, { method: 'GET' }, () => schema),
    post: (path, body, schema) => send(path, { method: 'POST', body: JSON.stringify(body) }, () => schema),
  };
}

const textOf = (body: ArrayBuffer): string => new TextDecoder().decode(body);
