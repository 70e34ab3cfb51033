import type { ExecutionContext } from 'hono';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import type { DetokenizeAnswer, EmbeddingList, TokenizeAnswer } from '../../protocol/embed-tokenize.ts';
import type { ClassifyAnswer, RerankAnswer, ScoreAnswer } from '../../protocol/classify.ts';
import type { CountTokensAnswer } from '../../protocol/messages.ts';
import { ANSWER_PARAMETER, VerifyRequest, type VerifyAnswer } from '../../protocol/origin-wire.ts';
import type { InputTokensAnswer } from '../../protocol/responses.ts';
import { parseSigningKeys } from '../../protocol/signature.ts';
import type { GrantLedger } from '../../worker/access/d1-grants.ts';
import type { RightsWriter } from '../../worker/access/ports.ts';
import type { KeyLedger } from '../../worker/access/d1-key-ledger.ts';
import { createApp } from '../../worker/app.ts';
import type { ResponseCache } from '../../worker/platform/location-cache.ts';
import type { Gatherers } from '../../worker/gathering/ports.ts';
import { type Services, createParts, type Stores } from '../../worker/parts.ts';
import type { BlobLedger } from '../../worker/blobs/d1-blob-ledger.ts';
import type { Drops } from '../../worker/kv-inbox/take-drops.ts';
import type { Config } from '../../worker/env.ts';
import type { ExperimentLedger, ExperimentTallies } from '../../worker/experiments/ports.ts';
import type { Observer } from '../../worker/http/request.ts';
import type { Origin } from '../../worker/origins/routing.ts';
import type { Fetch } from '../../worker/origins/connection.ts';
import { createD1Stores } from '../../worker/d1-stores.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import type { KvNamespace } from '../../worker/platform/store-calls.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import { createKvWriters } from '../../worker/registry/pointer-writer-object.ts';
import type { Registry } from '../../worker/registry/ports.ts';
import type { Schedule } from '../../worker/schedule.ts';
import type { RuntimeTracing } from '../../worker/tracing/ports.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { createGatherersInProcess } from '../fakes/gatherers-in-process.ts';
import type { Quotas } from '../../worker/metering/ports.ts';
import { createFakeQuotas, type FakeQuotas } from '../fakes/fake-metering.ts';
import { createFakePairs } from '../fakes/fake-pairs.ts';
import { createFakeTallies } from '../fakes/fake-tallies.ts';
import { fakeVerification } from '../fakes/fake-trials.ts';
import { createSha256 } from '../fakes/node-sha256.ts';
import { TINY_BASE, type TinyAdapter } from '../fakes/tiny-adapters.ts';
import { HANG_MS } from '../setup/slow.ts';
import { copiesOf, openDatabase } from './platform/database.ts';

/** Of a link; good once for each harness. */
export const SIGN_IN_TOKEN = 'sign-in'.padEnd(43, '-');

export interface AppHarness {
  clock: FakeClock;
  kv: FakeKv;
  db: SqlDatabase;
  quotas: FakeQuotas;
  /** What this isolate's parts were made of; the same for the isolates beside it. */
  stores: Stores;
  services: Services;
  /** One run of the cron trigger. */
  schedule: Schedule;
  /** null unless `dropTenant` was given. */
  drops: Drops | null;
  adminKey: string;
  /** Requests that reached the origin, as `METHOD path`. */
  asked: string[];
  /** Answers the origin's requests; by default it has every adapter. */
  origin: {
    answer: (method: string, path: string, init: RequestInit, url?: string) => Response | Promise<Response>;
  };
  /** Answers what the edge calls because a tenant says so; unless a test says how, nothing does. */
  application: { answer: Fetch };
  request(
    path: string,
    init?: {
      method?: string;
      key?: string;
      body?: unknown;
      headers?: Record<string, string>;
      /** Aborts when the client leaves. */
      signal?: AbortSignal;
    },
  ): Promise<Response>;
  /** When nothing that a request left behind (`waitUntil`) is under way. */
  settled(): Promise<void>;
  upload(adapter: TinyAdapter): Promise<Response>;
  publish(name: string, adapter: TinyAdapter, more?: object): Promise<Response>;
}

/** An origin's answer when it tries a chain that it holds and likes. */
export const verification = (init: RequestInit): VerifyAnswer => {
  const { chain = [], expected } = VerifyRequest.parse(JSON.parse(init.body as string));
  return fakeVerification({ base: TINY_BASE, chain, expected });
};

