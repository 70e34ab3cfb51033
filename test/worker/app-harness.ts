import {
  generateApiKey,
  hashApiKey,
  parseSigningKeys,
  VerifyRequest,
  type VerifyAnswer,
} from '../../protocol/index.ts';
import { createByteGate } from '../../worker/blobs/byte-gate.ts';
import { createApp, type Services } from '../../worker/app.ts';
import { createPointerSync } from '../../worker/registry/pointer-sync.ts';
import { createRightsSync } from '../../worker/access/rights-sync.ts';
import { createCounter } from '../../worker/experiments/parts.ts';
import { createMeter } from '../../worker/metering/parts.ts';
import type { Observer } from '../../worker/http/observer.ts';
import { createOriginClient } from '../../worker/origins/client.ts';
import type { Fetch } from '../../worker/origins/signed-fetch.ts';
import type { Origin } from '../../worker/origins/choose-origin.ts';
import { createKvBlobStore } from '../../worker/blobs/kv-blob-store.ts';
import { createKvGrantIndex } from '../../worker/access/kv-grant-index.ts';
import { createKvKeyIndex } from '../../worker/access/kv-key-index.ts';
import { createKvListing } from '../../worker/platform/kv-listing.ts';
import { createKvNameIndex } from '../../worker/registry/kv-name-index.ts';
import { withLastKnownGood } from '../../worker/platform/last-known-good.ts';
import { recordedGrants, recordedKey } from '../../worker/access/recorded-rights.ts';
import type { KvNamespace } from '../../worker/platform/kv-namespace.ts';
import { createSealer } from '../../worker/platform/sealed-value.ts';
import { withSecondOpinion } from '../../worker/platform/second-opinion.ts';
import type { ExperimentLedger, ExperimentTallies } from '../../worker/experiments/ports.ts';
import type { BlobLedger } from '../../worker/blobs/ports.ts';
import type { GrantLedger } from '../../worker/access/ports-grants.ts';
import type { KeyLedger, RightsWriter } from '../../worker/access/ports.ts';
import type { Registry } from '../../worker/registry/ports.ts';
import { createKvExperimentIndex } from '../../worker/experiments/kv-experiment-index.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { createFakeExperimentLedger } from '../fakes/fake-experiments.ts';
import { createFakeGrantLedger } from '../fakes/fake-grants.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { createFakeBlobLedger } from '../fakes/fake-blob-ledger.ts';
import { createFakeKeyLedger } from '../fakes/fake-ledgers.ts';
import { createFakeQuotas, createFakeUsage, type FakeQuotas } from '../fakes/fake-metering.ts';
import { createFakePins } from '../fakes/fake-pins.ts';
import { createFakeRegistry } from '../fakes/fake-registry.ts';
import { createFakeTenantLimits } from '../fakes/fake-tenant-limits.ts';
import { createFakeTallies } from '../fakes/fake-tallies.ts';
import { fakeVerification } from '../fakes/fake-trials.ts';
import { createSha256 } from '../fakes/node-sha256.ts';
import { TINY_BASE, type TinyAdapter } from '../fakes/tiny-adapters.ts';

const MiB = 1024 * 1024;

export interface AppHarness {
  clock: FakeClock;
  kv: FakeKv;
  quotas: FakeQuotas;
  services: Services;
  adminKey: string;
  /** Requests that reached the origin, as `METHOD path`. */
  asked: string[];
  /** Answers the origin's requests; by default it has every adapter. */
  origin: {
    answer: (method: string, path: string, init: RequestInit, url?: string) => Response | Promise<Response>;
  };
  request(
    path: string,
    init?: { method?: string; key?: string; body?: unknown; headers?: Record<string, string> },
  ): Promise<Response>;
  upload(adapter: TinyAdapter): Promise<Response>;
  publish(name: string, adapter: TinyAdapter, more?: object): Promise<Response>;
}

/** An origin's answer when it tries a chain that it holds and likes. */
export const verification = (init: RequestInit): VerifyAnswer => {
  const { chain = [], expected } = VerifyRequest.parse(JSON.parse(init.body as string));
  return fakeVerification({ base: TINY_BASE, chain, expected });
};

export interface AppHarnessOptions {
  verifyTimeoutMs?: number;
  kvTimeoutMs?: number;
  /** One, `o1` at `http://origin.test`, unless given. */
  origins?: readonly Origin[];
  /** Another isolate of that edge: the same stores, clock and keys, and a memory of its own. */
  beside?: AppHarness;
  /** In the place of the fake. */
  registry?: Registry;
  /** Of the same database as `registry`. */
  grantLedger?: GrantLedger;
  experimentLedger?: ExperimentLedger;
  /** Hears of every request; nobody does unless given. */
  observer?: Observer;
  /** Stands between the app and its ports, for what is cut off; pointers are then written from here. */
  wrap?: <T extends object>(port: T, name: string) => T;
}

