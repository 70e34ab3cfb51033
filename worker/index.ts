/** The worker: from Cloudflare's bindings to one app per isolate. Only this file chooses where data is stored. */
import { createApp } from './app.ts';
import { createD1Stores } from './d1-stores.ts';
import { parseEnv, type RawEnv } from './env.ts';
import { createDoTallies } from './experiments/tally-object.ts';
import { TALLY_TIMEOUT_MS } from './experiments/limits.ts';
import { createDoPairs } from './experiments/pairs/pairs-object.ts';
import { createDoGatherers } from './gathering/gatherer-object.ts';
import { GATHERER_TIMEOUT_MS, GATHERER_WRITE_TIMEOUT_MS } from './gathering/limits.ts';
import { createAnalyticsPoints, createObserver, noPoints } from './http/request.ts';
import { loggingFailure } from './log.ts';
import { createDoQuotas } from './metering/quota-counter-object.ts';
import { QUOTA_TIMEOUT_MS } from './metering/limits.ts';
import { createParts, type Parts, type Stores } from './parts.ts';
import { flushMs } from './platform/store-calls.ts';
import { guardDatabase } from './platform/d1-database.ts';
import { createDoPointers } from './registry/pointer-writer-object.ts';
import { POINTER_TIMEOUT_MS } from './registry/limits.ts';
import { toHex } from '../protocol/identity.ts';
import type { RuntimeTracing } from './tracing/ports.ts';
import { edgeSpans } from './tracing/edge-spans.ts';
import { createSpanSink } from './tracing/send-spans.ts';
import type { Sha256 } from './platform/ports.ts';

export { PairTally } from './experiments/pairs/pairs-object.ts';
export { ExperimentTally } from './experiments/tally-object.ts';
export { Gatherer } from './gathering/gatherer-object.ts';
export { QuotaCounter } from './metering/quota-counter-object.ts';
export { PointerWriter } from './registry/pointer-writer-object.ts';

function storesOf(env: RawEnv): Stores {
  return {
    ...createD1Stores(
      guardDatabase(env.DB),
      env.DB_USAGE === undefined ? undefined : guardDatabase(env.DB_USAGE),
    ),
    kv: env.ADAPTERS,
    bucket: env.BLOBS,
    tallies: createDoTallies({ namespace: env.EXPERIMENTS, timeoutMs: TALLY_TIMEOUT_MS }),
    pairTallies: createDoPairs({ namespace: env.PAIRS, timeoutMs: TALLY_TIMEOUT_MS }),
    gatherers: createDoGatherers({
      namespace: env.GATHERERS,
      timeoutMs: GATHERER_TIMEOUT_MS,
      writeTimeoutMs: GATHERER_WRITE_TIMEOUT_MS,
    }),
    quotas:
      env.QUOTAS === undefined
        ? null
        : createDoQuotas({ namespace: env.QUOTAS, timeoutMs: QUOTA_TIMEOUT_MS }),
    writers: createDoPointers({ namespace: env.POINTERS, timeoutMs: POINTER_TIMEOUT_MS }),
  };
}

function partsOf(env: RawEnv): Parts {
  const config = parseEnv(env);
  const { ASSETS, CALL_OUT } = env;
  const points = env.ANALYTICS === undefined ? noPoints : createAnalyticsPoints(env.ANALYTICS);
  const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  const sink =
    config.spanReceiver === null
      ? null
      : createSpanSink({
          receiver: config.spanReceiver,
          fetch: (url, init) => fetch(url, init),
          now: Date.now,
          sleep: (ms) => sleep(flushMs(env, ms)),
          onLost: (spans) => points.lostSpans(spans),
        });
  return createParts(config, storesOf(env), {
    now: Date.now,
    ...{ sleep, createSha256 },
    flushDelay: (ms) => sleep(flushMs(env, ms)),
    fetch: (url, init) => fetch(url, init),
    callOut: (url, init) => (CALL_OUT === undefined ? fetch(url, init) : CALL_OUT.fetch(url, init)),
    ...(config.locationCache
      ? { locationCache: { open: () => caches.open(CACHE_NAME), address: () => address } }
      : {}),
    observer: createObserver({
      ...{ ...config, points },
      ...(sink === null ? {} : { onTraced: (ended) => sink.record(edgeSpans(ended), ended.keepAlive) }),
    }),
    runtimeTracing: () => (config.spanReceiver === null ? ownTracing : null),
    // Fetched by path; the host is a placeholder.
    page: ASSETS === undefined ? undefined : (path) => ASSETS.fetch(`https://page.invalid${path}`),
  });
}

/** Of its own, so that no request for a page of this host is answered from it. */
const CACHE_NAME = 'graft-kv';
/** Scheme and host of the isolate's first request. */
let address: string | null = null;

/** null where the runtime has none, or has not loaded it: the first requests of an isolate may have no spans. */
let ownTracing: RuntimeTracing | null = null;
import('cloudflare:workers').then(
  ({ tracing }) => (ownTracing = tracing ?? null),
  () => undefined,
);

/** Bindings are the same object for all requests of an isolate. */
let edge:
  | (Pick<Parts, 'schedule' | 'catchUp'> & { env: RawEnv; fetch: ReturnType<typeof createApp>['fetch'] })
  | undefined;

function edgeOf(env: RawEnv): NonNullable<typeof edge> {
  if (edge?.env !== env) {
    const { services, schedule, catchUp } = partsOf(env);
    edge = { env, fetch: createApp(services).fetch, schedule, catchUp };
  }
  return edge;
}

export default {
  fetch(request, env, context) {
    address ??= new URL(request.url).origin;
    const fresh = edge?.env !== env;
    const parts = edgeOf(env);
    if (fresh) context.waitUntil(parts.catchUp());
    return parts.fetch(request, env, context);
  },
  scheduled: (_controller, env, context) =>
    edgeOf(env).schedule((work) => context.waitUntil(loggingFailure(work))),
} satisfies ExportedHandler<RawEnv>;

/** sha256 of a stream, in constant memory; workerd's own class, because Web Crypto has none. */
function createSha256(): Sha256 {
  const stream = new crypto.DigestStream('SHA-256');
  const writer = stream.getWriter();
  return {
    update: (chunk) => writer.write(chunk),
    async digest() {
      await writer.close();
      return toHex(await stream.digest);
    },
  };
}
