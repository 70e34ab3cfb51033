import type { BulkIndex, Index, Lookup } from './ports.ts';

export interface Forgetful {
  /** The next read of the key asks again; call it when the key was written here. */
  forget(key: string): void;
  /** Of all keys; for what was written under keys that are not known here. */
  forgetAll(): void;
}

export interface ShortMemory<T> extends Index<T>, Forgetful {}
export interface BulkShortMemory<T> extends BulkIndex<T>, Forgetful {}

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
