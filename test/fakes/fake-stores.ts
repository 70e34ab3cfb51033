import type { Stores } from '../../worker/parts.ts';
import { createFakeBackups } from './fake-backups.ts';
import { createFakeBlobLedger } from './fake-blob-ledger.ts';
import { createFakeDropLedger } from './fake-drops.ts';
import { createFakeErasures } from './fake-erasures.ts';
import { createFakeExperimentLedger } from './fake-experiments.ts';
import { createFakeGrantLedger } from './fake-grants.ts';
import type { FakeKv } from './fake-kv.ts';
import { createFakeKeyLedger } from './fake-ledgers.ts';
import { createFakeQuotas, createFakeUsage } from './fake-metering.ts';
import { createFakePairs } from './fake-pairs.ts';
import { createFakeFileNames, createFakeOriginHistory } from './fake-origin-history.ts';
import { createFakePins } from './fake-pins.ts';
import { createFakeRegistry } from './fake-registry.ts';
import { createFakeTallies } from './fake-tallies.ts';
import { createFakeWebhookOutbox } from './fake-webhook-outbox.ts';
import { createFakeKeptPrompts } from './fake-kept-prompts.ts';
import { createFakeTraffic } from './fake-traffic.ts';
import { createFakeTenantLimits } from './fake-tenant-limits.ts';

/** All that one edge keeps, in memory, but for what writes KV. */
export function createFakeStores(kv: FakeKv): Omit<Stores, 'writers'> {
  const registry = createFakeRegistry();
  const files = createFakeBlobLedger((digest) => registry.contains(digest));
  const tenantLimits = createFakeTenantLimits();
  const traffic = createFakeTraffic();
  const keyLedger = createFakeKeyLedger(tenantLimits.of);
  return {
    ...{ kv, bucket: undefined, registry, blobLedger: files, garbage: files, tenantLimits },
    // Only real rows can be damaged.
    rowAudit: { page: async () => ({ checked: 0, damaged: [], cursor: null }) },
    erasures: createFakeErasures(),
    backups: createFakeBackups(),
    ...{ keyLedger, keptPrompts: createFakeKeptPrompts(keyLedger) },
    grantLedger: createFakeGrantLedger(),
    usage: createFakeUsage(),
    ...{ traffic, trafficCollector: traffic },
    originHistory: createFakeOriginHistory(),
    fileNames: createFakeFileNames((digest) => registry.versionsOf({ digest, limit: 100 })),
    pins: createFakePins(registry.forExperiments),
    dropLedger: createFakeDropLedger(),
    experimentLedger: createFakeExperimentLedger(registry.forExperiments),
    tallies: createFakeTallies(),
    outbox: createFakeWebhookOutbox(),
    pairTallies: createFakePairs(),
    quotas: createFakeQuotas(),
  };
}
