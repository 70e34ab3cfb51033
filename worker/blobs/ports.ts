/** Ports of adapters' bytes: storage of parts, and their metadata. */
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import type { Page } from '../platform/ports.ts';

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

/** A part that a tenant sent. */
export interface SentPart extends BlobPart {
  /** Unix ms. */
  at: number;
  /** Its bytes may be read: they were not deleted since, and are stored under their hash. */
  stored: boolean;
}

/**
 * Who sent which bytes. Knowing a digest gives no access: having sent the bytes does. Each tenant's data is
 * separate, so that no answer depends on others. Throws StoreUnavailable.
 */
export interface BlobLedger {
  /**
   * Called before storing a part of the file, or relying on it. Removes the mark of garbage, and prevents it
   * for as long as the collector waits.
   * @returns false while the file is being deleted: nobody may add to it or rely on it until that has ended.
   */
  touch(params: { digest: string; at: number }): Promise<boolean>;
  /** Called before storing a part. @returns false while its bytes are being deleted. */
  storing(params: { digest: string; part: BlobRecord['parts'][number]; at: number }): Promise<boolean>;
  addPart(params: { digest: string; tenant: string; part: BlobPart; at: number }): Promise<void>;
  /** All parts that this tenant sent, by index. */
  sent(digest: string, tenant: string): Promise<SentPart[]>;
  /** The tenant's part has to be sent again. */
  forgetPart(params: { digest: string; tenant: string; index: number }): Promise<void>;
  /** Protects the parts from the collector. @returns false when one is not stored or is being deleted. */
  keep(params: { digest: string; sha256s: readonly string[]; at: number }): Promise<boolean>;
  /**
   * The parts have been read and make the file. They become its record if it has none, if its bytes were
   * corrupted, or if they are fewer.
   * @returns the file's record from here on.
   */
  finish(params: { digest: string; record: BlobRecord; at: number }): Promise<BlobRecord>;
  /** Marks the tenant as holder of the whole file. @returns false when it does not exist, or no longer. */
  hold(params: { digest: string; tenant: string; at: number }): Promise<boolean>;
  /** The finished file's record, whoever sent it. */
  record(digest: string): Promise<BlobRecord | null>;
  /** All finished files, by digest. */
  records(params: {
    cursor: string | null;
    limit: number;
  }): Promise<Page<{ digest: string; record: BlobRecord }>>;
  holds(digest: string, tenant: string): Promise<boolean>;
  /** Unix ms when the parts of its record were last verified; null = unknown. */
  readBackAt(digest: string): Promise<number | null>;
  /** They were verified just now. */
  noteReadBack(params: { digest: string; at: number }): Promise<void>;
  /**
   * Its bytes cannot be read: nobody holds it until somebody has sent it again, and parts of its record that
   * were sent before, however recently, count as not sent.
   */
  markDamaged(params: { digest: string; at: number }): Promise<void>;
  /**
   * The parts of its record exist again, and make the file: its earlier holders hold it.
   * @returns false when the file no longer exists.
   */
  mended(params: { digest: string; at: number }): Promise<boolean>;
}

/** A stored file that no version's chain contains. */
export interface UnusedFile {
  digest: string;
  /** Of the whole file, or of what was sent. */
  bytes: number;
  /** It has a record. */
  finished: boolean;
  /** Unix ms. */
  touchedAt: number;
  /** When it was marked as garbage. */
  deletingAt: number | null;
  /** When its deletion started, if it has not ended. */
  collectingAt: number | null;
}

/** A stored part that is not in its file's record. */
export interface SurplusPart {
  digest: string;
  sha256: string;
  bytes: number;
}

/**
 * Operations of garbage collection. A file is in use while any version, staged or retired, has it in its chain.
 * Throws StoreUnavailable.
 */
export interface GarbageLedger {
  /**
   * Unused files last touched before `touchedBefore`, by digest.
   * @param params.scan maximum number of scanned files; a page may therefore be empty and have a cursor.
   */
  unused(params: {
    touchedBefore: number;
    cursor: string | null;
    scan: number;
    limit: number;
  }): Promise<Page<UnusedFile>>;
  /** @returns false when it was touched or published in the meantime, or is marked. */
  mark(params: { digest: string; touchedBefore: number; at: number }): Promise<boolean>;
  /**
   * From here on the file cannot be used, and everybody who sent it has to send it again.
   * @returns false when it was touched or published in the meantime, or its mark is not that old.
   */
  beginCollecting(params: { digest: string; markedBefore: number; at: number }): Promise<boolean>;
  /** The same for an incomplete file, marked or not. */
  beginDropping(params: { digest: string; touchedBefore: number; at: number }): Promise<boolean>;
  /** Parts of a file that is being deleted, by hash. */
  storedParts(digest: string, limit: number): Promise<string[]>;
  /** Those parts are gone. */
  partsCollected(digest: string, sha256s: readonly string[]): Promise<void>;
  /** All of its bytes are gone. */
  collected(digest: string): Promise<void>;
  /** Parts beside records that nobody has kept since, oldest first. */
  surplus(params: { keptBefore: number; limit: number }): Promise<SurplusPart[]>;
  /** @returns whether the part is still surplus, and now being deleted. */
  beginPart(params: { digest: string; sha256: string; keptBefore: number; at: number }): Promise<boolean>;
  /** Keeps the surplus parts of a file for another while. */
  postpone(params: { digest: string; at: number }): Promise<void>;
  /** Cursor of the schedule; null = at the beginning. */
  position(): Promise<string | null>;
  setPosition(cursor: string | null): Promise<void>;
}
