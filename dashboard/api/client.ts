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
import { jsonOf, noAnswer, oddAnswer, problemOf, unsendableKey, type Problem } from '../model/problem.ts';

/** Operations that are answered with JSON of a shape that the page knows. */
type PageRoute = Exclude<Extract<AdminRoute, `GET ${string}` | `POST ${string}`>, 'GET /admin/openapi.json'>;

export interface Client {
  /** @param call.as what the answer has to be, where that is narrower than the operation's. */
  call<Route extends PageRoute, Answer = AnswerOf<Route>>(
    route: Route,
    call: CallOf<Route> & { readonly as?: z.ZodType<Answer> },
  ): Promise<Result<Answer, Problem>>;
  /** What is not of the admin API. @param path with its query. */
  get<T>(path: string, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
  post<T>(path: string, body: unknown, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
}

/** @param key goes into a header, never into an address; null for who has none yet. @param fetch the page's unless given. */
export function createClient(key: string | null, fetch: typeof globalThis.fetch = globalThis.fetch): Client {
  async function send<T>(
    path: string,
    init: RequestInit,
    schemaOf: (status: number) => z.ZodType<T>,
  ): Promise<Result<T, Problem>> {
    if (key !== null && !/^[\x21-\x7e]+$/.test(key)) return err(unsendableKey());
    const headers = {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(init.body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    let status: number;
    let text: string;
    try {
      const response = await fetch(path, { ...init, headers, cache: 'no-store', credentials: 'omit' });
      status = response.status;
      text = await response.text();
    } catch {
      return err(noAnswer());
    }
    if (status < 200 || status > 299) return err(problemOf(status, text));
    const parsed = schemaOf(status).safeParse(jsonOf(text));
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
      const schemaOf = (status: number) => as ?? (answerSchema(route, status) as z.ZodType<Answer>);
      return send(operationPath(route, where), init, schemaOf);
    },
    get: (path, schema) => send(path, { method: 'GET' }, () => schema),
    post: (path, body, schema) => send(path, { method: 'POST', body: JSON.stringify(body) }, () => schema),
  };
}
