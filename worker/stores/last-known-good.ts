import type { Index, Lookup } from './types.ts';
import { withTimeout } from './with-timeout.ts';

/**
 * Remembers what an index last said and gives it, marked stale, when the index is in trouble: it throws, hangs, answers
 * garbage, or has forgotten a key that it knew (absence after presence is KV losing sight, since keys leave by a
 * tombstone). Never consulted while the index answers, so that a change is seen at the next read.
 */
export function withLastKnownGood<T>(
  index: Index<T>,
  options: {
    timeoutMs: number;
    maxAgeMs: number;
    maxEntries: number;
    retryAfterMs: number;
    now: () => number;
  },
): Index<T> {
  const { timeoutMs, maxAgeMs, maxEntries, retryAfterMs, now } = options;
  const known = new Map<string, { value: T; at: number }>();

  const ask = async (key: string): Promise<Lookup<T>> => {
    try {
      return await withTimeout(index.get(key), timeoutMs);
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown error';
      return { state: 'trouble', reason, retryAfterMs };
    }
  };

  const remember = (key: string, value: T) => {
    known.delete(key);
    known.set(key, { value, at: now() });
    if (known.size <= maxEntries) return;
    const oldest = known.keys().next();
    if (!oldest.done) known.delete(oldest.value);
  };

  return {
    async get(key) {
      const lookup = await ask(key);
      if (lookup.state === 'found') remember(key, lookup.value);
      else if (lookup.state === 'gone') known.delete(key);
      else {
        const last = known.get(key);
        if (last !== undefined && now() - last.at <= maxAgeMs)
          return { state: 'found', value: last.value, stale: true };
      }
      return lookup;
    },
  };
}
