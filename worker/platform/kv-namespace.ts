import { writePaced, type WritePacing } from './store-calls.ts';
import { StoreUnavailable, type KeyListing } from './ports.ts';

/** The part of Workers KV that graft uses; `KVNamespace` fits it, and so does the fake of the tests. */
export interface KvNamespace {
  get(key: string, options: { type: 'text'; cacheTtl: number }): Promise<string | null>;
  get(key: string, options: { type: 'stream'; cacheTtl: number }): Promise<ReadableStream<Uint8Array> | null>;
  /** One read for several keys, at most 100. */
  get(keys: string[], options: { type: 'text'; cacheTtl: number }): Promise<Map<string, string | null>>;
  /** @param options.expirationTtl seconds, 60 at least, after which it is gone; it stays unless given. */
  put(
    key: string,
    value: string | Uint8Array<ArrayBuffer>,
    options?: { expirationTtl?: number },
  ): Promise<void>;
  delete(key: string): Promise<void>;
  /** A page of at most `limit` keys (1,000 unless given, and at most), in the order of their bytes. */
  list(options: { prefix: string; cursor: string | null; limit?: number }): Promise<{
    keys: { name: string }[];
    list_complete: boolean;
    cursor?: string;
  }>;
}

/**
 * Writes, and again after a pause when the key was written within the last second.
 * @throws StoreUnavailable
 */
export const putPaced = (
  kv: KvNamespace,
  key: string,
  value: string | Uint8Array<ArrayBuffer>,
  pacing: WritePacing,
  expirationTtl?: number,
): Promise<void> =>
  writePaced('KV', pacing, () => kv.put(key, value, expirationTtl === undefined ? {} : { expirationTtl }));

/** Deletes likewise; a deletion is a write. @throws StoreUnavailable */
export const deletePaced = (kv: KvNamespace, key: string, pacing: WritePacing): Promise<void> =>
  writePaced('KV', pacing, () => kv.delete(key));

export function createKvListing(kv: KvNamespace): KeyListing {
  return {
    async list({ prefix, cursor, limit }) {
      try {
        const page = await kv.list({ prefix, cursor, limit });
        return {
          items: page.keys.map(({ name }) => name.slice(prefix.length)),
          cursor: page.list_complete ? null : (page.cursor ?? null),
        };
      } catch (error) {
        throw new StoreUnavailable('KV', error);
      }
    },
  };
}
