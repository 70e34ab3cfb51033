/** Storage of adapters' parts: R2 if it is bound, otherwise KV. */
import {
  BLOB_TIMEOUT_MS,
  BLOB_CACHE_TTL_S,
  BLOB_RECORD_CACHE_TTL_S,
  BLOB_RETRY_CACHE_TTL_S,
} from './limits.ts';
import {
  type KvNamespace,
  deletePaced,
  putPaced,
  type WritePacing,
  withTimeout,
  writePaced,
} from '../platform/store-calls.ts';
import type { BlobStore } from './ports.ts';
import { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { StoreUnavailable } from '../platform/ports.ts';

/** @param params.bucket missing parts are read from KV, where they were stored before the bucket was bound. */
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
 * Blobs are written to `first`; what it lacks is read from `second`, where older blobs are. Errors of either
 * are errors: a part that `first` may have is not read elsewhere.
 */
export function createFallbackBlobStore(first: BlobStore, second: BlobStore): BlobStore {
  return {
    putPart: (digest, sha256, bytes) => first.putPart(digest, sha256, bytes),
    putRecord: (digest, record) => first.putRecord(digest, record),
    getRecord: async (digest, reading) =>
      (await first.getRecord(digest, reading)) ?? second.getRecord(digest, reading),
    getPart: async (digest, sha256, reading) =>
      (await first.getPart(digest, sha256, reading)) ?? second.getPart(digest, sha256, reading),
    async deleteParts(digest, sha256s) {
      await first.deleteParts(digest, sha256s);
      await second.deleteParts(digest, sha256s);
    },
    async delete(digest) {
      await first.delete(digest);
      await second.delete(digest);
    },
  };
}

/**
 * `blob:<digest>:<sha256 of the part>` -> part, `blob:<digest>` -> the file's record. Not sealed: the origin checks each part and the whole file against its digest, which comes
 * from a sealed manifest.
 */
export function createKvBlobStore(params: {
  kv: KvNamespace;
  /** Seconds; parts never change. */
  cacheTtl: number;
  /** Seconds; records seldom change. */
  recordCacheTtl: number;
  /** Seconds; for expected but missing data. KV refreshes copies older than this. */
  retryCacheTtl: number;
  /** Until a part starts to arrive. */
  timeoutMs: number;
  pacing: WritePacing;
}): BlobStore {
  const { kv, cacheTtl, recordCacheTtl, retryCacheTtl, timeoutMs, pacing } = params;
  const partKey = (digest: string, sha256: string) => `blob:${digest}:${sha256}`;
  /** Once more, bypassing the negative cache. */
  async function read<T>(
    ttls: readonly number[],
    get: (cacheTtl: number) => Promise<T | null>,
  ): Promise<T | null> {
    try {
      for (const ttl of ttls) {
        const found = await withTimeout(get(ttl), timeoutMs);
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
      const text = await read(ttlsOf(recordCacheTtl, fresh), (ttl) =>
        kv.get(`blob:${digest}`, { type: 'text', cacheTtl: ttl }),
      );
      try {
        return text === null ? null : BlobRecord.parse(JSON.parse(text));
      } catch (error) {
        // A malformed record is an error of the store, not an absent blob.
        throw new StoreUnavailable('KV', error);
      }
    },
    getPart: (digest, sha256, { fresh } = {}) =>
      read(ttlsOf(cacheTtl, fresh), (ttl) =>
        kv.get(partKey(digest, sha256), { type: 'stream', cacheTtl: ttl }),
      ),
    async deleteParts(digest, sha256s) {
      for (const sha256 of sha256s) await deletePaced(kv, partKey(digest, sha256), pacing);
    },
    delete: (digest) => deletePaced(kv, `blob:${digest}`, pacing),
  };
}

/** The part of R2's interface that graft uses; `R2Bucket` and the tests' fake implement it. */
export interface ObjectBucket {
  get(key: string): Promise<{ body: ReadableStream<Uint8Array>; text(): Promise<string> } | null>;
  /** @param options.sha256 hex; the bucket refuses bytes with another hash. */
  put(key: string, value: string | Uint8Array<ArrayBuffer>, options?: { sha256: string }): Promise<unknown>;
  delete(keys: string | string[]): Promise<void>;
}

/**
 * `blob/<digest>/<sha256 of the part>` -> part, its sha256 checked by R2; `blob/<digest>` -> the file's record.
 * R2 has no cache: what is read is what is there.
 */
export function createR2BlobStore(params: {
  bucket: ObjectBucket;
  /** Until a part, or a record, starts to arrive. */
  timeoutMs: number;
  pacing: WritePacing;
}): BlobStore {
  const { bucket, timeoutMs, pacing } = params;
  const recordKey = (digest: string) => `blob/${digest}`;
  const partKey = (digest: string, sha256: string) => `blob/${digest}/${sha256}`;
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
        // A malformed record is an error of the store, not an absent blob.
        return text === null ? null : BlobRecord.parse(JSON.parse(text));
      }),
    getPart: (digest, sha256) =>
      guard(async () => {
        const object = await withTimeout(bucket.get(partKey(digest, sha256)), timeoutMs);
        return object?.body ?? null;
      }),
    deleteParts: (digest, sha256s) =>
      guard(async () => {
        if (sha256s.length > 0) await bucket.delete(sha256s.map((sha256) => partKey(digest, sha256)));
      }),
    delete: (digest) => guard(() => bucket.delete(recordKey(digest))),
  };
}
