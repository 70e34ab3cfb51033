/** What a store says that cannot answer; part of types.ts. */

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
    super('D1', new Error(`${place.column} of ${place.id} in ${place.table} is damaged`));
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
