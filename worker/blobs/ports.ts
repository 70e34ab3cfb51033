/** Ports of adapters' bytes: where parts lie, and what is known of them. */
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import type { Page } from '../platform/ports.ts';

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

/** A part that a tenant sent. */
export interface SentPart extends BlobPart {
  /** Unix ms. */
  at: number;
  /** Its bytes may be read: they were not deleted since, and lie under their hash. */
  stored: boolean;
}

/**
 * Who sent which bytes. A digest is no capability: having sent them is. What one tenant sent is kept apart from what
 * others did, so that no answer depends on them. Throws StoreUnavailable.
 */
export interface BlobLedger {
  /**
   * Somebody is about to store a part of the file, or relies on it. Takes the mark of garbage away, and keeps it away
   * for as long as the collector waits.
   * @returns false while the file is being deleted: nobody may add to it or rely on it before that has ended.
   */
  touch(params: { digest: string; at: number }): Promise<boolean>;
  /** The bytes of a part are about to be stored. @returns false while they are being deleted. */
  storing(params: { digest: string; part: BlobRecord['parts'][number]; at: number }): Promise<boolean>;
  addPart(params: { digest: string; tenant: string; part: BlobPart; at: number }): Promise<void>;
  /** All parts that this tenant sent, by index. */
  sent(digest: string, tenant: string): Promise<SentPart[]>;
  /** The tenant's part has to be sent again. */
  forgetPart(params: { digest: string; tenant: string; index: number }): Promise<void>;
  /** Keeps the parts from the collector. @returns false when one is not stored or is being deleted. */
  keep(params: { digest: string; sha256s: readonly string[]; at: number }): Promise<boolean>;
  /**
   * The parts have been read and make the file. They become its record when it has none, when its bytes were found
   * damaged, or when they are fewer.
   * @returns the file's record from here on.
   */
  finish(params: { digest: string; record: BlobRecord; at: number }): Promise<BlobRecord>;
  /** Marks the tenant as holder of the whole file. @returns false when there is none, or none any more. */
  hold(params: { digest: string; tenant: string; at: number }): Promise<boolean>;
  /** The finished file's record, whoever sent it. */
  record(digest: string): Promise<BlobRecord | null>;
  /** All finished files, by digest. */
  records(params: {
    cursor: string | null;
    limit: number;
  }): Promise<Page<{ digest: string; record: BlobRecord }>>;
  holds(digest: string, tenant: string): Promise<boolean>;
  /** Unix ms when the parts of its record were last read whole and made the file; null = not known. */
  readBackAt(digest: string): Promise<number | null>;
  /** They were just now. */
  noteReadBack(params: { digest: string; at: number }): Promise<void>;
  /**
   * Its bytes cannot be read: nobody holds it until somebody has sent it again, and parts of its record that were sent
   * before, however lately, count as not sent.
   */
  markDamaged(params: { digest: string; at: number }): Promise<void>;
  /**
   * The parts of its record are all there again, and make the file: whoever held it holds it.
   * @returns false when there is no such file any more.
   */
  mended(params: { digest: string; at: number }): Promise<boolean>;
}

/** A file of which bytes may be stored, and that no version's chain contains. */
export interface UnusedFile {
  digest: string;
  /** Of the whole file, or of what was sent of it. */
  bytes: number;
  /** It has a record. */
  finished: boolean;
  /** Unix ms. */
  touchedAt: number;
  /** When it was marked as garbage. */
  deletingAt: number | null;
  /** When its deletion began, which has not ended. */
  collectingAt: number | null;
}

/** A stored part that is none of its file's record. */
export interface SurplusPart {
  digest: string;
  sha256: string;
  bytes: number;
}

/** What collecting garbage needs. A file is in use while any version, staged or retired, has it in its chain. Throws StoreUnavailable. */
export interface GarbageLedger {
  /**
   * Files that are not in use and were last touched before `touchedBefore`, by digest.
   * @param params.scan files looked at, at most; a page may therefore be empty and have a cursor.
   */
  unused(params: {
    touchedBefore: number;
    cursor: string | null;
    scan: number;
    limit: number;
  }): Promise<Page<UnusedFile>>;
  /** @returns false when it was touched or published meanwhile, or is marked. */
  mark(params: { digest: string; touchedBefore: number; at: number }): Promise<boolean>;
  /**
   * From here on the file cannot be used, and everybody who sent it has to send it again.
   * @returns false when it was touched or published meanwhile, or its mark is not that old.
   */
  beginCollecting(params: { digest: string; markedBefore: number; at: number }): Promise<boolean>;
  /** The same for a file that was never finished, marked or not. */
  beginDropping(params: { digest: string; touchedBefore: number; at: number }): Promise<boolean>;
  /** Parts of a file that is being deleted, by hash. */
  storedParts(digest: string, limit: number): Promise<string[]>;
  /** Those parts are gone. */
  partsCollected(digest: string, sha256s: readonly string[]): Promise<void>;
  /** All of its bytes are gone. */
  collected(digest: string): Promise<void>;
  /** Parts beside records that nobody has kept since, the oldest first. */
  surplus(params: { keptBefore: number; limit: number }): Promise<SurplusPart[]>;
  /** @returns whether the part is still surplus, and from here on being deleted. */
  beginPart(params: { digest: string; sha256: string; keptBefore: number; at: number }): Promise<boolean>;
  /** Keeps the surplus parts of a file for another while. */
  postpone(params: { digest: string; at: number }): Promise<void>;
  /** Where the schedule goes on; null = at the beginning. */
  position(): Promise<string | null>;
  setPosition(cursor: string | null): Promise<void>;
}
