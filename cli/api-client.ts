import { z } from 'zod';
import { CliError, EXIT, type ExitCode } from './cli-error.ts';
import { isThisMachine } from './connection.ts';
import { setTimeout as wait } from 'node:timers/promises';
import {
  answerSchema,
  operationPath,
  splitRoute,
  type AdminRoute,
  type AnswerOf,
  type AnyCall,
  type CallOf,
} from '../protocol/admin-api/operations.ts';

const ErrorBody = z.object({
  error: z.object({
    message: z.string(),
    code: z.string().nullish(),
    reason: z.string().optional(),
    missing: z.array(z.string()).optional(),
  }),
});

const EXIT_OF_STATUS: Record<number, ExitCode> = {
  401: EXIT.auth,
  403: EXIT.auth,
  404: EXIT.notFound,
  409: EXIT.refused,
  422: EXIT.refused,
  429: EXIT.unavailable,
  503: EXIT.unavailable,
};

/** @param isAdmin the request was for the admin API. @returns the command that follows a code of the server's, or null. */
function nextAfter(code: string, isAdmin: boolean): string | null {
  switch (code) {
    case 'invalid_api_key':
      return isAdmin ? 'graft login --admin' : 'graft login';
    case 'model_not_found':
      return 'graft ls';
    case 'origin_unavailable':
      return 'graft ps';
    default:
      return null;
  }
}

/** @returns the failure of an unsuccessful response, in the server's own words. */
async function responseError(response: Response, what: string, isAdmin: boolean): Promise<CliError> {
  const text = await response.text().catch(() => '');
  let message = `the server answered ${response.status}`;
  let code = `http_${response.status}`;
  let reason: string | null = null;
  try {
    const { error } = ErrorBody.parse(JSON.parse(text));
    message = error.reason === undefined ? error.message : `${error.message} (${error.reason})`;
    code = error.code ?? code;
    reason = error.reason ?? null;
  } catch {
    // A proxy's own page, or no body: only the status is known.
  }
  const retryAfter = response.headers.get('retry-after');
  const hint =
    response.status === 401
      ? ' Check GRAFT_KEY and GRAFT_ADMIN_KEY, log in, or run the command where `graft dev` runs.'
      : retryAfter !== null
        ? ` Try again in ${retryAfter} s.`
        : '';
  return new CliError({
    message: `${what}: ${message}${hint}`,
    exitCode: EXIT_OF_STATUS[response.status] ?? EXIT.error,
    code,
    reason,
    next: nextAfter(code, isAdmin),
  });
}

export interface ApiClient {
  readonly url: string;
  /** @returns the successful response. @throws CliError otherwise. */
  send(what: string, pathAndQuery: string, init?: RequestInit): Promise<Response>;
  /** Like `send`, but also returns responses with a status in `accept`. */
  sendAccepting(
    what: string,
    pathAndQuery: string,
    init: RequestInit,
    accept: readonly number[],
  ): Promise<Response>;
}

/** @param key sent as Bearer; none for an origin in `--dev`. @param fetchFn given by tests. */
export function createApiClient(params: {
  url: string;
  key: string | undefined;
  fetchFn?: typeof fetch;
}): ApiClient {
  const { url, key, fetchFn = fetch } = params;
  const sendAccepting: ApiClient['sendAccepting'] = async (what, pathAndQuery, init, accept) => {
    const headers = new Headers(init.headers);
    if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
    if (typeof init.body === 'string' && !headers.has('content-type'))
      headers.set('content-type', 'application/json');
    let response: Response;
    try {
      response = await fetchFn(url + pathAndQuery, { ...init, headers, redirect: 'manual' });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      const cause =
        error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : '';
      throw new CliError({
        message: `${what}: no answer from ${url} (${cause}). Check that the server runs, or correct GRAFT_URL.`,
        exitCode: EXIT.unavailable,
        code: 'no_answer',
        next: isThisMachine(new URL(url)) ? 'graft dev' : null,
      });
    }
    if (!response.ok && !accept.includes(response.status))
      throw await responseError(response, what, pathAndQuery.startsWith('/admin/'));
    return response;
  };
  return {
    url,
    send: (what, pathAndQuery, init = {}) => sendAccepting(what, pathAndQuery, init, []),
    sendAccepting,
  };
}

/** Attempts in total: longer outages are not hiccups, and the command can be repeated. */
const MAX_TRIES = 4;
const FIRST_WAIT_MS = 500;
/** Longest pause that a server can ask for; beyond it, the error names the time. */
const MAX_WAIT_MS = 30_000;

