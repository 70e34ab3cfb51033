import type { z } from 'zod';
import {
  answerSchema,
  operationPath,
  splitRoute,
  type AdminRoute,
  type AnswerOf,
  type AnyCall,
  type CallOf,
} from '../protocol/index.ts';
import type { ApiClient } from './api-client.ts';
import { sendRetrying, type Retrying } from './publish/send-retrying.ts';

/** How an operation is called. */
export interface CallHow<Answer> {
  /** What the answer has to be, where that is narrower than the table's. */
  readonly as?: z.ZodType<Answer>;
  /** It may be repeated safely, and is, a few times if need be. */
  readonly retrying?: Retrying | undefined;
}

/**
 * Calls an operation of the admin API.
 * @param what for errors, such as `promote a@2`.
 * @returns the answer, as the operation's schema has it. @throws CliError; ZodError when the answer is something else.
 */
export async function callOperation<Route extends AdminRoute, Answer = AnswerOf<Route>>(
  client: ApiClient,
  what: string,
  route: Route,
  call: CallOf<Route> & CallHow<Answer>,
): Promise<Answer> {
  return (await callWithStatus(client, what, route, call)).answer;
}

/** The same, with the status, where that says something: 201 = it is new. */
export async function callWithStatus<Route extends AdminRoute, Answer = AnswerOf<Route>>(
  client: ApiClient,
  what: string,
  route: Route,
  call: CallOf<Route> & CallHow<Answer>,
): Promise<{ status: number; answer: Answer }> {
  const { body, as, retrying, ...where } = call as AnyCall & CallHow<Answer>;
  const path = operationPath(route, where);
  const { method } = splitRoute(route);
  const init = method === 'GET' ? {} : { method, ...(body === undefined ? {} : bodyInit(body)) };
  const response = await (retrying === undefined
    ? client.send(what, path, init)
    : sendRetrying(client, what, path, init, retrying));
  const schema = as ?? answerSchema(route, response.status);
  if (schema === null || schema === 'bytes' || response.status === 204) {
    await response.body?.cancel();
    return { status: response.status, answer: null as Answer };
  }
  const json: unknown = await response.json();
  // It was parsed with the schema that its type is made of.
  const answer = (schema === 'object' ? json : schema.parse(json)) as Answer;
  return { status: response.status, answer };
}

const bodyInit = (body: unknown): RequestInit =>
  body instanceof Uint8Array
    ? {
        body: body as Uint8Array<ArrayBuffer>,
        headers: { 'content-type': 'application/octet-stream' },
      }
    : { body: JSON.stringify(body) };
