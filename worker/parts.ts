/**
 * The composition of the edge, and the only one: what keeps things, and what time it is, come in; what an app and its
 * schedule need goes out. `index.ts` gives it Cloudflare's stores, tests give it fakes of them.
 */
import type { RightsWriter } from './access/ports.ts';
import type { GrantLedger } from './access/d1-grants.ts';
import type { KeyLedger } from './access/d1-key-ledger.ts';
import type { StaleRights } from './access/d1-stale-rights.ts';
import { createSignIn } from './access/require-admin.ts';
import type { BackupLedger } from './backup/d1-backup.ts';
import { createUploadMemoryLimit } from './blobs/upload-memory-limit.ts';
import {
  HELD_BYTES,
  MAX_ROOM_WAIT_MS,
  MAX_WAITING,
  MAX_WAITING_OF_TENANT,
  ROOM_POLL_MS,
  ROOM_STALE_MS,
  TENANT_HELD_BYTES,
} from './blobs/limits.ts';
import { createBlobs, type ObjectBucket } from './blobs/parts.ts';
import type { BlobLedger, GarbageLedger } from './blobs/d1-blob-ledger.ts';
import type { Sha256, RowAudit } from './platform/ports.ts';
import { decoyOf } from './registry/claims.ts';
import { createDownloadTokens } from './downloads/download-token.ts';
import { createPublishTokens } from './publications/publish-token.ts';
import type { PageUploads } from './publications/d1-page-uploads.ts';
import type { RowFiles, TrainingJobs } from './training/ports.ts';
import { createRowParts } from './training/row-parts.ts';
import type { Preferences } from './improvements/ports.ts';
import { createInbox, createDrops } from './kv-inbox/take-drops.ts';
import type { DropLedger } from './kv-inbox/d1-drop-ledger.ts';
import type { Config } from './env.ts';
import type { Evaluations } from './evaluations/ports.ts';
import type { ErasureLedger } from './erasure/d1-erasures.ts';
import { createCounting } from './experiments/parts.ts';
import type { ExperimentLedger, ExperimentTallies } from './experiments/ports.ts';
import type { PairTallies } from './experiments/pairs/ports.ts';
import { createGathering } from './gathering/parts.ts';
import type { Gatherers } from './gathering/ports.ts';
import {
  createKvCaches,
  forgettingPointers,
  forgettingRights,
  createNegativeCache,
  invalidatingNegativeCache,
} from './kv-caches.ts';
import type { Observer } from './http/request.ts';
import {
  KV_TIMEOUT_MS,
  KV_WRITE_PAUSE_MS,
  KV_WRITE_TRIES,
  CACHED_BYTES,
  LAST_KNOWN_GOOD_ENTRIES,
  LAST_KNOWN_GOOD_MS,
  LOCATION_CACHE_MS,
  LOCATION_CACHE_TIMEOUT_MS,
  POINTER_CACHE_TTL_S,
  RETRY_AFTER_MS,
} from './limits.ts';
import { createBudgets, createMeter } from './metering/meter.ts';
import type { Quotas, TenantLimits, UsageLedger } from './metering/ports.ts';
import { createOriginClient } from './origins/client.ts';
import type { FileNames, OriginHistoryLedger, PinLedger } from './origins/ports.ts';
import type { TrafficLedger } from './traffic/ports.ts';
import type { Fetch } from './origins/connection.ts';
import { watchPointers, createPinSync } from './origins/pins.ts';
import { createKvListing, type KvNamespace } from './platform/store-calls.ts';
import { CacheRoom } from './platform/bounded-map.ts';
import { createSealer, withLastKnownGood } from './platform/kv-cache.ts';
import { createLocationCache, type ResponseCache } from './platform/location-cache.ts';
import { createTextSealer } from './platform/sealed-text.ts';
import { NEGATIVE_CACHE_MS } from './registry/limits.ts';
import { createPromptKeeper, createPromptSealer } from './prompts/keep-prompts.ts';
import type { KeptPrompts } from './prompts/ports.ts';
import { createBudgetAlerts } from './webhooks/alerts.ts';
import type { WebhookLedger } from './webhooks/d1-webhooks.ts';
import type { WebhookOutbox } from './webhooks/ports.ts';
import { createWebhookSigner } from './webhooks/send-webhooks.ts';
import type { PointerWriter, Registry, IntakeDeps } from './registry/ports.ts';
import { catchUp, createSchedule } from './schedule.ts';
import type { RuntimeTracing } from './tracing/ports.ts';
import type { PageFiles } from './http/page-routes.ts';
import { createVersionIndex } from './access/repair-rights.ts';
import { createGates } from './access/rate-limits.ts';
import { createSuggestionBudget } from './completions/usable-names.ts';
import { MAX_SUGGESTED_KEYS, SUGGESTIONS_PER_SECOND } from './completions/limits.ts';