/** Busy or failing for the moment; the same request may succeed later. */
const PASSING = [429, 500, 502, 503, 504];

export interface Retrying {
  readonly signal?: AbortSignal | undefined;
  /** Called before each pause. @param reason why, such as `503`. */
  readonly onWait?: (ms: number, reason: string) => void;
  /** Given by tests. */
  readonly sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

const sleepWell = async (ms: number, signal: AbortSignal | undefined): Promise<void> => {
  await wait(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    throw signal?.reason ?? error;
  });
};

/** @returns the milliseconds that the server asks for, or null. */
function askedWait(response: Response): number | null {
  const exact = Number(response.headers.get('retry-after-ms') ?? NaN);
  if (Number.isFinite(exact)) return Math.max(0, exact);
  // The header's other form, a date, is never sent by our servers.
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  return Number.isFinite(seconds) ? Math.max(0, 1_000 * seconds) : null;
}

/**
 * Sends a request that may be repeated safely, with retries.
 * @returns the successful response. @throws CliError the last failure.
 */
export async function sendRetrying(
  client: ApiClient,
  what: string,
  pathAndQuery: string,
  init: RequestInit,
  retrying: Retrying = {},
): Promise<Response> {
  const { signal, onWait, sleep = sleepWell } = retrying;
  const withSignal = signal === undefined ? init : { ...init, signal };
  for (let tries = 1; ; tries++) {
    const last = tries === MAX_TRIES;
    let pause = FIRST_WAIT_MS * 2 ** (tries - 1);
    let reason: string;
    try {
      const response = await client.sendAccepting(what, pathAndQuery, withSignal, last ? [] : PASSING);
      if (response.ok) return response;
      const asked = askedWait(response);
      if (asked !== null && asked > MAX_WAIT_MS)
        throw await responseError(response, what, pathAndQuery.startsWith('/admin/'));
      pause = Math.max(pause, asked ?? 0);
      reason = `the server answered ${response.status}`;
      await response.body?.cancel();
    } catch (error) {
      if (last || signal?.aborted || !(error instanceof CliError) || error.code !== 'no_answer') throw error;
      reason = 'no answer';
    }
    onWait?.(pause, reason);
    await sleep(pause, signal);
  }
}

/** Options of a call. */
export interface CallHow<Answer> {
  /** The schema of the answer, if it is narrower than the table's. */
  readonly as?: z.ZodType<Answer>;
  /** The request may be repeated safely, so it is retried. */
  readonly retrying?: Retrying | undefined;
}

/**
 * Calls an operation of the admin API.
 * @param what for errors, such as `promote a@2`.
 * @returns the answer, parsed with the operation's schema. @throws CliError; ZodError when the answer does not
 * match.
 */
export async function callOperation<Route extends AdminRoute, Answer = AnswerOf<Route>>(
  client: ApiClient,
  what: string,
  route: Route,
  call: CallOf<Route> & CallHow<Answer>,
): Promise<Answer> {
  return (await callWithStatus(client, what, route, call)).answer;
}

/** The same, with the status, for operations where it matters: 201 = created. */
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
  // It was parsed with the schema that its type is derived from.
  const answer = (schema === 'object' ? json : schema.parse(json)) as Answer;
  return { status: response.status, answer };
}

/**
 * All pages of a list.
 * @param query of each page, except the cursor. @param items picks the entries of a page. @throws CliError
 */
export async function callPages<Route extends AdminRoute, Item>(
  client: ApiClient,
  what: string,
  route: Route,
  query: Readonly<Record<string, string | undefined>>,
  items: (page: AnswerOf<Route>) => readonly Item[],
): Promise<Item[]> {
  const found: Item[] = [];
  for (let cursor: string | null = null; ;) {
    // TypeScript cannot see that this route has a cursor.
    const call = { query: { ...query, cursor } } as unknown as CallOf<Route> & CallHow<AnswerOf<Route>>;
    const page = await callOperation(client, what, route, call);
    found.push(...items(page));
    ({ cursor } = page as { cursor: string | null });
    if (cursor === null) return found;
  }
}

const bodyInit = (body: unknown): RequestInit =>
  body instanceof Uint8Array
    ? {
        body: body as Uint8Array<ArrayBuffer>,
        headers: { 'content-type': 'application/octet-stream' },
      }
    : { body: JSON.stringify(body) };
