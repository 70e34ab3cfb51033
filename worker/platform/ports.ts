/** Results of every store: found, absent, gone, or trouble; and pages of lists. */

/** Trouble (an error, a hang, a forged or malformed value) is never reported as absence. */
export type Lookup<T> =
  | { state: 'found'; value: T; /** Last known, not confirmed now. */ stale: boolean }
  | { state: 'absent' }
  /** Removed on purpose, by a signed tombstone. */
  | { state: 'gone' }
  | { state: 'trouble'; reason: string; retryAfterMs: number };

export interface Index<T> {
  get(key: string): Promise<Lookup<T>>;
}

/** An index that reads several keys at once, at most {@link MAX_KEYS_AT_ONCE}. */
export interface BulkIndex<T> extends Index<T> {
  /** @returns one look-up per key, in order. */
  getMany(keys: readonly string[]): Promise<Lookup<T>[]>;
}

/** As many as a name can have ancestors; KV accepts 100. */
export const MAX_KEYS_AT_ONCE = 8;

export interface Page<T> {
  items: T[];
  /** Cursor of the next page; null at the end. */
  cursor: string | null;
}

/** `blobs`: KV or R2, whichever has the part. */
export type StoreName = 'KV' | 'R2' | 'D1' | 'DO' | 'blobs';

/** A store does not answer, or refuses permanently; the request may be repeated. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable';

  constructor(store: StoreName, cause: unknown) {
    super(`${store}: ${cause instanceof Error ? cause.message : 'unknown error'}`, { cause });
  }
}

/** Place of a corrupted value; never the value. */
export interface DamagedPlace {
  table: string;
  /** Readable id of the row: `name@version`, a key's or an experiment's id, a digest. */
  id: string;
  column: string;
}

/**
 * An unreadable row of D1: a retry does not help, an operator must repair it. Lists leave it out; a request for
 * exactly this row gets this error.
 */
export class DamagedRow extends StoreUnavailable {
  readonly place: DamagedPlace;

  constructor(place: DamagedPlace) {
    // No cause: its message would quote the value.
    super('D1', new Error(`${place.column} of ${place.id} in ${place.table} is corrupted`));
    this.place = place;
  }
}

/** Finds unreadable rows. Throws StoreUnavailable. */
export interface RowAudit {
  /** Rows of all tables with JSON, table by table. */
  page(params: {
    cursor: string | null;
    limit: number;
  }): Promise<{ checked: number; damaged: DamagedPlace[]; cursor: string | null }>;
}

/** Everything in KV, whoever put it there. */
export interface KeyListing {
  /** The part of each key after `prefix`. @throws StoreUnavailable */
  list(params: { prefix: string; cursor: string | null; limit: number }): Promise<Page<string>>;
}

/** Hashes a stream. */
export interface Sha256 {
  update(chunk: Uint8Array): Promise<void> | void;
  /** Hex; the last call. */
  digest(): Promise<string>;
}