/** Where everything is kept. */
export interface Stores {
  kv: KvNamespace;
  /** Where adapters' bytes go; undefined = to KV. */
  bucket: ObjectBucket | undefined;
  registry: Registry;
  blobLedger: BlobLedger;
  garbage: GarbageLedger;
  rowAudit: RowAudit;
  erasures: ErasureLedger;
  backups: BackupLedger;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  staleRights: StaleRights;
  tenantLimits: TenantLimits;
  usage: UsageLedger;
  /** Keep what isolates have counted, and prompts, until they are in D1, and the list of requests. */
  gatherers: Gatherers;
  traffic: TrafficLedger;
  keptPrompts: KeptPrompts;
  preferences: Preferences;
  pins: PinLedger;
  originHistory: OriginHistoryLedger;
  fileNames: FileNames;
  dropLedger: DropLedger;
  pageUploads: PageUploads;
  rowFiles: RowFiles;
  trainingJobs: TrainingJobs;
  evaluations: Evaluations;
  experimentLedger: ExperimentLedger;
  tallies: ExperimentTallies;
  outbox: WebhookOutbox;
  webhooks: WebhookLedger;
  pairTallies: PairTallies;
  /** null = no key's limits are counted. */
  quotas: Quotas | null;
  /** The only writer of names, keys and grants to KV. */
  writers: PointerWriter & RightsWriter;
}

/** Dependencies that are neither stores nor configuration. */
interface Runtime {
  /** Unix ms. */
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  /** Sleeps before buffered records are written; as {@link sleep}. */
  flushDelay: (ms: number) => Promise<void>;
  /** Reaches the origins. */
  fetch: Fetch;
  /** Calls addresses given by tenants. */
  callOut: Fetch;
  createSha256: () => Sha256;
  /** Keeps names and keys for all isolates of a location; undefined = only isolates do. */
  locationCache?: { open: () => Promise<ResponseCache>; address: () => string | null } | undefined;
  /** Receives every request; undefined = nobody does. */
  observer: Observer | undefined;
  /** Workers' own tracing, where stages of requests go as well; undefined = there is none. */
  runtimeTracing?: () => RuntimeTracing | null;
  /** The built console; undefined = there is none. */
  page: PageFiles | undefined;
  /** Shorter timeouts than this edge's own; ms. */
  kvTimeoutMs?: number;
  verifyTimeoutMs?: number;
  patienceMs?: number;
  pulseMs?: number;
}

export type Parts = ReturnType<typeof createParts>;
/** Everything that routes and the schedule get; each picks what it needs. */
export type Services = Parts['services'];

