import { BlobRecord } from '../../protocol/index.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { BlobStore } from './ports.ts';
import { withTimeout, writePaced, type WritePacing } from '../platform/store-calls.ts';

/** The part of R2 that graft uses; `R2Bucket` fits it, and so does the fake of the tests. */
export interface ObjectBucket {
  get(key: string): Promise<{ body: ReadableStream<Uint8Array>; text(): Promise<string> } | null>;
  /** @param options.sha256 hex; the bucket refuses bytes that have another. */
  put(key: string, value: string | Uint8Array<ArrayBuffer>, options?: { sha256: string }): Promise<unknown>;
  delete(keys: string | string[]): Promise<void>;
}

/**
 * `blob/<digest>/<sha256 of the part>` -> part, its sha256 checked by R2; `blob/<digest>` -> the file's record; files of
 * before have their parts under `blob/<digest>/<i>`. R2 has no cache: what is read is what is there.
 */
export function createR2BlobStore(params: {
  bucket: ObjectBucket;
  /** Until a part begins to arrive, or a record has. */
  timeoutMs: number;
  pacing: WritePacing;
}): BlobStore {
  const { bucket, timeoutMs, pacing } = params;
  const recordKey = (digest: string) => `blob/${digest}`;
  const partKey = (digest: string, part: string | number) => `blob/${digest}/${part}`;
  const guard = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailable('R2', error);
    }
  };
  const readText = async (key: string) => (await bucket.get(key))?.text() ?? null;
  return {
    putPart: (digest, sha256, bytes) =>
      writePaced('R2', pacing, () => bucket.put(partKey(digest, sha256), bytes, { sha256 })),
    putRecord: (digest, record) =>
      writePaced('R2', pacing, () => bucket.put(recordKey(digest), JSON.stringify(record))),
    getRecord: (digest) =>
      guard(async () => {
        const text = await withTimeout(readText(recordKey(digest)), timeoutMs);
        // A record that is no record is the store's trouble, not the absence of the blob.
        return text === null ? null : BlobRecord.parse(JSON.parse(text));
      }),
    getPart: (digest, { index, sha256 }) =>
      guard(async () => {
        for (const key of [partKey(digest, sha256), partKey(digest, index)]) {
          const object = await withTimeout(bucket.get(key), timeoutMs);
          if (object !== null) return object.body;
        }
        return null;
      }),
    deleteParts: (digest, sha256s) =>
      guard(async () => {
        if (sha256s.length > 0) await bucket.delete(sha256s.map((sha256) => partKey(digest, sha256)));
      }),
    delete: (digest, parts) =>
      guard(async () => {
        await bucket.delete(recordKey(digest));
        if (parts > 0)
          await bucket.delete(Array.from({ length: parts }, (_, index) => partKey(digest, index)));
      }),
  };
}
