/** What the retirement of a version does to others' versions and experiments; part of the port Registry. */

/** What stops being served when a version is retired, because it is another owner's. */
export interface Stopped {
  /** Versions in use that stand on it. */
  versions: number;
  /** Experiments that are not archived and name it, or one of these. */
  experiments: number;
}

/** A name whose pointer is to be written anew. */
export interface StalePointer {
  name: string;
  /** Unix ms of the change. */
  since: number;
}

export interface Withdrawals {
  /**
   * What would stop if the version were retired: nothing while another version of the name, of the same file, is in use.
   */
  stops(row: { name: string; version: number; digest: string; owner: string }): Promise<Stopped>;
  /** Pointers that lead to what was withdrawn, and that KV has not been told of. @param newest first, else the oldest. */
  stalePointers(params: { limit: number; newest: boolean }): Promise<StalePointer[]>;
  /** KV has been told of these; what was withdrawn since then stays to be told. */
  pointersWritten(pointers: readonly StalePointer[]): Promise<void>;
}
