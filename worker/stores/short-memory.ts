import type { AdapterManifest } from '../../protocol/index.ts';
import type { Index, KeyIndex, KeyRecord, Lookup, NameIndex } from './types.ts';

export interface ShortMemory<T> extends Index<T> {
  /** The next read of the key asks again; call it when the key was written here. */
  forget(key: string): void;
}

/**
 * Gives a value again that the index gave a moment ago, so that a hot key or name costs no read: a KV read takes most of
 * what the edge adds to a request. What is written through this isolate is seen at once; what others write, `ttlMs`
 * later than KV itself shows it. Remembers only what was found, never an absence, trouble, or a stale value.
 */
export function withShortMemory<T>(
  index: Index<T>,
  options: { ttlMs: number; maxEntries: number; now: () => number },
): ShortMemory<T> {
  const { ttlMs, maxEntries, now } = options;
  const fresh = new Map<string, { lookup: Lookup<T>; until: number }>();
  /** A read that began before a write may return what was there before it, and is not remembered. */
  let writes = 0;

  return {
    forget(key) {
      writes += 1;
      fresh.delete(key);
    },
    async get(key) {
      const known = fresh.get(key);
      if (known !== undefined && now() < known.until) return known.lookup;
      const before = writes;
      const lookup = await index.get(key);
      fresh.delete(key);
      if (lookup.state !== 'found' || lookup.stale || writes !== before) return lookup;
      fresh.set(key, { lookup, until: now() + ttlMs });
      const oldest = fresh.keys().next();
      if (fresh.size > maxEntries && !oldest.done) fresh.delete(oldest.value);
      return lookup;
    },
  };
}

/** Runs a write and forgets the key, also when the write failed half way. */
async function writing(memory: ShortMemory<unknown>, key: string, write: Promise<void>): Promise<void> {
  try {
    await write;
  } finally {
    memory.forget(key);
  }
}

export const forgettingNames = (index: NameIndex, memory: ShortMemory<AdapterManifest>): NameIndex => ({
  get: (name) => index.get(name),
  put: (manifest) => writing(memory, manifest.name, index.put(manifest)),
});

export const forgettingKeys = (index: KeyIndex, memory: ShortMemory<KeyRecord>): KeyIndex => ({
  get: (hash) => index.get(hash),
  put: (hash, record) => writing(memory, hash, index.put(hash, record)),
  revoke: (hash) => writing(memory, hash, index.revoke(hash)),
});
