import type { BulkIndex, Index, Lookup } from './ports.ts';
import { withTimeout } from './with-timeout.ts';

export interface LastKnownGoodOptions {
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