/** What an origin says whose answers clients read. */
const ORIGIN_ANSWERS: Record<
  string,
  | EmbeddingList
  | ClassifyAnswer
  | ScoreAnswer
  | RerankAnswer
  | TokenizeAnswer
  | DetokenizeAnswer
  | CountTokensAnswer
  | InputTokensAnswer
> = {
  '/v1/embeddings': {
    object: 'list',
    data: [{ object: 'embedding', index: 0, embedding: [1, 0] }],
    model: 'm',
    usage: { prompt_tokens: 1, total_tokens: 1 },
  },
  '/v1/classify': {
    ...{ id: 'classify-1', object: 'list', created: 1, model: 'm' },
    data: [{ index: 0, label: 'yes', probs: [0.75, 0.25], num_classes: 2 }],
    usage: { prompt_tokens: 1, total_tokens: 1, completion_tokens: 0 },
  },
  '/v1/score': {
    ...{ id: 'score-1', object: 'list', created: 1, model: 'm' },
    data: [{ index: 0, object: 'score', score: 0.5 }],
    usage: { prompt_tokens: 1, total_tokens: 1, completion_tokens: 0 },
  },
  '/v1/rerank': {
    ...{ id: 'rerank-1', model: 'm' },
    results: [{ index: 0, document: { text: 'hi' }, relevance_score: 0.5 }],
    usage: { prompt_tokens: 1, total_tokens: 1, completion_tokens: 0 },
  },
  '/tokenize': { count: 1, max_model_len: 8, tokens: [1], token_strs: ['hi'] },
  '/detokenize': { prompt: 'hi' },
  '/v1/messages/count_tokens': { input_tokens: 1 },
  '/v1/responses/input_tokens': { object: 'response.input_tokens', input_tokens: 1 },
};

export interface AppHarnessOptions {
  verifyTimeoutMs?: number;
  /** How long an origin may be silent before it is asked for a sign of life, and for the sign; ms. */
  patienceMs?: number;
  pulseMs?: number;
  kvTimeoutMs?: number;
  /** One, `o1` at `http://origin.test`, unless given. */
  origins?: readonly Origin[];
  /** Of their bases; that of the first unless given. */
  defaultBase?: string;
  /** Another isolate of that edge: the same stores, clock and keys, and a memory of its own. */
  beside?: AppHarness;
  /** An empty one unless given. */
  db?: SqlDatabase;
  /** For usage and traffic; the same one unless given. */
  usageDb?: SqlDatabase;
  /** Of an edge that was copied, with its database; new ones unless given. */
  copied?: Pick<AppHarness, 'clock' | 'kv' | 'adminKey'>;
  experimentLedger?: ExperimentLedger;
  rights?: RightsWriter;
  /** Owner of dropped files; they are not taken in unless given. */
  dropTenant?: string;
  /** What tenants have called may be this machine itself. */
  loopbackCallbacks?: boolean;
  /** Share of the requests whose trace is recorded; none unless given. */
  traceShare?: number;
  /** Workers' own tracing; none unless given. */
  runtimeTracing?: RuntimeTracing;
  /** What was counted stays in gatherers until something has them write. */
  quietGatherers?: boolean;
  /** Reports of usage have no costs unless given. */
  prices?: Config['prices'];
  /** Hears of every request; nobody does unless given. */
  observer?: Observer;
  /** Sleeps before buffered records are written; no time passes unless given. */
  flushDelay?: (ms: number) => Promise<void>;
  /** Keep what isolates count; in this process, and written at once, unless given. */
  gatherers?: Gatherers;
  /** Count limits; {@link AppHarness.quotas} unless given. */
  quotas?: Quotas;
  /** Of the isolate's location; there is none unless given. */
  locationCache?: ResponseCache;
  /** Stands between the app and its ports, for what is cut off; pointers are then written from here. */
  wrap?: <T extends object>(port: T, name: string) => T;
}

const locationOf = (cache: ResponseCache) => ({
  open: () => Promise.resolve(cache),
  address: () => 'https://edge.example.com',
});

/** All that one edge keeps, but for what writes KV. */
function createStores(
  [db, usageDb]: readonly [SqlDatabase, SqlDatabase],
  kv: FakeKv,
  now: () => number,
  quiet = false,
): Omit<Stores, 'writers'> {
  const stores = createD1Stores(db, usageDb);
  return {
    ...stores,
    kv,
    bucket: undefined,
    gatherers: createGatherersInProcess({ ...stores, now, quiet }),
    tallies: createFakeTallies(),
    pairTallies: createFakePairs(),
    quotas: null,
  };
}

