/** Sealed texts of KV in Cloudflare's Cache API: one cache for all isolates of a location, and free of charge. */
import { BoundedMap } from './bounded-map.ts';
import { withTimeout } from './store-calls.ts';
import { toHex } from '../../protocol/identity.ts';

/** The part of the Cache API that graft uses; `Cache` and the tests' fake implement it. */
export interface ResponseCache {
  match(url: string): Promise<Response | undefined>;
  put(url: string, response: Response): Promise<void>;
  delete(url: string): Promise<boolean>;
}

export interface LocationCache {
  /** Never rejects. */
  get(key: string): Promise<NearText>;
  /** After the key was written here: drops the location's text, and reads past the cache until others' have expired. */
  forget(key: string): Promise<void>;
}

interface NearText {
  /** null when the location has none that is fresh. */
  text: string | null;
  /**
   * Starts to store what KV has, without waiting: an unfinished write costs a read of KV later. Its age counts from the
   * call of `get`.
   */
  keep(text: string): void;
}

const SECOND_MS = 1_000;
/** Unix ms until which a text may be used: the cache counts from when it got the text, which may be seconds later. */
const UNTIL_HEADER = 'x-graft-until';

/**
 * @param params.open called for each use: what one request opened must not be used by another.
 * @param params.address scheme and host of this worker, as Cloudflare advises for keys; null = not known yet.
 * @param params.secret keys' paths are HMACs with it, so they neither tell names nor can be guessed.
 * @param params.timeoutMs after it, KV is asked.
 */
export function createLocationCache(params: {
  open: () => Promise<ResponseCache>;
  address: () => string | null;
  secret: Uint8Array<ArrayBuffer>;
  ttlMs: number;
  timeoutMs: number;
  maxEntries: number;
  now: () => number;
}): LocationCache {
  const { open, address, secret, ttlMs, timeoutMs, maxEntries, now } = params;
  /** Keys, and until when other isolates may put back what they read before, unix ms. */
  const forgotten = new BoundedMap<string, number>(maxEntries);
  let macKey: ReturnType<typeof importKey> | undefined;

  const urlOf = async (key: string): Promise<string | null> => {
    const base = address();
    if (base === null) return null;
    const message = new TextEncoder().encode(`graft-location-v1\n${key}`);
    const mac = await crypto.subtle.sign('HMAC', await (macKey ??= importKey(secret)), message);
    return `${base}/.kv/${toHex(mac)}`;
  };

  /** A cache that fails, or takes too long, is one that has nothing. */
  async function tried<T>(key: string, work: (cache: ResponseCache, url: string) => Promise<T>) {
    const run = async (): Promise<T | undefined> => {
      const url = await urlOf(key);
      return url === null ? undefined : work(await open(), url);
    };
    try {
      return await withTimeout(run(), timeoutMs, () => undefined);
    } catch {
      return undefined;
    }
  }

  const isForgotten = (key: string): boolean => now() < (forgotten.get(key) ?? -Infinity);

  return {
    async get(key) {
      if (isForgotten(key)) return { text: null, keep: () => undefined };
      const until = now() + ttlMs;
      const text = await tried(key, async (cache, url) => {
        const response = await cache.match(url);
        if (response === undefined) return null;
        const held = await response.text();
        return now() < Number(response.headers.get(UNTIL_HEADER)) ? held : null;
      });
      return {
        // The key may have been written while the cache was asked.
        text: isForgotten(key) ? null : (text ?? null),
        keep(found) {
          if (isForgotten(key) || until <= now()) return;
          const headers = { 'cache-control': `max-age=${ttlMs / SECOND_MS}`, [UNTIL_HEADER]: `${until}` };
          void tried(key, (cache, url) => cache.put(url, new Response(found, { headers })));
        },
      };
    },
    async forget(key) {
      // Another isolate may put back what it read before this write. By then its text has expired.
      forgotten.set(key, now() + ttlMs);
      await tried(key, (cache, url) => cache.delete(url));
    },
  };
}

const importKey = (secret: Uint8Array<ArrayBuffer>) =>
  crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
