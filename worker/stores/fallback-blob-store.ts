import type { BlobStore } from './types.ts';

/**
 * Blobs go to `first`; what it lacks is read from `second`, where blobs from before `first` was bound lie. Trouble of
 * either is trouble: a part that `first` may have is not looked for elsewhere.
 */
export function createFallbackBlobStore(first: BlobStore, second: BlobStore): BlobStore {
  return {
    putPart: (digest, index, bytes, sha256) => first.putPart(digest, index, bytes, sha256),
    putRecord: (digest, record) => first.putRecord(digest, record),
    getRecord: async (digest) => (await first.getRecord(digest)) ?? second.getRecord(digest),
    getPart: async (digest, index) => (await first.getPart(digest, index)) ?? second.getPart(digest, index),
    async delete(digest, parts) {
      await first.delete(digest, parts);
      await second.delete(digest, parts);
    },
  };
}