export function createParts(config: Config, stores: Stores, runtime: Runtime) {
  const { kv, keyLedger, grantLedger, registry } = stores;
  const { now, sleep, flushDelay } = runtime;
  const pacing = { pauseMs: KV_WRITE_PAUSE_MS, tries: KV_WRITE_TRIES, sleep };
  const sealer = createSealer(config.macKey, config.acceptedMacKeys);
  const location =
    runtime.locationCache === undefined
      ? undefined
      : createLocationCache({
          ...{ ...runtime.locationCache, secret: config.macKey, now, maxEntries: LAST_KNOWN_GOOD_ENTRIES },
          ...{ ttlMs: LOCATION_CACHE_MS, timeoutMs: LOCATION_CACHE_TIMEOUT_MS },
        });
  const room = new CacheRoom(CACHED_BYTES);
  const hot = createKvCaches({
    room,
    location,
    pointer: { kv, sealer, cacheTtl: POINTER_CACHE_TTL_S, retryAfterMs: RETRY_AFTER_MS, pacing },
    currentSealer: createSealer(config.macKey),
    ...{ keyLedger, grantLedger, now, timeoutMs: runtime.kvTimeoutMs ?? KV_TIMEOUT_MS },
  });
  const absence = createNegativeCache({
    ...{ registry, ttlMs: NEGATIVE_CACHE_MS, maxEntries: LAST_KNOWN_GOOD_ENTRIES, decoyOf, now },
  });
  const watched = watchPointers(
    invalidatingNegativeCache(forgettingPointers(stores.writers, hot.forgetName), absence),
  );
  const blobs = createBlobs({ kv, bucket: stores.bucket, pacing });
  const origins = createOriginClient({ ...config, ...runtime, keys: config.originKeys, blobs });
  const intake: IntakeDeps = {
    ...{ blobs, registry, blobLedger: stores.blobLedger, pointers: watched.pointers, now },
    createSha256: runtime.createSha256,
    uploadMemory: createUploadMemoryLimit({
      ...{ capacity: HELD_BYTES, tenantCapacity: TENANT_HELD_BYTES },
      ...{ maxWaiting: MAX_WAITING, maxWaitingOfTenant: MAX_WAITING_OF_TENANT, maxWaitMs: MAX_ROOM_WAIT_MS },
      ...{ pollMs: ROOM_POLL_MS, staleMs: ROOM_STALE_MS, retryAfterMs: RETRY_AFTER_MS, now, sleep },
    }),
    bases: origins.bases,
    trials: origins,
    warmth: origins.warmth,
  };
  const tenant = config.dropTenant;
  const { dropLedger } = stores;
  const drops =
    tenant === null ? null : createDrops({ ...intake, kv, pacing, grantLedger, dropLedger, tenant });
  const promptSealer = createPromptSealer(config.macKey, config.acceptedMacKeys);
  const rowParts = createRowParts({
    kv,
    bucket: stores.bucket,
    pacing,
    secret: config.macKey,
    accepted: config.acceptedMacKeys,
    now,
  });
  const gathering = createGathering({ gatherers: stores.gatherers, now, sleep: flushDelay });
  const alerts = createBudgetAlerts({
    quotas: stores.quotas,
    webhooks: stores.webhooks,
    now,
    maxEntries: LAST_KNOWN_GOOD_ENTRIES,
  });
  const services = {
    ...hot,
    ...stores,
    ...intake,
    rights: forgettingRights(stores.writers, { key: hot.forgetKey, grants: hot.forgetGrants }),
    absence,
    /** By `name@version`, from D1, with the last known good value behind. */
    versions: withLastKnownGood(createVersionIndex(registry), {
      timeoutMs: KV_TIMEOUT_MS,
      maxAgeMs: LAST_KNOWN_GOOD_MS,
      ...{ maxEntries: LAST_KNOWN_GOOD_ENTRIES, room },
      retryAfterMs: RETRY_AFTER_MS,
      now,
    }),
    maySuggest: createSuggestionBudget({
      perSecond: SUGGESTIONS_PER_SECOND,
      maxKeys: MAX_SUGGESTED_KEYS,
      now,
    }),
    gates: createGates(now),
    origins,
    heldFiles: origins.files,
    originDrops: origins.drops,
    originJobs: origins.jobs,
    pinSync: createPinSync({ pins: stores.pins, registry, origins: origins.pins }),
    /** Whether a name was written since the last call. */
    pointersChanged: watched.changed,
    downloadTokens: createDownloadTokens(config.macKey, config.acceptedMacKeys),
    publishTokens: createPublishTokens(config.macKey, config.acceptedMacKeys),
    listing: createKvListing(kv),
    kvInbox: createInbox({ kv, pacing }),
    /** Processes an inbox file for a missing name; undefined while the inbox is off. */
    takeDropOnMiss: drops?.onMiss,
    trafficSink: gathering,
    promptSealer,
    evaluationSealer: createTextSealer('graft-evaluation-v1', config.macKey, config.acceptedMacKeys),
    rowParts,
    promptKeeper: createPromptKeeper({
      keep: (rows) => stores.gatherers.keepPrompts(rows),
      sealer: promptSealer,
      now,
      sleep: flushDelay,
    }),
    budgets: createBudgets({ quotas: stores.quotas, alerts, now }),
    meter: createMeter({
      quotas: stores.quotas,
      alerts,
      ...{ usage: gathering, now, sleep: flushDelay },
    }),
    ...createCounting({
      ...config,
      ...stores,
      hasRoom: origins.hasRoom,
      now,
      sleep: flushDelay,
      callOut: runtime.callOut,
    }),
    webhookSigner: createWebhookSigner(config.macKey, 'graft-webhook-v1'),
    callOut: runtime.callOut,
    prices: config.prices,
    loopbackCallbacks: config.loopbackCallbacks,
    adminKeyHash: config.adminKeyHash,
    /** Pages that may call `/v1/*`; `*` = all. */
    corsOrigins: config.corsOrigins,
    observer: runtime.observer,
    /** Of the requests, 0 to 1. */
    traceShare: config.traceShare,
    runtimeTracing: runtime.runtimeTracing ?? (() => null),
    page: runtime.page,
    /** Signs the page in by a link; undefined = it needs an admin key. */
    signIn: config.signInLink === null ? undefined : createSignIn(config.signInLink),
  };
  return {
    services,
    schedule: createSchedule(services, drops),
    /** For the first request of an isolate. Never rejects. */
    catchUp: () => catchUp(services),
    /** null while the inbox is off. */
    drops,
  };
}
