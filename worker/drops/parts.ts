/** What takes dropped files in: by the schedule, and for requests by a name that does not exist. */
import { mayUseChain } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/ports.ts';
import {
  type KvNamespace,
  deletePaced,
  putPaced,
  type WritePacing,
  withTimeout,
} from '../platform/store-calls.ts';
import type { IntakeDeps, RequestLife } from '../registry/registry-deps.ts';
import { DROP_CACHE_TTL_S, DROP_TIMEOUT_MS } from './limits.ts';
import type { DropBox, DropLedger } from './ports.ts';
import {
  takeAllDrops,
  type DropPass,
  createTakeDropOnMiss,
  type TakeDropOnMiss,
  type DropDeps,
} from './take-drops.ts';
import { StoreUnavailable } from '../platform/ports.ts';

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

const PREFIX = 'drop:';
const ERROR_PREFIX = 'drop-error:';
const MAX_KEY_BYTES = 512;

/** @returns the key under which a refusal is told; a name too long for one is cut. */
const errorKey = (name: string): string => {
  let shown = name;
  while (new TextEncoder().encode(ERROR_PREFIX + shown).length > MAX_KEY_BYTES) shown = shown.slice(0, -1);
  return ERROR_PREFIX + shown;
};

/** `drop:<name>` -> a packed file, put there by hand; `drop-error:<name>` -> why it was not taken, for people to read. */
export function createKvDropBox(params: {
  kv: KvNamespace;
  /** Seconds that a file read again may be old. */
  cacheTtl: number;
  /** Until a file has arrived. */
  timeoutMs: number;
  pacing: WritePacing;
}): DropBox {
  const { kv, cacheTtl, timeoutMs, pacing } = params;
  const guard = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailable('KV', error);
    }
  };
  const readWhole = async (name: string) => {
    const stream = await kv.get(PREFIX + name, { type: 'stream', cacheTtl });
    return stream === null ? null : new Uint8Array(await new Response(stream).arrayBuffer());
  };
  return {
    list: (cursor) =>
      guard(async () => {
        const page = await withTimeout(kv.list({ prefix: PREFIX, cursor }), timeoutMs);
        return {
          items: page.keys.map((key) => key.name.slice(PREFIX.length)),
          cursor: page.list_complete ? null : (page.cursor ?? null),
        };
      }),
    read: (name) => guard(() => withTimeout(readWhole(name), timeoutMs)),
    remove: (name) => deletePaced(kv, PREFIX + name, pacing),
    putError: (name, error) => putPaced(kv, errorKey(name), JSON.stringify(error), pacing),
    clearError: (name) => deletePaced(kv, errorKey(name), pacing),
  };
}
