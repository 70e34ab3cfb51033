/** What writes names, keys and grants to KV, one change of a record after the other: inside a Durable Object. */
import { createKvGrantIndex, createKvKeyIndex } from '../access/kv-rights-index.ts';
import { type GrantLedger, heldGrants, type GrantIndex } from '../access/ports-grants.ts';
import { type KeyLedger, type RightsWriter, keyIdOf, keyRecordOf, type KeyIndex } from '../access/ports.ts';
import { createKvExperimentIndex } from '../experiments/kv-experiment-index.ts';
import {
  KV_WRITE_PAUSE_MS,
  KV_WRITE_TRIES,
  POINTER_CACHE_TTL_S,
  RETRY_AFTER_MS,
  GONE_MARK_TTL_S,
} from '../limits.ts';
import type { KvNamespace } from '../platform/kv-namespace.ts';
import type { Sealer } from '../platform/sealed-index.ts';
import { createKvNameIndex } from './kv-name-index.ts';
import { POINTER_INTERVAL_MS, POINTER_WRITE_TIMEOUT_MS } from './limits.ts';
import type { PointerWriter, NameIndex } from './ports-pointers.ts';
import type { Registry, Pointer } from './ports.ts';
import { logLine, reasonOf } from '../log.ts';
import { experimentEntryOf, nameEntryOf } from './write-pointer.ts';
import type { ExperimentIndex } from '../experiments/ports.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import { withTimeout } from '../platform/store-calls.ts';

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

/**
 * Writes pointers, and the experiments of their names, in the order of their changes ({@link createWriteLanes}), and
 * strikes them off the names that KV is still to be told of. All calls for a name must come to the same instance.
 */
export function createPointerSync(
  params: {
    registry: Pick<Registry, 'pointerToWrite' | 'pointersWritten'>;
    names: Pick<NameIndex, 'put' | 'remove'>;
    experiments: Pick<ExperimentIndex, 'put'>;
  } & Omit<Parameters<typeof createWriteLanes>[0], 'write'>,
): PointerWriter {
  const { registry, names, experiments } = params;
  /** Names of which the next write leaves a mark when there is nothing to point at, and how long, s. */
  const marks = new Map<string, number | undefined>();

  async function write(name: string, afterLate: boolean): Promise<boolean> {
    const { pointer, change } = await registry.pointerToWrite(name);
    // It was erased since.
    if (afterLate && pointer.kind === 'none' && !marks.has(name)) marks.set(name, GONE_MARK_TTL_S);
    const written = await writeEntry(name, pointer);
    if (change !== null) strikeOff({ name, change });
    return written;
  }

  async function writeEntry(name: string, pointer: Pointer): Promise<boolean> {
    if (pointer.kind === 'none' && !marks.has(name)) return false;
    const ttl = marks.get(name);
    marks.delete(name);
    // Before the manifest that leads to it; and after an end first of all, for those who have the old manifest.
    if (pointer.kind === 'version' && pointer.experiment !== undefined)
      await experiments.put(experimentEntryOf(pointer.experiment));
    const entry = nameEntryOf(name, pointer);
    if (entry === null) await names.remove(name, ttl);
    else await names.put(entry);
    return true;
  }

  /** Nobody waits for it: a name that stays noted is written once more, which does no harm. */
  function strikeOff(written: { name: string; change: number }): void {
    registry.pointersWritten([written]).catch((error: unknown) => {
      const reason = reasonOf(error);
      logLine('pointer_not_struck_off', { name: written.name, reason }, 'warning');
    });
  }

  const sync = createWriteLanes({ ...params, write });
  return {
    sync(name, options = {}) {
      const { mark = false, erased = false } = options;
      if (mark || erased) marks.set(name, erased ? GONE_MARK_TTL_S : undefined);
      return sync(name);
    },
  };
}

/**
 * Writes keys and grants in the order of their changes ({@link createWriteLanes}): what was revoked cannot come back by
 * a write that began before. All calls for a key, or for a tenant's grants, must come to the same instance.
 */