/** The real app in this process, on the fakes: for what only fakes can do. */
export async function createAppHarness(options: AppHarnessOptions = {}): Promise<AppHarness> {
  const { beside } = options;
  const wrap = options.wrap ?? ((port) => port);
  const clock = beside?.clock ?? new FakeClock();
  const bareKv = beside?.kv ?? new FakeKv(clock.now);
  const kv = wrap<KvNamespace>(bareKv, 'kv');
  const { now, sleep } = clock;
  const asked: string[] = [];
  const origin: AppHarness['origin'] = {
    answer: (_, path, init) => {
      if (path === '/base') return Response.json(TINY_BASE);
      return Response.json(path.endsWith('/verify') ? verification(init) : { ok: true });
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
  const pacing = { pauseMs: 1_100, tries: 4, sleep };
  const pointer = {
    kv,
    sealer: createSealer(new Uint8Array(32).fill(3)),
    cacheTtl: 30,
    retryAfterMs: 2_000,
    pacing,
  };
  const memory = {
    timeoutMs: options.kvTimeoutMs ?? 1_000,
    maxAgeMs: 86_400_000,
    maxEntries: 100,
    retryAfterMs: 2_000,
    now,
  };
  const blobs = createKvBlobStore({
    kv,
    cacheTtl: 86_400,
    recordCacheTtl: 300,
    retryCacheTtl: 30,
    timeoutMs: 1_000,
    pacing,
  });
  const names = createKvNameIndex(pointer);
  const keyIndex = createKvKeyIndex(pointer);
  const grantIndex = createKvGrantIndex(pointer);
  const ownTenantLimits = createFakeTenantLimits();
  const tenantLimits = beside?.services.tenantLimits ?? ownTenantLimits;
  const keyLedger = wrap<KeyLedger>(
    beside?.services.keyLedger ?? createFakeKeyLedger(ownTenantLimits.of),
    'keyLedger',
  );
  const grantLedger = wrap<GrantLedger>(
    options.grantLedger ?? beside?.services.grantLedger ?? createFakeGrantLedger(),
    'grantLedger',
  );
  const keys = withSecondOpinion(keyIndex, {
    ask: (hash) => recordedKey(keyLedger, hash),
    perSecond: 50,
    now,
  });
  const grants = withSecondOpinion(grantIndex, {
    ask: (tenant) => recordedGrants(grantLedger, tenant),
    perSecond: 50,
    now,
  });
  const adminKey = beside?.adminKey ?? generateApiKey('ga');
  const quotas = createFakeQuotas();
  const usage = createFakeUsage();
  // Usage is written at once, and the clock stays where the test put it.
  const metering = { meter: createMeter({ quotas, usage, now, sleep: async () => undefined }), usage };
  const fakeRegistry = createFakeRegistry();
  const files = createFakeBlobLedger((digest) => fakeRegistry.contains(digest));
  const shared = beside?.services.intake;
  const registry = wrap<Registry>(options.registry ?? shared?.registry ?? fakeRegistry, 'registry');
  const blobLedger = wrap<BlobLedger>(shared?.blobLedger ?? files, 'blobLedger');
  const experimentIndex = createKvExperimentIndex(pointer);
  const lanes = { now, sleep, intervalMs: 1_000, timeoutMs: 1_000 };
  const ownPointers = createPointerSync({ ...lanes, registry, names, experiments: experimentIndex });
  const ownRights = createRightsSync({
    ...lanes,
    ...{ keyLedger, grantLedger, keys: keyIndex, grants: grantIndex },
  });
  const origins = createOriginClient({
    origins: [{ id: 'o1', url: 'http://origin.test' }],
    keys: parseSigningKeys(`k1:${Buffer.alloc(32, 7).toString('base64')}`),
    blobs,
    fetch,
    now,
    sleep,
    ...options,
  });
  const macKey = new Uint8Array(32).fill(3);
  const counting = createCounter({
    // What is counted is sent at once, as usage is.
    ...{ now, sleep: async () => undefined, macKey, acceptedMacKeys: [], hasRoom: origins.hasRoom },
    tallies: wrap<ExperimentTallies>(beside?.services.tallies ?? createFakeTallies(), 'tallies'),
  });
  const services: Services = {
    names: withLastKnownGood(names, memory),
    keys: withLastKnownGood(keys, memory),
    grants: withLastKnownGood(grants, memory),
    intake: {
      blobs,
      blobLedger,
      registry,
      pointers: options.wrap === undefined ? (shared?.pointers ?? ownPointers) : ownPointers,
      createSha256,
      gate: createByteGate({
        ...{ capacity: 72 * MiB, tenantCapacity: 48 * MiB, maxWaiting: 64, maxWaitingOfTenant: 16 },
        ...{ maxWaitMs: 30_000, pollMs: 25, staleMs: 60_000, retryAfterMs: 2_000, now, sleep },
      }),
      now,
    },
    nameIndex: names,
    listing: createKvListing(kv),
    garbage: beside?.services.garbage ?? files,
    // Only real rows can be damaged.
    rowAudit: { page: async () => ({ checked: 0, damaged: [], cursor: null }) },
    keyIndex,
    keyLedger,
    rights: wrap<RightsWriter>(beside?.services.rights ?? ownRights, 'rights'),
    grantIndex,
    grantLedger,
    ...metering,
    quotas,
    tenantLimits,
    pins: createFakePins(),
    experimentLedger:
      options.experimentLedger ??
      beside?.services.experimentLedger ??
      createFakeExperimentLedger(fakeRegistry.forExperiments),
    ...counting,
    experiments: withLastKnownGood(experimentIndex, memory),
    experimentIndex,
    origins,
    adminKeyHash: await hashApiKey(adminKey),
    page: async (path) => new Response(path),
    ...(options.observer === undefined ? {} : { observer: options.observer }),
  };
  const app = createApp(services);
  const request: AppHarness['request'] = async (path, init = {}) => {
    const raw = init.body instanceof Uint8Array;
    return app.request(path, {
      method: init.method ?? (init.body === undefined ? 'GET' : 'POST'),
      headers: { authorization: `Bearer ${init.key ?? adminKey}`, ...init.headers },
      ...(init.body === undefined
        ? {}
        : { body: raw ? (init.body as Uint8Array<ArrayBuffer>) : JSON.stringify(init.body) }),
    });
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
    quotas,
    services,
    adminKey,
    asked,
    origin,
    request,
    upload,
    async publish(name, adapter, more = {}) {
      const uploaded = await upload(adapter);
      if (!uploaded.ok) return uploaded;
      return request('/admin/versions', { body: { name, digest: adapter.digest, ...more } });
    },
  };
}
