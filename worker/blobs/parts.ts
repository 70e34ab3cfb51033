/** Composition of where adapters' bytes lie: R2 where it is bound, else KV. */
import {
  BLOB_TIMEOUT_MS,
  BLOB_CACHE_TTL_S,
  BLOB_RECORD_CACHE_TTL_S,
  BLOB_RETRY_CACHE_TTL_S,
} from './limits.ts';
import { createKvBlobStore } from './kv-blob-store.ts';
import type { KvNamespace } from '../platform/kv-namespace.ts';
import { createR2BlobStore, type ObjectBucket } from './r2-blob-store.ts';
import type { BlobStore } from './ports.ts';
import type { WritePacing } from '../platform/store-calls.ts';

/** @param params.bucket what is not there is read from KV, where it went before the bucket was bound. */
export function createBlobs(params: {
  kv: KvNamespace;
  bucket: ObjectBucket | undefined;
  pacing: WritePacing;
}): BlobStore {
  const { kv, bucket, pacing } = params;
  const timeoutMs = BLOB_TIMEOUT_MS;
  const inKv = createKvBlobStore({
    kv,
    cacheTtl: BLOB_CACHE_TTL_S,
    recordCacheTtl: BLOB_RECORD_CACHE_TTL_S,
    retryCacheTtl: BLOB_RETRY_CACHE_TTL_S,
    timeoutMs,
    pacing,
  });
  return bucket === undefined
    ? inKv
    : createFallbackBlobStore(createR2BlobStore({ bucket, timeoutMs, pacing }), inKv);
}

/**
 * Blobs go to `first`; what it lacks is read from `second`, where blobs from before `first` was bound lie. Trouble of
 * either is trouble: a part that `first` may have is not looked for elsewhere.
 */
export function createFallbackBlobStore(first: BlobStore, second: BlobStore): BlobStore {
  return {
    putPart: (digest, sha256, bytes) => first.putPart(digest, sha256, bytes),
    putRecord: (digest, record) => first.putRecord(digest, record),
    getRecord: async (digest, reading) =>
      (await first.getRecord(digest, reading)) ?? second.getRecord(digest, reading),
    getPart: async (digest, part, reading) =>
      (await first.getPart(digest, part, reading)) ?? second.getPart(digest, part, reading),
    async deleteParts(digest, sha256s) {
      await first.deleteParts(digest, sha256s);
      await second.deleteParts(digest, sha256s);
    },
    async delete(digest, parts) {
      await first.delete(digest, parts);
      await second.delete(digest, parts);
    },
  };
}
