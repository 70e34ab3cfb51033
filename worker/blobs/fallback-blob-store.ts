import type { BlobStore } from './ports.ts';

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
