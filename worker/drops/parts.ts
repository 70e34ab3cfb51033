/** What takes dropped files in: by the schedule, and for requests by a name that does not exist. */
import { mayUseChain } from '../access/authorize.ts';
import type { GrantLedger } from '../access/ports-grants.ts';
import type { KvNamespace } from '../platform/kv-namespace.ts';
import type { WritePacing } from '../platform/write-paced.ts';
import type { IntakeDeps, RequestLife } from '../registry/registry-deps.ts';
import { createKvDropBox } from './kv-drop-box.ts';
import { DROP_CACHE_TTL_S, DROP_TIMEOUT_MS } from './limits.ts';
import type { DropBox, DropLedger } from './ports.ts';
import { takeAllDrops, type DropPass } from './take-all-drops.ts';
import { createTakeDropOnMiss, type TakeDropOnMiss } from './take-drop-on-miss.ts';
import type { DropDeps } from './take-drop.ts';

export interface Drops {
  /** Where the files lie. */
  box: DropBox;
  onMiss: TakeDropOnMiss;
  /** One pass over all that lies there. */
  takeAll: (keepAlive: RequestLife['keepAlive']) => Promise<DropPass>;
}

export const createDropBox = (params: { kv: KvNamespace; pacing: WritePacing }): DropBox =>
  createKvDropBox({ ...params, cacheTtl: DROP_CACHE_TTL_S, timeoutMs: DROP_TIMEOUT_MS });

/** @param params.tenant owner of what is dropped where no name above it has one. */
export function createDrops(
  params: IntakeDeps & {
    kv: KvNamespace;
    pacing: WritePacing;
    grantLedger: GrantLedger;
    dropLedger: DropLedger;
    tenant: string;
  },
): Drops {
  const { kv, pacing, tenant, ...intake } = params;
  const deps: DropDeps = {
    ...intake,
    mayUseChain,
    dropTenant: tenant,
    drops: createDropBox({ kv, pacing }),
  };
  return {
    box: deps.drops,
    onMiss: createTakeDropOnMiss({ ...deps, sleep: pacing.sleep }),
    takeAll: (keepAlive) => takeAllDrops(deps, { signal: new AbortController().signal, keepAlive }),
  };
}
