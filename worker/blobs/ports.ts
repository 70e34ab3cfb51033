/** Ports of adapters' bytes: storage of parts, and their metadata. */
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';

/** @param fresh bypasses long caches, for data that was missing or corrupted before. */
export interface BlobReading {
  fresh?: boolean;
}

/**
 * Parts of canonical files, each under its own sha256, so that a key always has the same bytes, whoever sends
 * them. A part is read only after its record. Reads are not verified here.
 */
export interface BlobStore {
  /** @param sha256 of the bytes, hex, computed from them; verified by stores that can. */
  putPart(digest: string, sha256: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  putRecord(digest: string, record: BlobRecord): Promise<void>;
  /** @returns null when there is none. @throws StoreUnavailable */
  getRecord(digest: string, reading?: BlobReading): Promise<BlobRecord | null>;
  /** @returns null when the part is not available (yet). */
  getPart(digest: string, sha256: string, reading?: BlobReading): Promise<ReadableStream<Uint8Array> | null>;
  /** Missing data is no error. @throws StoreUnavailable; the call may be repeated. */
  deleteParts(digest: string, sha256s: readonly string[]): Promise<void>;
  /** Removes the record, likewise. */
  delete(digest: string): Promise<void>;
}
