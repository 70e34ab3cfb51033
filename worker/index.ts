/** Composition root of the edge: bindings in, one app per isolate out. */
import { createApp, type Services } from './app.ts';
import { createBlobs } from './blobs/parts.ts';
import { createCounting } from './experiments/parts.ts';
import { createDrops } from './drops/parts.ts';
import { parseEnv, type RawEnv } from './env.ts';
import { createHotIndexes } from './hot-indexes.ts';
import { createByteGate } from './blobs/byte-gate.ts';
import {
  HELD_BYTES,
  TENANT_HELD_BYTES,
  MAX_WAITING,
  MAX_WAITING_OF_TENANT,
  MAX_ROOM_WAIT_MS,
  ROOM_POLL_MS,
  ROOM_STALE_MS,
} from './blobs/limits.ts';
import { RETRY_AFTER_MS, KV_WRITE_PAUSE_MS, KV_WRITE_TRIES, POINTER_CACHE_TTL_S } from './limits.ts';

import { createMetering } from './metering/parts.ts';
import { createObserver } from './http/observer.ts';
import { createOriginClient } from './origins/client.ts';
import { createKvWriters } from './registry/kv-writers.ts';
import { createSchedule, type Schedule } from './schedule.ts';
import { createSha256 } from './platform/sha256.ts';
import { createD1BlobLedger } from './blobs/d1-blob-ledger.ts';
import { guardDatabase } from './platform/d1-database.ts';
import { createD1ExperimentLedger } from './experiments/d1-experiments.ts';
import { createD1Garbage } from './blobs/d1-garbage.ts';
import { createD1GrantLedger } from './access/d1-grants.ts';
import { createD1KeyLedger } from './access/d1-key-ledger.ts';
import { createD1Pins } from './origins/d1-pins.ts';
import { createD1Registry } from './registry/d1-registry.ts';
import { createD1RowAudit } from './platform/d1-row-audit.ts';
import { createD1TenantLimits } from './metering/d1-tenant-limits.ts';
import { createKvListing } from './platform/kv-listing.ts';
import { createSealer } from './platform/sealed-value.ts';

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Asked for by path; the host is nobody's. */
const pageOf = ({ ASSETS }: RawEnv): Pick<Services, 'page'> =>
  ASSETS === undefined ? {} : { page: (path) => ASSETS.fetch(`https://page.invalid${path}`) };

function createParts(raw: RawEnv): { services: Services; schedule: Schedule } {
  const config = parseEnv(raw);
  const now = Date.now;
  const retryAfterMs = RETRY_AFTER_MS;
  const kv = raw.ADAPTERS;
  const db = guardDatabase(raw.DB);
  const sealer = createSealer(config.macKey, config.acceptedMacKeys);
  const currentSealer = createSealer(config.macKey);
  const pacing = { pauseMs: KV_WRITE_PAUSE_MS, tries: KV_WRITE_TRIES, sleep };
  const pointer = { kv, sealer, cacheTtl: POINTER_CACHE_TTL_S, retryAfterMs, pacing };
  const keyLedger = createD1KeyLedger(db);
  const grantLedger = createD1GrantLedger(db);
  const hot = createHotIndexes({ pointer, currentSealer, keyLedger, grantLedger, now });
  const blobs = createBlobs({ kv, bucket: raw.BLOBS, pacing });
  const fetchOrigin = (url: string, init: RequestInit) => fetch(url, init);
  const origins = createOriginClient({
    ...config,
    keys: config.originKeys,
    blobs,
    fetch: fetchOrigin,
    now,
    sleep,
  });
  const { pointers, rights } = createKvWriters({ namespace: raw.POINTERS, ...hot });
  const services: Services = {
    ...hot,
    rights,
    intake: {
      blobs,
      blobLedger: createD1BlobLedger(db),
      registry: createD1Registry(db),
      pointers,
      createSha256,
      gate: createByteGate({
        capacity: HELD_BYTES,
        tenantCapacity: TENANT_HELD_BYTES,
        maxWaiting: MAX_WAITING,
        maxWaitingOfTenant: MAX_WAITING_OF_TENANT,
        maxWaitMs: MAX_ROOM_WAIT_MS,
        pollMs: ROOM_POLL_MS,
        staleMs: ROOM_STALE_MS,
        retryAfterMs,
        now,
        sleep,
      }),
      now,
    },
    listing: createKvListing(kv),
    garbage: createD1Garbage(db),
    rowAudit: createD1RowAudit(db),
    keyLedger,
    grantLedger,
    origins,
    ...createCounting({
      ...config,
      namespace: raw.EXPERIMENTS,
      hasRoom: origins.hasRoom,
      now,
      sleep,
    }),
    ...createMetering({ namespace: raw.QUOTAS, db, now, sleep }),
    tenantLimits: createD1TenantLimits(db),
    pins: createD1Pins(db),
    experimentLedger: createD1ExperimentLedger(db),
    observer: createObserver({ dataset: raw.ANALYTICS, logSample: config.logSample }),
    adminKeyHash: config.adminKeyHash,
    corsOrigins: config.corsOrigins,
    ...pageOf(raw),
  };
  const tenant = config.dropTenant;
  const drops = tenant === null ? null : createDrops({ kv, db, pacing, services, tenant });
  if (drops !== null) services.takeDropOnMiss = drops.onMiss;
  return { services, schedule: createSchedule(services, drops) };
}

export { ExperimentTally } from './experiments/tally-object.ts';
export { PointerWriter } from './registry/pointer-writer-object.ts';
export { QuotaCounter } from './metering/quota-counter-object.ts';

/** Bindings are the same object for all requests of an isolate. */
let edge: { env: RawEnv; fetch: ReturnType<typeof createApp>['fetch']; schedule: Schedule } | undefined;

function edgeOf(env: RawEnv): NonNullable<typeof edge> {
  if (edge?.env !== env) {
    const { services, schedule } = createParts(env);
    edge = { env, fetch: createApp(services).fetch, schedule };
  }
  return edge;
}

export default {
  fetch: (request, env, context) => edgeOf(env).fetch(request, env, context),
  scheduled: (_controller, env, context) => edgeOf(env).schedule((work) => context.waitUntil(work)),
} satisfies ExportedHandler<RawEnv>;
