/** Ports of adapters' bytes: where parts lie, and what is known of them. */
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';

/** @param fresh asks past the long caches, where something was found missing or damaged before. */
export interface BlobReading {
  fresh?: boolean;
}

/**
 * Parts of canonical files, each under its own sha256, so that a place never holds other bytes than it did, whoever
 * sends them. A part is only read after its record was seen. What is read is not checked here.
 */
export interface BlobStore {
  /** @param sha256 of the bytes, hex, computed from them; a store that can check it does. */
  putPart(digest: string, sha256: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  putRecord(digest: string, record: BlobRecord): Promise<void>;
  /** @returns null when there is none. @throws StoreUnavailable */
  getRecord(digest: string, reading?: BlobReading): Promise<BlobRecord | null>;
  /** @returns null when the part cannot be had (yet). */
  getPart(digest: string, sha256: string, reading?: BlobReading): Promise<ReadableStream<Uint8Array> | null>;
  /** What is not there is no error. @throws StoreUnavailable; the call may be repeated. */
  deleteParts(digest: string, sha256s: readonly string[]): Promise<void>;
  /** Takes away the record, likewise. */
  delete(digest: string): Promise<void>;
}
