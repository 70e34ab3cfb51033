/** Ports of files of rows: their rows in D1, and their bytes in the store. */

/** A file of rows, as its owner sees it. */
export interface RowFile {
  id: string;
  tenant: string;
  filename: string;
  bytes: number;
  /** Lines that are not blank. */
  lines: number;
  /** Of its parts in the store. */
  parts: number;
  sha256: string;
  /** Unix ms, like the other. */
  createdAt: number;
  expiresAt: number;
}

/** What is still in the store though nobody can ask for it. */
export interface GoingFile {
  id: string;
  /** That may be stored. */
  parts: number;
}

/** D1's record of files. Throws StoreUnavailable. */
export interface RowFiles {
  /**
   * Reserves room for a file while it arrives.
   * @param file.bytes at most. @returns false if the tenant's files have no room for it, or its key has ended.
   */
  begin(file: {
    id: string;
    tenant: string;
    keyId: string;
    bytes: number;
    at: number;
    expiresAt: number;
  }): Promise<boolean>;
  /** Before the part is stored. @param parts with it. @returns false if the file was erased meanwhile. */
  grow(file: { id: string; parts: number; at: number }): Promise<boolean>;
  /** From now on it can be used. @returns false if it was erased meanwhile. */
  finish(file: Omit<RowFile, 'createdAt'>): Promise<boolean>;
  get(of: { id: string; tenant: string; now: number }): Promise<RowFile | null>;
  /** By id, which is by age. @param of.after an id. */
  list(of: {
    tenant: string;
    after: string | null;
    newestFirst: boolean;
    limit: number;
    now: number;
  }): Promise<RowFile[]>;
  /**
   * Nobody can ask for it from now on.
   * @param of.state that it must have; default: `ready`. @returns null if the tenant has no such file.
   */
  remove(of: {
    id: string;
    tenant: string;
    state?: 'receiving' | 'ready';
    at: number;
  }): Promise<GoingFile | null>;
  /**
   * The same for some of a tenant's, in any state; their rows no longer say whose they were.
   * @returns fewer than `limit` when those were all.
   */
  erase(of: { tenant: string; limit: number; at: number }): Promise<GoingFile[]>;
  /** The store has nothing more of them. */
  gone(ids: readonly string[]): Promise<void>;
  /** Expired and abandoned ones, and what deletions have left. */
  due(now: number): Promise<GoingFile[]>;
}

/** Where a part belongs. */
export interface RowPartPlace {
  tenant: string;
  file: string;
  /** From 0. */
  part: number;
}

/** The bytes of files, encrypted. Throws StoreUnavailable. */
export interface RowParts {
  /** @param expiresAt unix ms: a store that can deletes the part then by itself. */
  put(place: RowPartPlace, bytes: Uint8Array<ArrayBuffer>, expiresAt: number): Promise<void>;
  /** @returns null when it is missing, or was not sealed for this place. */
  get(place: RowPartPlace): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Missing parts are no error. @param parts of the file. */
  delete(file: string, parts: number): Promise<void>;
}
