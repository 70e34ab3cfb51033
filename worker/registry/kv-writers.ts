/** What writes names, keys and grants to KV, one change of a record after the other: inside a Durable Object. */
import { createKvGrantIndex } from '../access/kv-grant-index.ts';
import { createKvKeyIndex } from '../access/kv-key-index.ts';
import type { GrantLedger } from '../access/ports-grants.ts';
import type { KeyLedger, RightsWriter } from '../access/ports.ts';
import { createRightsSync } from '../access/rights-sync.ts';
import { createKvExperimentIndex } from '../experiments/kv-experiment-index.ts';
import { KV_WRITE_PAUSE_MS, KV_WRITE_TRIES, POINTER_CACHE_TTL_S, RETRY_AFTER_MS } from '../limits.ts';
import type { KvNamespace } from '../platform/kv-namespace.ts';
import type { Sealer } from '../platform/sealed-value.ts';
import { createKvNameIndex } from './kv-name-index.ts';
import { POINTER_INTERVAL_MS, POINTER_WRITE_TIMEOUT_MS } from './limits.ts';
import { createPointerSync } from './pointer-sync.ts';
import type { PointerWriter } from './ports-pointers.ts';
import type { Registry } from './ports.ts';

export function createKvWriters(params: {
  kv: KvNamespace;
  sealer: Sealer;
  registry: Registry;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): PointerWriter & RightsWriter {
  const { kv, sealer, now, sleep } = params;
  const pointer = {
    ...{ kv, sealer, cacheTtl: POINTER_CACHE_TTL_S, retryAfterMs: RETRY_AFTER_MS },
    pacing: { pauseMs: KV_WRITE_PAUSE_MS, tries: KV_WRITE_TRIES, sleep },
  };
  const lanes = { intervalMs: POINTER_INTERVAL_MS, timeoutMs: POINTER_WRITE_TIMEOUT_MS, now, sleep };
  return {
    ...createPointerSync({
      ...lanes,
      registry: params.registry,
      names: createKvNameIndex(pointer),
      experiments: createKvExperimentIndex(pointer),
    }),
    ...createRightsSync({
      ...lanes,
      keyLedger: params.keyLedger,
      keys: createKvKeyIndex(pointer),
      grantLedger: params.grantLedger,
      grants: createKvGrantIndex(pointer),
    }),
  };
}
