/** Ports of the KV inbox: packed adapters that somebody put into KV by hand. */
import type { Page } from '../platform/ports.ts';

/** Why a file was refused, as stored in `drop-error:<name>`. */
export interface DropError {
  code: string;
  reason?: string;
  message: string;
  /** Unix ms. */
  at: number;
  /** It will be retried unchanged. */
  retrying: boolean;
}

/** The inbox. Nothing in it is trusted: names may be illegal, bytes anything. Throws StoreUnavailable. */
export interface KvInbox {
  /** A page of names, in the keys' order: parents before their children. */
  list(cursor: string | null): Promise<Page<string>>;
  /** @returns null when there is nothing (any more); recent reads may be repeated from the cache. */
  read(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
  remove(name: string): Promise<void>;
  putError(name: string, error: DropError): Promise<void>;
  clearError(name: string): Promise<void>;
}

export interface DropRow {
  name: string;
  /** Of the file, hex. */
  sha256: string;
  /** The resulting version; null when it was refused. */
  version: number | null;
  /** Unix ms of the decision. */
  at: number;
  /** Unix ms of the file's removal; null while it exists. */
  removedAt: number | null;
}

/** The results of each name's last files, so that none is processed twice. Throws StoreUnavailable. */
export interface DropLedger {
  /** At most the last {@link DROPS_REMEMBERED} of the name, newest first. */
  recent(name: string): Promise<DropRow[]>;
  /** Replaces what was known of the same file under the same name. */
  put(row: DropRow): Promise<void>;
}

/**
 * Remembered files of one name. More than one, because KV may show an earlier file elsewhere after a later one
 * was processed; more within those minutes are improbable.
 */
export const DROPS_REMEMBERED = 8;
