/** The worker: Cloudflare's bindings in, one app an isolate out. Nothing else picks what things are kept in. */
import { createD1GrantLedger } from './access/d1-grants.ts';
import { createD1KeyLedger } from './access/d1-key-ledger.ts';
import { createApp } from './app.ts';
import { createD1Backup } from './backup/d1-backup.ts';
import { createD1BlobLedger } from './blobs/d1-blob-ledger.ts';
import { createD1Garbage } from './blobs/d1-garbage.ts';
import { createD1DropLedger } from './drops/d1-drop-ledger.ts';
import { parseEnv, type RawEnv } from './env.ts';
import { createD1Erasures } from './erasure/d1-erasures.ts';
import { createD1ExperimentLedger } from './experiments/d1-experiments.ts';
import { createD1WebhookOutbox } from './experiments/d1-webhook-outbox.ts';
import { createDoTallies } from './experiments/tally-object.ts';
import { TALLY_TIMEOUT_MS } from './experiments/limits.ts';
import { createDoPairs } from './experiments/pairs/pairs-object.ts';
import { createObserver } from './http/observer.ts';
import { loggingFailure } from './log.ts';
import { createD1TenantLimits } from './metering/d1-tenant-limits.ts';
import { createD1Usage } from './metering/d1-usage.ts';
import { createDoQuotas } from './metering/quota-counter-object.ts';
import { QUOTA_TIMEOUT_MS, USAGE_BATCH_MEMORY_MS } from './metering/limits.ts';
import { createD1FileNames, createD1OriginHistory, createD1Pins } from './origins/d1-origins.ts';
import { createParts, type Parts, type Stores } from './parts.ts';
import { guardDatabase } from './platform/d1-database.ts';
import { createD1RowAudit } from './registry/d1-row-audit.ts';
import { createD1KeptPrompts } from './prompts/d1-kept-prompts.ts';
import { createD1Registry } from './registry/d1-registry.ts';
import { createD1Traffic } from './traffic/d1-traffic.ts';
import { createDoTraffic } from './traffic/traffic-gatherer-object.ts';
import { COLLECTOR_TIMEOUT_MS } from './traffic/limits.ts';
import { createDoPointers } from './registry/pointer-writer-object.ts';
import { POINTER_TIMEOUT_MS } from './registry/limits.ts';
import { toHex } from '../protocol/index.ts';
import type { Sha256 } from './platform/ports.ts';

export { PairTally } from './experiments/pairs/pairs-object.ts';
export { ExperimentTally } from './experiments/tally-object.ts';
export { QuotaCounter } from './metering/quota-counter-object.ts';
export { TrafficGatherer } from './traffic/traffic-gatherer-object.ts';
export { PointerWriter } from './registry/pointer-writer-object.ts';

function storesOf(env: RawEnv): Stores {
  const db = guardDatabase(env.DB);
  const traffic = createD1Traffic(db);
  return {
    kv: env.ADAPTERS,
    bucket: env.BLOBS,
    registry: createD1Registry(db),
    blobLedger: createD1BlobLedger(db),
    garbage: createD1Garbage(db),
    rowAudit: createD1RowAudit(db),
    erasures: createD1Erasures(db),
    backups: createD1Backup(db),
    keyLedger: createD1KeyLedger(db),
    grantLedger: createD1GrantLedger(db),
    tenantLimits: createD1TenantLimits(db),
    usage: createD1Usage(db, USAGE_BATCH_MEMORY_MS),
    traffic,
    trafficCollector:
      env.TRAFFIC === undefined
        ? traffic
        : createDoTraffic({ namespace: env.TRAFFIC, timeoutMs: COLLECTOR_TIMEOUT_MS }),
    keptPrompts: createD1KeptPrompts(db),
    pins: createD1Pins(db),
    originHistory: createD1OriginHistory(db),
    fileNames: createD1FileNames(db),
    dropLedger: createD1DropLedger(db),
    experimentLedger: createD1ExperimentLedger(db),
    tallies: createDoTallies({ namespace: env.EXPERIMENTS, timeoutMs: TALLY_TIMEOUT_MS }),
    outbox: createD1WebhookOutbox(db),
    pairTallies: createDoPairs({ namespace: env.PAIRS, timeoutMs: TALLY_TIMEOUT_MS }),
    quotas:
      env.QUOTAS === undefined
        ? null
        : createDoQuotas({ namespace: env.QUOTAS, timeoutMs: QUOTA_TIMEOUT_MS }),
    writers: createDoPointers({ namespace: env.POINTERS, timeoutMs: POINTER_TIMEOUT_MS }),
  };
}

function partsOf(env: RawEnv): Parts {
  const config = parseEnv(env);
  const { ASSETS } = env;
  const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  return createParts(config, storesOf(env), {
    now: Date.now,
    ...{ sleep, linger: sleep, createSha256 },
    fetch: (url, init) => fetch(url, init),
    callOut: (url, init) => fetch(url, init),
    observer: createObserver({ dataset: env.ANALYTICS, logSample: config.logSample }),
    // Asked for by path; the host is nobody's.
    page: ASSETS === undefined ? undefined : (path) => ASSETS.fetch(`https://page.invalid${path}`),
  });
}

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
    const fresh = edge?.env !== env;
    const parts = edgeOf(env);
    if (fresh) context.waitUntil(parts.catchUp());
    return parts.fetch(request, env, context);
  },
  scheduled: (_controller, env, context) =>
    edgeOf(env).schedule((work) => context.waitUntil(loggingFailure(work))),
} satisfies ExportedHandler<RawEnv>;

/** sha256 of bytes that come by, in constant memory; workerd's own class, Web Crypto has none. */
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
