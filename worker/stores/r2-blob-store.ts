import { BlobRecord } from '../../protocol/index.ts';
import { StoreUnavailable, type BlobStore } from './types.ts';
import { withTimeout } from './with-timeout.ts';
import { writePaced, type WritePacing } from './write-paced.ts';

/** The part of R2 that graft uses; `R2Bucket` fits it, and so does the fake of the tests. */
export interface ObjectBucket {
  get(key: string): Promise<{ body: ReadableStream<Uint8Array>; text(): Promise<string> } | null>;
  /** @param options.sha256 hex; the bucket refuses bytes that have another. */
  put(key: string, value: string | Uint8Array<ArrayBuffer>, options?: { sha256: string }): Promise<unknown>;
  delete(keys: string | string[]): Promise<void>;
}

/**
 * `blob/<digest>/<i>` -> part, its sha256 checked by R2; `blob/<digest>` -> its record. R2 has no cache of absences:
 * what is not there is not asked for twice.
 */
export function createR2BlobStore(params: {
  bucket: ObjectBucket;
  /** Until a part begins to arrive, or a record has. */
  timeoutMs: number;
  pacing: WritePacing;
}): BlobStore {
  const { bucket, timeoutMs, pacing } = params;
  const recordKey = (digest: string) => `blob/${digest}`;
  const partKey = (digest: string, index: number) => `blob/${digest}/${index}`;
  const guard = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailable('R2', error);
    }
  };
  const readText = async (key: string) => (await bucket.get(key))?.text() ?? null;
  return {
    putPart: (digest, index, bytes, sha256) =>
      writePaced('R2', pacing, () => bucket.put(partKey(digest, index), bytes, { sha256 })),
    putRecord: (digest, record) =>
      writePaced('R2', pacing, () => bucket.put(recordKey(digest), JSON.stringify(record))),
    getRecord: (digest) =>
      guard(async () => {
        const text = await withTimeout(readText(recordKey(digest)), timeoutMs);
        // A record that is no record is the store's trouble, not the absence of the blob.
        return text === null ? null : BlobRecord.parse(JSON.parse(text));
      }),
    getPart: (digest, index) =>
      guard(async () => {
        const object = await withTimeout(bucket.get(partKey(digest, index)), timeoutMs);
        return object === null ? null : object.body;
      }),
    delete: (digest, parts) =>
      guard(async () => {
        await bucket.delete(recordKey(digest));
        if (parts > 0)
          await bucket.delete(Array.from({ length: parts }, (_, index) => partKey(digest, index)));
      }),
  };
}
