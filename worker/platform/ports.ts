/** What every store says: found, absent, gone, or in trouble; and pages of lists. */

/** Trouble (an error, a hang, a forged or odd value) is never reported as absence. */
export type Lookup<T> =
  | { state: 'found'; value: T; /** Last known, not confirmed now. */ stale: boolean }
  | { state: 'absent' }
  /** Taken away on purpose, and signed so. */
  | { state: 'gone' }
  | { state: 'trouble'; reason: string; retryAfterMs: number };

export interface Index<T> {
  get(key: string): Promise<Lookup<T>>;
}

/** An index that reads several keys at once, at most {@link MAX_KEYS_AT_ONCE}. */
export interface BulkIndex<T> extends Index<T> {
  /** @returns one look-up a key, in order. */
  getMany(keys: readonly string[]): Promise<Lookup<T>[]>;
}

/** As many as a name can have ancestors; KV takes 100. */
export const MAX_KEYS_AT_ONCE = 8;

export interface Page<T> {
  items: T[];
  /** Pass it back to go on; null at the end. */
  cursor: string | null;
}

/** `blobs`: KV or R2, whichever holds the part that was read. */
export type StoreName = 'KV' | 'R2' | 'D1' | 'DO' | 'blobs';

/** A store does not answer, or refuses for good; the request may be repeated. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable';

  constructor(store: StoreName, cause: unknown) {
    super(`${store}: ${cause instanceof Error ? cause.message : 'unknown error'}`, { cause });
  }
}

/** Where a damaged value is; never the value. */
export interface DamagedPlace {
  table: string;
  /** Of the row, as people know it: `name@version`, a key's or an experiment's id, a digest. */
  id: string;
  column: string;
}

/**
 * A row of the system of record that nobody can read: repeating does not help, an operator has to mend it. Lists leave it
 * out; who asks for exactly that row gets this.
 */
export class DamagedRow extends StoreUnavailable {
  readonly place: DamagedPlace;

  constructor(place: DamagedPlace) {
    // No cause: its message would quote the value.
    super('D1', new Error(`${place.column} of ${place.id} in ${place.table} is corrupted`));
    this.place = place;
  }
}

/** Looks for rows that cannot be read. Throws StoreUnavailable. */
export interface RowAudit {
  /** Rows of all tables that hold JSON, table by table. */
  page(params: {
    cursor: string | null;
    limit: number;
  }): Promise<{ checked: number; damaged: DamagedPlace[]; cursor: string | null }>;
}

/** What lies in KV, whoever put it there. */
export interface KeyListing {
  /** What follows `prefix` in each key. @throws StoreUnavailable */
  list(params: { prefix: string; cursor: string | null; limit: number }): Promise<Page<string>>;
}

/** Hashes bytes as they come by. */
export interface Sha256 {
  update(chunk: Uint8Array): Promise<void> | void;
  /** Hex; the last call. */
  digest(): Promise<string>;
}
