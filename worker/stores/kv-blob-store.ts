import { BlobRecord } from '../../protocol/index.ts';
import { putPaced, type KvNamespace, type WritePacing } from './kv-namespace.ts';
import { StoreUnavailable, type BlobStore } from './types.ts';

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
  pacing: WritePacing;
}): BlobStore {
  const { kv, cacheTtl, retryCacheTtl, pacing } = params;
  return {
    putPart: (digest, index, bytes) => putPaced(kv, `blob:${digest}:${index}`, bytes, pacing),
    putRecord: (digest, record) => putPaced(kv, `blob:${digest}`, JSON.stringify(record), pacing),
    async getRecord(digest) {
      const key = `blob:${digest}`;
      try {
        const text =
          (await kv.get(key, { type: 'text', cacheTtl })) ??
          (await kv.get(key, { type: 'text', cacheTtl: retryCacheTtl }));
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
          (await kv.get(key, { type: 'stream', cacheTtl })) ??
          (await kv.get(key, { type: 'stream', cacheTtl: retryCacheTtl }))
        );
      } catch (error) {
        throw new StoreUnavailable('KV', error);
      }
    },
  };
}
