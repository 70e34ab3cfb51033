/** Ports of dropped files: packed adapters that somebody put into KV by hand. */
import type { Page } from '../platform/ports.ts';

/** Why a file was not taken, as `drop-error:<name>` tells it. */
export interface DropError {
  code: string;
  reason?: string;
  message: string;
  /** Unix ms. */
  at: number;
  /** It will be tried again as it is. */
  retrying: boolean;
}

/** Where dropped files lie. Nothing of it is trusted: names may be illegal, bytes anything. Throws StoreUnavailable. */
export interface KvInbox {
  /** A page of names, in the keys' order: parents before their children. */
  list(cursor: string | null): Promise<Page<string>>;
  /** @returns null when there is nothing (any more); what was read lately may be read so again. */
  read(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
  remove(name: string): Promise<void>;
  putError(name: string, error: DropError): Promise<void>;
  clearError(name: string): Promise<void>;
}

export interface DropRow {
  name: string;
  /** Of the file, hex. */
  sha256: string;
  /** That it became; null when it was refused. */
  version: number | null;
  /** Unix ms when that was decided. */
  at: number;
  /** Unix ms when the file was removed; null while it lies there. */
  removedAt: number | null;
}

/** What became of each name's last files, so that none is taken twice. Throws StoreUnavailable. */
export interface DropLedger {
  /** The last {@link DROPS_REMEMBERED} of the name at most, newest first. */
  recent(name: string): Promise<DropRow[]>;
  /** Takes the place of what was known of the same file under the same name. */
  put(row: DropRow): Promise<void>;
}

/**
 * Files of one name that are known at once. More than one, because KV may show an earlier file elsewhere when a later one
 * has been taken already; so many within the minutes that this can last are improbable.
 */
export const DROPS_REMEMBERED = 8;
