/** Ports of the system of record of uploaded files; part of types.ts. */
import type { BlobPart, BlobRecord } from '../../protocol/index.ts';
import type { Page } from './types-registry.ts';

/** Who sent which bytes. A digest is no capability: having sent them is. Throws StoreUnavailable. */
export interface BlobLedger {
  /**
   * Somebody is about to store a part of the file, or relies on it. Takes the mark of garbage away, and keeps it away
   * for as long as the collector waits.
   * @param params.parts no part has an index from here on; 0 when nothing is about to be stored.
   * @returns false while the file is being deleted: nobody may add to it or rely on it before that has ended.
   */
  touch(params: { digest: string; parts: number; at: number }): Promise<boolean>;
  addPart(params: { digest: string; tenant: string; part: BlobPart; at: number }): Promise<void>;
  /** Parts that this tenant sent, by index. */
  parts(digest: string, tenant: string): Promise<BlobPart[]>;
  /** Marks the tenant as holder of the whole file. */
  complete(params: { digest: string; tenant: string; record: BlobRecord; at: number }): Promise<void>;
  /** The finished file's record, whoever sent it. */
  record(digest: string): Promise<BlobRecord | null>;
  holds(digest: string, tenant: string): Promise<boolean>;
}

/** A file of which bytes may be stored, and that no version's chain contains. */
export interface UnusedFile {
  digest: string;
  /** Parts that may be stored: 0 to `parts - 1`. */
  parts: number;
  /** Of the whole file, or of what was sent of it. */
  bytes: number;
  /** Unix ms. */
  touchedAt: number;
  /** When it was marked as garbage. */
  deletingAt: number | null;
  /** When its deletion began, which has not ended. */
  collectingAt: number | null;
}

/** What collecting garbage needs. A file is in use while any version, staged or retired, has it in its chain. Throws StoreUnavailable. */
export interface GarbageLedger {
  /** Files that are not in use and were last touched before `touchedBefore`, by digest. */
  unused(params: { touchedBefore: number; cursor: string | null; limit: number }): Promise<Page<UnusedFile>>;
  /** @returns false when it was touched or published meanwhile, or is marked. */
  mark(params: { digest: string; touchedBefore: number; at: number }): Promise<boolean>;
  /**
   * From here on the file cannot be used, and everybody who sent it has to send it again.
   * @returns false when it was touched or published meanwhile, or its mark is not that old.
   */
  beginCollecting(params: { digest: string; markedBefore: number; at: number }): Promise<boolean>;
  /** Its bytes are gone. */
  collected(digest: string): Promise<void>;
}
