import { BlobRecord } from '../../protocol/index.ts';
import { deletePaced, putPaced, type KvNamespace } from '../platform/kv-namespace.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { BlobStore } from './ports.ts';
import { withTimeout, type WritePacing } from '../platform/store-calls.ts';

/**
 * `blob:<digest>:<sha256 of the part>` -> part, `blob:<digest>` -> the file's record; files of before have their parts
 * under `blob:<digest>:<i>`. Not sealed: the origin checks each part and the whole file against its digest, which comes
 * from a sealed manifest.
 */
export function createKvBlobStore(params: {
  kv: KvNamespace;
  /** Seconds; parts never change. */
  cacheTtl: number;
  /** Seconds; records seldom change. */
  recordCacheTtl: number;
  /** Seconds; for what ought to be there and is not. KV looks again when its copy is older than this. */
  retryCacheTtl: number;
  /** Until a part begins to arrive. */
  timeoutMs: number;
  pacing: WritePacing;
}): BlobStore {
  const { kv, cacheTtl, recordCacheTtl, retryCacheTtl, timeoutMs, pacing } = params;
  const partKey = (digest: string, part: string | number) => `blob:${digest}:${part}`;
  /** Each key in turn, then all of them past the cache of absences. */
  async function firstOf<T>(
    keys: readonly string[],
    ttls: readonly number[],
    read: (key: string, cacheTtl: number) => Promise<T | null>,
  ): Promise<T | null> {
    try {
      for (const ttl of ttls)
        for (const key of keys) {
          const found = await withTimeout(read(key, ttl), timeoutMs);
          if (found !== null) return found;
        }
      return null;
    } catch (error) {
      throw new StoreUnavailable('KV', error);
    }
  }
  const ttlsOf = (usual: number, fresh = false) => (fresh ? [retryCacheTtl] : [usual, retryCacheTtl]);
  return {
    putPart: (digest, sha256, bytes) => putPaced(kv, partKey(digest, sha256), bytes, pacing),
    putRecord: (digest, record) => putPaced(kv, `blob:${digest}`, JSON.stringify(record), pacing),
    async getRecord(digest, { fresh } = {}) {
      const text = await firstOf([`blob:${digest}`], ttlsOf(recordCacheTtl, fresh), (key, ttl) =>
        kv.get(key, { type: 'text', cacheTtl: ttl }),
      );
      try {
        return text === null ? null : BlobRecord.parse(JSON.parse(text));
      } catch (error) {
        // A record that is no record is the store's trouble, not the absence of the blob.
        throw new StoreUnavailable('KV', error);
      }
    },
    getPart: (digest, { index, sha256 }, { fresh } = {}) =>
      firstOf([partKey(digest, sha256), partKey(digest, index)], ttlsOf(cacheTtl, fresh), (key, ttl) =>
        kv.get(key, { type: 'stream', cacheTtl: ttl }),
      ),
    async deleteParts(digest, sha256s) {
      for (const sha256 of sha256s) await deletePaced(kv, partKey(digest, sha256), pacing);
    },
    async delete(digest, parts) {
      await deletePaced(kv, `blob:${digest}`, pacing);
      for (let index = 0; index < parts; index += 1) await deletePaced(kv, partKey(digest, index), pacing);
    },
  };
}