/** The real app in this process, on SQLite and on fakes of the other stores. */
export async function createAppHarness(options: AppHarnessOptions = {}): Promise<AppHarness> {
  const { beside, copied } = options;
  const wrap = options.wrap ?? ((port) => port);
  const clock = (beside ?? copied)?.clock ?? new FakeClock();
  const bareKv = (beside ?? copied)?.kv ?? new FakeKv(clock.now);
  const kv = wrap<KvNamespace>(bareKv, 'kv');
  const { now, sleep } = clock;
  const asked: string[] = [];
  const origin: AppHarness['origin'] = {
    answer: (_, path, init, url) => {
      if (path === '/base') return Response.json(TINY_BASE);
      const said = ORIGIN_ANSWERS[path];
      if (said !== undefined) return Response.json(said);
      if (path === '/adapters/prefetch') return Response.json({ results: [] });
      if (path.endsWith('/verify')) return Response.json(verification(init));
      const wanted = url === undefined ? null : new URL(url).searchParams.get(ANSWER_PARAMETER);
      return Response.json({ ok: true, ...(wanted === null ? {} : { id: `chatcmpl-${wanted}` }) });
    },
  };
  const theOrigin: { fetch: Fetch } = {
    fetch: async (url, init) => {
      const { pathname } = new URL(url);
      // As the real one: what was called off before is never sent.
      init.signal?.throwIfAborted();
      asked.push(`${init.method} ${pathname}`);
      return origin.answer(init.method ?? 'GET', pathname, init, url);
    },
  };
  const { fetch } = wrap(theOrigin, 'origin');
  const application: AppHarness['application'] = {
    answer: () => Promise.reject(new Error('nobody is there')),
  };
  const adminKey = (beside ?? copied)?.adminKey ?? generateApiKey('ga');
  const db = beside?.db ?? options.db ?? (await openDatabase());
  const own =
    beside?.stores ?? createStores([db, options.usageDb ?? db], bareKv, now, options.quietGatherers);
  const macKey = new Uint8Array(32).fill(3);
  const fakeQuotas = createFakeQuotas();
  const shared: Omit<Stores, 'writers'> = {
    ...own,
    kv,
    registry: wrap<Registry>(own.registry, 'registry'),
    blobLedger: wrap<BlobLedger>(own.blobLedger, 'blobLedger'),
    keyLedger: wrap<KeyLedger>(own.keyLedger, 'keyLedger'),
    grantLedger: wrap<GrantLedger>(own.grantLedger, 'grantLedger'),
    experimentLedger: options.experimentLedger ?? own.experimentLedger,
    tallies: wrap<ExperimentTallies>(own.tallies, 'tallies'),
    // Each isolate has counters of its own, which tests look into.
    quotas: options.quotas ?? fakeQuotas,
  };
  // As the Durable Object does it; one for all isolates, unless what it calls is cut off.
  const writers =
    beside !== undefined && options.wrap === undefined
      ? beside.stores.writers
      : createKvWriters({ ...shared, sealer: createSealer(macKey), now, sleep });
  const { syncKey, syncGrants } = options.rights ?? beside?.stores.writers ?? writers;
  const rights = wrap<RightsWriter>({ syncKey, syncGrants }, 'rights');
  const gatherers = options.gatherers ?? shared.gatherers;
  const stores: Stores = { ...shared, gatherers, writers: { ...writers, ...rights } };
  const config: Config = {
    origins: [...(options.origins ?? [{ id: 'o1', url: 'http://origin.test' }])],
    defaultBase: options.defaultBase ?? null,
    originKeys: parseSigningKeys(`k1:${Buffer.alloc(32, 7).toString('base64')}`),
    ...{ macKey, acceptedMacKeys: [], corsOrigins: [], logSample: 0, pointSample: 1, locationCache: false },
    ...{ traceShare: options.traceShare ?? 0, spanReceiver: null },
    prices: options.prices ?? null,
    adminKeyHash: await hashApiKey(adminKey),
    dropTenant: options.dropTenant ?? null,
    loopbackCallbacks: options.loopbackCallbacks ?? false,
    signInLink: { token_sha256: await hashApiKey(SIGN_IN_TOKEN), admin_key: 'ga_lent' },
  };
  const { services, schedule, drops } = createParts(config, stores, {
    ...{ now, sleep, fetch, createSha256, observer: options.observer },
    ...(options.runtimeTracing === undefined ? {} : { runtimeTracing: () => options.runtimeTracing ?? null }),
    callOut: (url, init) => application.answer(url, init),
    // What is noted is written at once, and the clock stays where the test put it.
    flushDelay: options.flushDelay ?? (async () => undefined),
    page: async (path) => new Response(path),
    ...(options.locationCache === undefined ? {} : { locationCache: locationOf(options.locationCache) }),
    kvTimeoutMs: options.kvTimeoutMs ?? HANG_MS,
    ...(options.patienceMs === undefined ? {} : { patienceMs: options.patienceMs }),
    ...(options.pulseMs === undefined ? {} : { pulseMs: options.pulseMs }),
    ...(options.verifyTimeoutMs === undefined ? {} : { verifyTimeoutMs: options.verifyTimeoutMs }),
  });
  const app = createApp(services);
  const behind = new Set<Promise<unknown>>();
  const context: ExecutionContext = {
    waitUntil(work) {
      behind.add(work);
      void work.finally(() => behind.delete(work)).catch(() => undefined);
    },
    passThroughOnException: () => undefined,
    props: {},
  };
  const settled: AppHarness['settled'] = async () => {
    // The end of an answer's body leaves work some turns later, as does work that ends.
    for (let quiet = 0; quiet < 5; quiet += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      if (behind.size === 0) continue;
      await Promise.allSettled(behind);
      quiet = 0;
    }
  };
  const request: AppHarness['request'] = async (path, init = {}) => {
    const body: Uint8Array<ArrayBuffer> | undefined =
      init.body === undefined
        ? undefined
        : init.body instanceof Uint8Array
          ? (init.body as Uint8Array<ArrayBuffer>)
          : new TextEncoder().encode(JSON.stringify(init.body));
    const sent: RequestInit = {
      method: init.method ?? (body === undefined ? 'GET' : 'POST'),
      headers: {
        authorization: `Bearer ${init.key ?? adminKey}`,
        // As clients do; a part without it is read into a buffer of the largest size.
        ...(body === undefined ? {} : { 'content-length': String(body.length) }),
        ...init.headers,
      },
      ...(init.signal === undefined ? {} : { signal: init.signal }),
      ...(body === undefined ? {} : { body }),
    };
    return app.request(path, sent, {}, context);
  };
  const upload: AppHarness['upload'] = async ({ bytes, digest }) => {
    const sent = await request(`/admin/blobs/${digest}/parts/0`, {
      method: 'PUT',
      body: new Uint8Array(bytes),
    });
    if (!sent.ok) return sent;
    const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
    return request(`/admin/blobs/${digest}`, { body: record });
  };
  return {
    clock,
    kv: bareKv,
    db,
    quotas: fakeQuotas,
    ...{ stores, services, schedule, drops, adminKey },
    asked,
    origin,
    application,
    request,
    settled,
    upload,
    async publish(name, adapter, more = {}) {
      const uploaded = await upload(adapter);
      if (!uploaded.ok) return uploaded;
      return request('/admin/versions', { body: { name, digest: adapter.digest, ...more } });
    },
  };
}

/**
 * Makes a world once, which takes many requests, and hands out copies of it: each has stores, a clock and an isolate of
 * its own.
 * @param fill what makes it, in an empty edge; its result goes with every copy.
 */
export function createCopies<T>(
  options: AppHarnessOptions,
  fill: (graft: AppHarness) => Promise<T>,
): () => Promise<{ graft: AppHarness; made: T }> {
  const makeFirst = async () => {
    const graft = await createAppHarness(options);
    const made = await fill(graft);
    await graft.settled();
    return { graft, made };
  };
  const keep = async () => {
    const { graft, made } = await makeFirst();
    const open = copiesOf(graft.db);
    if (open === null) return null;
    const at = graft.clock.now();
    return { open, at, made, kv: graft.kv.copy(() => at), adminKey: graft.adminKey };
  };
  let kept: ReturnType<typeof keep> | undefined;
  return async () => {
    const world = await (kept ??= keep());
    if (world === null) return makeFirst();
    const { open, at, made, kv, adminKey } = world;
    const clock = new FakeClock(at);
    const copied = { clock, kv: kv.copy(clock.now), adminKey };
    return { graft: await createAppHarness({ ...options, db: open(), copied }), made };
  };
}
