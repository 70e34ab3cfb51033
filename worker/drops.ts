/** Composition of what takes dropped files in: by the schedule, and for requests by a name that does not exist. */
import type { Services } from './app.ts';
import type { RequestLife } from './intake/intake-deps.ts';
import { takeAllDrops } from './intake/take-all-drops.ts';
import { createTakeDropOnMiss, type TakeDropOnMiss } from './intake/take-drop-on-miss.ts';
import type { DropDeps } from './intake/take-drop.ts';
import * as limits from './limits.ts';
import { mayUseChain } from './policy/authorize.ts';
import type { SqlDatabase } from './stores/d1-database.ts';
import { createD1DropLedger } from './stores/d1-drop-ledger.ts';
import { createKvDropBox } from './stores/kv-drop-box.ts';
import type { KvNamespace } from './stores/kv-namespace.ts';
import type { WritePacing } from './stores/write-paced.ts';

export interface Drops {
  onMiss: TakeDropOnMiss;
  /** One pass over all that lies there. */
  takeAll: (keepAlive: RequestLife['keepAlive']) => Promise<void>;
}

/** @param params.tenant owner of what is dropped where no name above it has one. */
export function createDrops(params: {
  kv: KvNamespace;
  db: SqlDatabase;
  pacing: WritePacing;
  services: Pick<Services, 'intake' | 'origins' | 'grantLedger'>;
  tenant: string;
}): Drops {
  const { kv, db, pacing, services, tenant } = params;
  const { intake, origins, grantLedger } = services;
  const deps: DropDeps = {
    ...intake,
    base: () => origins.base(),
    trials: origins,
    grantLedger,
    mayUseChain,
    dropTenant: tenant,
    dropLedger: createD1DropLedger(db),
    drops: createKvDropBox({
      kv,
      cacheTtl: limits.DROP_CACHE_TTL_S,
      timeoutMs: limits.DROP_TIMEOUT_MS,
      pacing,
    }),
  };
  return {
    onMiss: createTakeDropOnMiss({ ...deps, sleep: pacing.sleep }),
    async takeAll(keepAlive) {
      await takeAllDrops(deps, { signal: new AbortController().signal, keepAlive });
    },
  };
}
