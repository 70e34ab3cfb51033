/** The hot path's reads from KV, with their caches, and the negative cache of names. */
import { BoundedMap, type CacheRoom } from './platform/bounded-map.ts';
import type { LocationCache } from './platform/location-cache.ts';
import {
  LAST_KNOWN_GOOD_ENTRIES,
  LAST_KNOWN_GOOD_MS,
  SHORT_MEMORY_MS,
  DATABASE_FALLBACKS_PER_SECOND,
} from './limits.ts';
import {
  createKvExperimentIndex,
  createKvGrantIndex,
  createKvKeyIndex,
  createKvNameIndex,
  keyKey,
  nameKey,
} from './registry/kv-indexes.ts';
import {
  withLastKnownGood,
  withShortMemory,
  type Forgetful,
  type ShortMemory,
  withDatabaseFallback,
  type SealedIndexParams,
  type Sealer,
} from './platform/kv-cache.ts';
import { recordedGrants, recordedKey } from './access/repair-rights.ts';
import type { ExperimentIndex } from './experiments/ports.ts';
import { type Index, type Lookup, StoreUnavailable } from './platform/ports.ts';
import type { RightsWriter } from './access/ports.ts';
import type { GrantLedger } from './access/d1-grants.ts';
import type { KeyLedger } from './access/d1-key-ledger.ts';
import type { PointerWriter, NegativeCache, Pointer, Registry } from './registry/ports.ts';
import { logLine } from './log.ts';

export type KvCaches = ReturnType<typeof createKvCaches>;

/**
 * The hot path reads through a short-lived cache in front and the last known good value behind; names and keys also
 * through the location's cache, just before KV. D1 confirms the absence of keys and grants here; that of names is
 * confirmed where they are resolved.
 */
export function createKvCaches(params: {
  pointer: SealedIndexParams;
  /** undefined = there is none. */
  location?: LocationCache | undefined;
  /** Opens only values sealed with the current secret: upkeep finds and rewrites older ones. */
  currentSealer: Sealer;
  keyLedger: Pick<KeyLedger, 'get'>;
  grantLedger: Pick<GrantLedger, 'heldBy' | 'refusedBy'>;
  now: () => number;
  /** A slower KV read counts as failed. */
  timeoutMs: number;
  room: CacheRoom;
}) {
  const { pointer, location, currentSealer, keyLedger, grantLedger, now, timeoutMs, room } = params;
  const near = { ...pointer, location };
  const upkeep = { ...pointer, sealer: currentSealer };
  const maxEntries = LAST_KNOWN_GOOD_ENTRIES;
  const behind = {
    timeoutMs,
    maxAgeMs: LAST_KNOWN_GOOD_MS,
    ...{ maxEntries, room },
    retryAfterMs: pointer.retryAfterMs,
    now,
  };
  const before = { ttlMs: SHORT_MEMORY_MS, maxEntries, room, now };
  const hot = <T>(index: Index<T>): ShortMemory<T> =>
    withShortMemory(withLastKnownGood(index, behind), before);
  const confirmed = <T>(index: Index<T>, ask: (key: string) => Promise<Lookup<T>>): Index<T> =>
    withDatabaseFallback(index, { ask, perSecond: DATABASE_FALLBACKS_PER_SECOND, now });

  const names = withShortMemory(withLastKnownGood(createKvNameIndex(near), behind), {
    ...before,
    absences: true,
  });
  const keys = hot(confirmed(createKvKeyIndex(near), (hash) => recordedKey(keyLedger, hash)));
  const grants = hot(confirmed(createKvGrantIndex(pointer), (tenant) => recordedGrants(grantLedger, tenant)));
  const experiments = hot(createKvExperimentIndex(pointer));
  return {
    names,
    keys,
    grants,
    experiments,
    /** Directly from KV, uncached, and only values sealed with the current secret. */
    nameIndex: createKvNameIndex(upkeep),
    /** For a name that was written elsewhere: it and its experiment are read again at the next request. */
    async forgetName(name: string): Promise<void> {
      const forgotten = location?.forget(nameKey(name));
      names.forget(name);
      // The name's experiment is unknown here; the others cost one more read.
      experiments.forgetAll();
      await forgotten;
    },
    async forgetKey(hash: string): Promise<void> {
      const forgotten = location?.forget(keyKey(hash));
      keys.forget(hash);
      await forgotten;
    },
    forgetGrants: grants.forget,
    /** For the admin API: the same, with its writes visible here at once. */
    experimentIndex: forgettingExperiments(createKvExperimentIndex(upkeep), experiments),
    /** Directly from KV, uncached; the pointer writer writes them. */
    keyIndex: createKvKeyIndex(upkeep),
    grantIndex: createKvGrantIndex(upkeep),
  };
}

