/** Memories in front of an index: of a moment, of what it last said, and what the system of record says where it has nothing. */
import { type BulkIndex, type Index, type Lookup, StoreUnavailable } from './ports.ts';
import { withTimeout } from './store-calls.ts';
import { logLine } from '../log.ts';

export interface Forgetful {
  /** The next read of the key asks again; call it when the key was written here. */
  forget(key: string): void;
  /** Of all keys; for what was written under keys that are not known here. */
  forgetAll(): void;
}

export interface ShortMemory<T> extends Index<T>, Forgetful {}
interface BulkShortMemory<T> extends BulkIndex<T>, Forgetful {}

interface ShortMemoryOptions {
  ttlMs: number;
  maxEntries: number;
  now: () => number;
  /**
   * Also what is not there is remembered, apart and as many: else a name that may not be used could be told from one
   * that is missing by the read that it saves.
   */
  absences?: boolean;
}

/**
 * Gives a value again that the index gave a moment ago, so that a hot key or name costs no read: a KV read takes most of
 * what the edge adds to a request. What is written through this isolate is seen at once; what others write, `ttlMs`
 * later than KV itself shows it. Never remembers trouble or a stale value, and an absence only where asked to.
 */
export function withShortMemory<T>(index: BulkIndex<T>, options: ShortMemoryOptions): BulkShortMemory<T>;
export function withShortMemory<T>(index: Index<T>, options: ShortMemoryOptions): ShortMemory<T>;
export function withShortMemory<T>(
  index: Index<T> | BulkIndex<T>,
  options: ShortMemoryOptions,
): ShortMemory<T> | BulkShortMemory<T> {
  const { ttlMs, maxEntries, now, absences = false } = options;
  type Fresh = Map<string, { lookup: Lookup<T>; until: number }>;
  const found: Fresh = new Map();
  const missing: Fresh = new Map();
  /** A read that began before a write may return what was there before it, and is not remembered. */
  let writes = 0;

  const recall = (key: string): Lookup<T> | null => {
    const known = found.get(key) ?? missing.get(key);
    return known !== undefined && now() < known.until ? known.lookup : null;
  };

  /** @param before count of writes when the read began. */
  const remember = (key: string, lookup: Lookup<T>, before: number) => {
    found.delete(key);
    missing.delete(key);
    if (writes !== before || lookup.state === 'trouble') return;
    if (lookup.state === 'found' ? lookup.stale : !absences) return;
    const fresh = lookup.state === 'found' ? found : missing;
    fresh.set(key, { lookup, until: now() + ttlMs });
    const oldest = fresh.keys().next();
    if (fresh.size > maxEntries && !oldest.done) fresh.delete(oldest.value);
  };

  const memory: ShortMemory<T> = {
    forget(key) {
      writes += 1;
      found.delete(key);
      missing.delete(key);
    },
    forgetAll() {
      writes += 1;
      found.clear();
      missing.clear();
    },
    async get(key) {
      const known = recall(key);
      if (known !== null) return known;
      const before = writes;
      const lookup = await index.get(key);
      remember(key, lookup, before);
      return lookup;
    },
  };
  if (!('getMany' in index)) return memory;
  return {
    ...memory,
    async getMany(keys) {
      const known = keys.map(recall);
      const wanted = keys.filter((_, i) => known[i] === null);
      const before = writes;
      const read = wanted.length === 0 ? [] : await index.getMany(wanted);
      for (const [i, key] of wanted.entries()) remember(key, read[i] as Lookup<T>, before);
      return known.map((lookup) => lookup ?? (read.shift() as Lookup<T>));
    },
  };
}

interface LastKnownGoodOptions {
  timeoutMs: number;
  maxAgeMs: number;
  maxEntries: number;
  retryAfterMs: number;
  now: () => number;
}

/**
 * Remembers what an index last said and gives it, marked stale, when the index is in trouble: it throws, hangs, answers
 * garbage, or has forgotten a key that it knew (absence after presence is KV losing sight, since keys leave by a
 * tombstone). Never consulted while the index answers, so that a change is seen at the next read.
 */
export function withLastKnownGood<T>(index: BulkIndex<T>, options: LastKnownGoodOptions): BulkIndex<T>;
export function withLastKnownGood<T>(index: Index<T>, options: LastKnownGoodOptions): Index<T>;
export function withLastKnownGood<T>(
  index: Index<T> | BulkIndex<T>,
  options: LastKnownGoodOptions,
): BulkIndex<T> | Index<T> {
  const { timeoutMs, maxAgeMs, maxEntries, retryAfterMs, now } = options;
  const known = new Map<string, { value: T; at: number }>();

  const ask = async <A>(question: () => Promise<A>, otherwise: (trouble: Lookup<T>) => A): Promise<A> => {
    try {
      return await withTimeout(question(), timeoutMs);
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown error';
      return otherwise({ state: 'trouble', reason, retryAfterMs });
    }
  };

  const remember = (key: string, value: T) => {
    known.delete(key);
    known.set(key, { value, at: now() });
    if (known.size <= maxEntries) return;
    const oldest = known.keys().next();
    if (!oldest.done) known.delete(oldest.value);
  };

  const settle = (key: string, lookup: Lookup<T>): Lookup<T> => {
    if (lookup.state === 'found') remember(key, lookup.value);
    else if (lookup.state === 'gone') known.delete(key);
    else {
      const last = known.get(key);
      if (last !== undefined && now() - last.at <= maxAgeMs)
        return { state: 'found', value: last.value, stale: true };
    }
    return lookup;
  };

  const get = async (key: string) =>
    settle(
      key,
      await ask(
        () => index.get(key),
        (trouble) => trouble,
      ),
    );
  if (!('getMany' in index)) return { get };
  return {
    get,
    async getMany(keys) {
      const lookups = await ask(
        () => index.getMany(keys),
        (trouble) => keys.map(() => trouble),
      );
      return lookups.map((lookup, i) => settle(keys[i] as string, lookup));
    },
  };
}

const SECOND_MS = 1_000;

/**
 * Asks the system of record when an index has nothing: KV remembers for a while that there was nothing, and may wrongly
 * say so, and nobody is to be denied for that. When the system of record does not answer, or has been asked too often,
 * the index's word stands.
 * @param params.ask throws StoreUnavailable.
 * @param params.perSecond questions: whoever makes keys up must not be able to keep the system of record busy.
 */
export function withSecondOpinion<T>(
  index: Index<T>,
  params: { ask: (key: string) => Promise<Lookup<T>>; perSecond: number; now: () => number },
): Index<T> {
  const { ask, perSecond, now } = params;
  let since = -Infinity;
  let asked = 0;

  const mayAsk = (): boolean => {
    if (now() - since >= SECOND_MS) {
      since = now();
      asked = 0;
    }
    asked += 1;
    return asked <= perSecond;
  };

  return {
    async get(key) {
      const lookup = await index.get(key);
      if (lookup.state !== 'absent' || !mayAsk()) return lookup;
      try {
        return await ask(key);
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        logLine('absence_unconfirmed', { reason: error.message });
        return lookup;
      }
    },
  };
}
