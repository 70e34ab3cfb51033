import { BlobRecord } from '../../protocol/index.ts';
import { deletePaced, putPaced, type KvNamespace, type WritePacing } from './kv-namespace.ts';
import { StoreUnavailable, type BlobStore } from './types.ts';
import { withTimeout } from './with-timeout.ts';

/**
 * `blob:<digest>:<i>` -> part, `blob:<digest>` -> its record. Not sealed: the origin checks the whole file
 * against its digest, which comes from a sealed manifest.
 */
export function createKvBlobStore(params: {
  kv: KvNamespace;
  /** Seconds; blobs never change. */
  cacheTtl: number;
  /** Seconds; for a part that ought to be there and is not. */
  retryCacheTtl: number;
  /** Until a part begins to arrive. */
  timeoutMs: number;
  pacing: WritePacing;
}): BlobStore {
  const { kv, cacheTtl, retryCacheTtl, timeoutMs, pacing } = params;
  return {
    putPart: (digest, index, bytes) => putPaced(kv, `blob:${digest}:${index}`, bytes, pacing),
    putRecord: (digest, record) => putPaced(kv, `blob:${digest}`, JSON.stringify(record), pacing),
    async getRecord(digest) {
      const key = `blob:${digest}`;
      try {
        const text =
          (await withTimeout(kv.get(key, { type: 'text', cacheTtl }), timeoutMs)) ??
          (await withTimeout(kv.get(key, { type: 'text', cacheTtl: retryCacheTtl }), timeoutMs));
        // A record that is no record is the store's trouble, not the absence of the blob.
        return text === null ? null : BlobRecord.parse(JSON.parse(text));
      } catch (error) {
        throw new StoreUnavailable('KV', error);
      }
    },
    async getPart(digest, index) {
      const key = `blob:${digest}:${index}`;
      try {
        return (
          (await withTimeout(kv.get(key, { type: 'stream', cacheTtl }), timeoutMs)) ??
          (await withTimeout(kv.get(key, { type: 'stream', cacheTtl: retryCacheTtl }), timeoutMs))
        );
      } catch (error) {
        throw new StoreUnavailable('KV', error);
      }
    },
    async delete(digest, parts) {
      await deletePaced(kv, `blob:${digest}`, pacing);
      for (let index = 0; index < parts; index += 1) await deletePaced(kv, `blob:${digest}:${index}`, pacing);
    },
  };
}
