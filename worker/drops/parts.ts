/** Composition of what takes dropped files in: by the schedule, and for requests by a name that does not exist. */
import type { Services } from '../app.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { takeAllDrops } from './take-all-drops.ts';
import { createTakeDropOnMiss, type TakeDropOnMiss } from './take-drop-on-miss.ts';
import type { DropDeps } from './take-drop.ts';
import { DROP_CACHE_TTL_S, DROP_TIMEOUT_MS } from './limits.ts';
import { mayUseChain } from '../access/authorize.ts';
import type { SqlDatabase } from '../platform/d1-database.ts';
import { createD1DropLedger } from './d1-drop-ledger.ts';
import { createKvDropBox } from './kv-drop-box.ts';
import type { KvNamespace } from '../platform/kv-namespace.ts';
import type { WritePacing } from '../platform/write-paced.ts';

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
      cacheTtl: DROP_CACHE_TTL_S,
      timeoutMs: DROP_TIMEOUT_MS,
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