export function createRightsSync(
  params: {
    keyLedger: Pick<KeyLedger, 'get'>;
    keys: Pick<KeyIndex, 'put' | 'revoke'>;
    grantLedger: Pick<GrantLedger, 'heldBy' | 'refusedBy'>;
    grants: Pick<GrantIndex, 'put'>;
  } & Omit<Parameters<typeof createWriteLanes>[0], 'write'>,
): RightsWriter {
  const { keyLedger, keys, grantLedger, grants } = params;
  /** Hashes of which the next write leaves a mark when there is no such key. */
  const marks = new Set<string>();

  async function writeKey(hash: string, afterLate: boolean): Promise<boolean> {
    const row = await keyLedger.get(keyIdOf(hash));
    const known = row !== null && row.hash === hash;
    if (!known && !marks.has(hash) && !afterLate) return false;
    // Admin keys are never in KV.
    if (known && row.kind !== 'api') return false;
    marks.delete(hash);
    if (known && row.revokedAt === null) await keys.put(hash, keyRecordOf(row));
    else await keys.revoke(hash);
    return true;
  }

  async function writeGrants(tenant: string): Promise<boolean> {
    const [rows, refusals] = await Promise.all([grantLedger.heldBy([tenant]), grantLedger.refusedBy(tenant)]);
    await grants.put(tenant, heldGrants(rows, refusals));
    return true;
  }

  const syncKey = createWriteLanes({ ...params, write: writeKey });
  const syncGrants = createWriteLanes({ ...params, write: writeGrants });
  return {
    syncKey(hash, options = {}) {
      if (options.mark === true) marks.add(hash);
      return syncKey(hash);
    },
    syncGrants,
  };
}

interface Lane {
  /** The write that is under way; it may have read the system of record before the latest change. */
  running: Promise<void> | null;
  /** The write after it, which reads anew; everybody who comes meanwhile waits for this one. */
  queued: Promise<void> | null;
}

/**
 * Copies records from the system of record to KV, one write at a time a record, each from what is read when the write
 * begins: the last write carries the last state. All calls for a record must come to the same instance.
 * @param params.write reads the record and writes it; `afterLate`: over what one that was given up has written since,
 * so that where nothing is to be written any more, a mark is. @returns whether there was something to write.
 * @param params.intervalMs between two writes of a record.
 * @param params.timeoutMs after which a write counts as failed, so that one that hangs does not keep later ones waiting.
 * When it ends all the same, the record is written once more, since it may have landed on top of a later one.
 * @returns what writes a record: done once a state is in KV that was read after the call. @throws StoreUnavailable
 */
function createWriteLanes(params: {
  write: (record: string, afterLate: boolean) => Promise<boolean>;
  intervalMs: number;
  timeoutMs: number;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): (record: string) => Promise<void> {
  const { intervalMs, timeoutMs, now, sleep } = params;
  const lanes = new Map<string, Lane>();
  /** Unix ms of the last write of each record, as long as it matters. */
  const writtenAt = new Map<string, number>();
  /** Records that a write has landed on which was given up before, until they are written over it. */
  const landed = new Set<string>();

  async function write(record: string): Promise<void> {
    const wait = (writtenAt.get(record) ?? -Infinity) + intervalMs - now();
    if (wait > 0) await sleep(wait);
    let written = true;
    const afterLate = landed.delete(record);
    try {
      written = await params.write(record, afterLate);
    } catch (error) {
      if (afterLate) landed.add(record);
      throw error;
    } finally {
      for (const [other, at] of writtenAt) if (now() - at >= intervalMs) writtenAt.delete(other);
      if (written) writtenAt.set(record, now());
    }
  }

  async function writeInTime(record: string): Promise<void> {
    let ended = false;
    const writing = write(record).finally(() => (ended = true));
    try {
      await withTimeout(writing, timeoutMs);
    } catch (error) {
      if (!ended)
        void writing
          .catch(() => undefined)
          .then(() => {
            landed.add(record);
            return sync(record);
          })
          .catch(() => undefined);
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable('KV', error);
    }
  }

  /** @returns the write's own promise; the lane goes on to the queued one whatever became of it. */
  function start(record: string, lane: Lane): Promise<void> {
    const running = writeInTime(record).finally(() => {
      lane.running = null;
      if (lane.queued === null) lanes.delete(record);
    });
    lane.running = running;
    return running;
  }

  function sync(record: string): Promise<void> {
    const lane = lanes.get(record) ?? { running: null, queued: null };
    lanes.set(record, lane);
    if (lane.running === null && lane.queued === null) return start(record, lane);
    lane.queued ??= (lane.running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        lane.queued = null;
        return start(record, lane);
      });
    return lane.queued;
  }

  return sync;
}
