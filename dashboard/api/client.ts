import type { z } from 'zod';
import type { KeyView } from '../../protocol/admin-api/keys.ts';
import type { NameView } from '../../protocol/admin-api/names.ts';
import {
  type AdminRoute,
  type AnswerOf,
  answerSchema,
  type AnyCall,
  type CallOf,
  operationPath,
  splitRoute,
} from '../../protocol/admin-api/operations.ts';
import { joinUsage, type UsageGroup, type UsageReport } from '../../protocol/admin-api/tenants.ts';
import type { WebhookView } from '../../protocol/admin-api/webhooks.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import {
  jsonOf,
  noAnswer,
  oddAnswer,
  type Problem,
  problemOf,
  tooLate,
  unsendableKey,
} from '../model/problem.ts';
import { createStore } from '../model/store.ts';

/** Operations whose answers are JSON with a known schema. */
type PageRoute = Exclude<
  Extract<AdminRoute, `GET ${string}` | `POST ${string}` | `DELETE ${string}`>,
  'GET /admin/openapi.json' | BytesRoute
>;
/** Operations that send or return bytes. */
type BytesRoute = 'PUT /admin/blobs/:digest/parts/:index' | 'GET /admin/downloads/parts/:index';

export interface Client {
  /** @param call.as a narrower schema than the operation's. */
  call<Route extends PageRoute, Answer = AnswerOf<Route>>(
    route: Route,
    call: CallOf<Route> & { readonly as?: z.ZodType<Answer> },
  ): Promise<Result<Answer, Problem>>;
  /** @returns the bytes of the answer; null if it is JSON. */
  bytes<Route extends BytesRoute>(route: Route, call: CallOf<Route>): Promise<Result<ArrayBuffer, Problem>>;
  /** Paths outside the admin API. @param path with its query. */
  get<T>(path: string, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
  /** @param body JSON, unless it is a form. */
  post<T>(path: string, body: unknown, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
}

/** Reads are aborted then: a browser has six connections to the edge, and hanging ones block them. */
const READ_WITHIN_MS = 60_000;

/**
 * @param key sent in a header, never in an address; null before the sign-in. @param fetch default: the page's.
 */
export function createClient(key: string | null, fetch: typeof globalThis.fetch = globalThis.fetch): Client {
  async function exchange(
    path: string,
    init: RequestInit,
    isLarge = false,
  ): Promise<Result<{ status: number; body: ArrayBuffer }, Problem>> {
    if (key !== null && !/^[\x21-\x7e]+$/.test(key)) return err(unsendableKey());
    const headers = {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(typeof init.body === 'string' ? { 'content-type': 'application/json' } : {}),
    };
    const late = new AbortController();
    const timer =
      init.method === 'GET' && !isLarge ? setTimeout(() => late.abort(), READ_WITHIN_MS) : undefined;
    try {
      const { signal } = late;
      const response = await fetch(path, {
        ...init,
        headers,
        cache: 'no-store',
        credentials: 'omit',
        signal,
      });
      const { status } = response;
      const body = await response.arrayBuffer();
      reported(true);
      return status < 200 || status > 299 ? err(problemOf(status, textOf(body))) : ok({ status, body });
    } catch {
      if (late.signal.aborted) return err(tooLate());
      reported(false);
      return err(noAnswer());
    } finally {
      clearTimeout(timer);
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
    // An answer without a body has the type null.
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
      // The answer's type is derived from this schema.
      const schemaOf = (status: number) => as ?? (answerSchema(route, status) as z.ZodType<Answer> | null);
      return send(operationPath(route, where), init, schemaOf);
    },
    async bytes(route, call) {
      const { body, ...where } = call as AnyCall & { readonly body?: Uint8Array<ArrayBuffer> };
      const init = { method: splitRoute(route).method, ...(body === undefined ? {} : { body }) };
      const answer = await exchange(operationPath(route, where), init, true);
      return answer.ok ? ok(answer.value.body) : answer;
    },
    get: (path, schema) => send(path, { method: 'GET' }, () => schema),
    post: (path, body, schema) =>
      send(
        path,
        { method: 'POST', body: body instanceof FormData ? body : JSON.stringify(body) },
        () => schema,
      ),
  };
}

const textOf = (body: ArrayBuffer): string => new TextDecoder().decode(body);

/** Names, or keys, that are read at once, in five requests: enough for nearly every tenant, searched in milliseconds. */
const READ_AT_ONCE = 5_000;

export interface Found<Entry> {
  readonly entries: readonly Entry[];
  /** There are more. */
  readonly cut: boolean;
}
export type FoundNames = Found<NameView>;

async function readPages<Page extends { cursor: string | null }, Entry>(
  ask: (cursor: string | null) => Promise<Result<Page, Problem>>,
  entriesOf: (page: Page) => readonly Entry[],
  most = READ_AT_ONCE,
): Promise<Result<Found<Entry>, Problem>> {
  const entries: Entry[] = [];
  for (let cursor: string | null = null; ;) {
    const page: Result<Page, Problem> = await ask(cursor);
    if (!page.ok) return page;
    entries.push(...entriesOf(page.value));
    ({ cursor } = page.value);
    if (cursor === null || entries.length >= most) return ok({ entries, cut: cursor !== null });
  }
}

/** @param prefix what the names begin with. */
export const readNames = (client: Client, prefix = ''): Promise<Result<FoundNames, Problem>> =>
  readPages(
    (cursor) => client.call('GET /admin/names', { query: { prefix, cursor } }),
    ({ names }) => names,
  );

/** The newest changes of a name, newest first: enough to know which versions were live. */
export const readChanges = (client: Client, name: string) =>
  client.call('GET /admin/history', { query: { name, limit: '200' } });

/** Newest first. */
export const readKeys = (client: Client): Promise<Result<Found<KeyView>, Problem>> =>
  readPages(
    (cursor) => client.call('GET /admin/keys', { query: { cursor } }),
    ({ keys }) => keys,
  );

/** The operator's first. */
export const readWebhooks = (client: Client): Promise<Result<Found<WebhookView>, Problem>> =>
  readPages(
    (cursor) => client.call('GET /admin/webhooks', { query: { cursor } }),
    ({ webhooks }) => webhooks,
  );

/** Pages of a report that are read at once: some 100,000 rows of usage. */
const USAGE_PAGES = 20;

/** The report's cursor is not null if there are more pages than the console reads. */
export async function readUsage(
  client: Client,
  query: { by: UsageGroup; from?: string; to?: string; tenant?: string },
): Promise<Result<UsageReport, Problem>> {
  const pages = await readPages(
    (cursor) => client.call('GET /admin/usage', { query: { ...query, cursor } }),
    (page) => [page],
    USAGE_PAGES,
  );
  return pages.ok ? ok(joinUsage(pages.value.entries)) : pages;
}

/**
 * Whether the edge answers, according to the page's last request: unix ms of the first request without an
 * answer; null = the last one was answered.
 */
export const unreachedSince = createStore<number | null>(null);

let answeredOnce = false;
/** Whether the edge has answered since this page was loaded. */
export const hasAnswered = (): boolean => answeredOnce;

function reported(answered: boolean, now = Date.now()): void {
  answeredOnce ||= answered;
  const since = unreachedSince.get();
  if (answered !== (since === null)) unreachedSince.set(answered ? null : now);
}