/** Waits for a write, and drops cached values of it, even after a failure. */
async function written(write: Promise<void>, forget: () => void | Promise<void>): Promise<void> {
  try {
    await write;
  } finally {
    await forget();
  }
}

/** The pointer writer writes names, elsewhere; names changed through this isolate are read again here. */
export const forgettingPointers = (
  pointers: PointerWriter,
  forgetName: (name: string) => Promise<void>,
): PointerWriter => ({
  sync: (name, options) => written(pointers.sync(name, options), () => forgetName(name)),
});

/** The same for keys and grants. */
export const forgettingRights = (
  writer: RightsWriter,
  forget: { key: (hash: string) => Promise<void>; grants: (tenant: string) => void },
): RightsWriter => ({
  syncKey: (hash, options) => written(writer.syncKey(hash, options), () => forget.key(hash)),
  syncGrants: (tenant) => written(writer.syncGrants(tenant), () => forget.grants(tenant)),
});

const forgettingExperiments = (index: ExperimentIndex, { forget }: Forgetful): ExperimentIndex => ({
  get: (id) => index.get(id),
  put: (entry) => written(index.put(entry), () => forget(entry.id)),
  remove: (id) => written(index.remove(id), () => forget(id)),
});

/**
 * KV caches absences, and may wrongly report one; nobody must get a name's ancestor, or a 404, because of that.
 * So an absence is checked once per `ttlMs` and isolate. While D1 does not answer, KV's answer is used.
 */
export function createNegativeCache(params: {
  registry: Pick<Registry, 'pointer'>;
  ttlMs: number;
  maxEntries: number;
  /** @returns a dummy name that nobody can have, in place of an existing one. */
  decoyOf: (name: string) => string;
  now: () => number;
}): NegativeCache & { forget(name: string): void } {
  const { registry, ttlMs, maxEntries, decoyOf, now } = params;
  /** Names, and until when they are not looked up again, unix ms. */
  const absent = new BoundedMap<string, number>(maxEntries);
  const dummies = new BoundedMap<string, number>(maxEntries);

  const recall = (memory: Map<string, number>, name: string): boolean => {
    if (now() < (memory.get(name) ?? -Infinity)) return true;
    memory.delete(name);
    return false;
  };
  const remember = (memory: Map<string, number>, name: string) => memory.set(name, now() + ttlMs);
  /** @returns null when unknown. */
  const ask = async (name: string): Promise<Pointer | null> => {
    try {
      return await registry.pointer(name);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      logLine('absence_unconfirmed', { reason: error.message });
      return null;
    }
  };

  return {
    async confirm(name) {
      if (recall(absent, name)) return { state: 'absent' };
      const pointer = await ask(name);
      if (pointer?.kind === 'version' || pointer?.kind === 'alias')
        return { state: 'found', value: pointer, stale: false };
      if (pointer !== null) remember(absent, name);
      return { state: 'absent' };
    },
    async dummyLookup(name) {
      if (recall(dummies, name)) return;
      if ((await ask(decoyOf(name))) !== null) remember(dummies, name);
    },
    forget(name) {
      absent.delete(name);
      dummies.delete(name);
    },
  };
}

/** Names written through this isolate exist at the next request, whatever was looked up before. */
export const invalidatingNegativeCache = (
  pointers: PointerWriter,
  absence: { forget(name: string): void },
): PointerWriter => ({
  async sync(name, options) {
    try {
      await pointers.sync(name, options);
    } finally {
      absence.forget(name);
    }
  },
});
