/** Parts of the registry's port: rooms that are somebody's, and versions that are withdrawn. */

import type { Page } from '../platform/ports.ts';

/** What does not exist yet at or below `name` is the tenant's to take. */
export interface RoomRow {
  name: string;
  tenant: string;
  /** Unix ms. */
  createdAt: number;
  createdBy: string;
}

/** A name or a reserved room. */
export interface Claim {
  path: string;
  owner: string;
  by: 'name' | 'room';
}

/** What exists around a name. */
export interface Surroundings {
  /** Who owns the name itself; null = it does not exist. */
  own: string | null;
  /** The nearest reserved room at or above the name, or name above it; of one path the room. */
  above: Claim | null;
  /** Owners of names and rooms below it, in their order, each once; at most {@link MAX_OWNERS_BELOW} of them. */
  below: readonly string[];
}

/** Two decide everything; the others are told to the operator. */
export const MAX_OWNERS_BELOW = 5;

export interface Rooms {
  /** From one read. */
  around(name: string): Promise<Surroundings>;
  /** In the names' order. @param tenant null = everybody's. */
  rooms(params: { tenant: string | null; cursor: string | null; limit: number }): Promise<Page<RoomRow>>;
  /** Gives the room to the tenant, whoever had it, and writes history. @returns false when it was so already. */
  reserve(params: ChangeNote & { name: string; tenant: string }): Promise<boolean>;
  /** @returns false when nobody had it. */
  release(params: ChangeNote & { name: string }): Promise<boolean>;
}

/** What the retirement of a version does to others' versions and experiments; part of the port Registry. */

/** What stops being served when a version is retired, because it is another owner's. */
export interface Stopped {
  /** Versions in use that stand on it. */
  versions: number;
  /** Experiments that are not archived and name it, or one of these. */
  experiments: number;
}

/** A name of a change that KV is still to be told of. */
export interface StalePointer {
  name: string;
  /** Unix ms of the change. */
  since: number;
  /** Id of the latest such change, in the order of all changes of all names. */
  change: number;
}

export interface Withdrawals {
  /**
   * What would stop if the version were retired: nothing while another version of the name, of the same file, is in use.
   */
  stops(row: { name: string; version: number; digest: string; owner: string }): Promise<Stopped>;
  /**
   * Names that KV is still to be told of: every change of what a name points at notes it in its own transaction, and so
   * does a withdrawal the names that lead to what was withdrawn. @param newest first, else the oldest.
   */
  stalePointers(params: { limit: number; newest: boolean }): Promise<StalePointer[]>;
  /** KV has been told of these; a name that has changed since then stays to be told. */
  pointersWritten(pointers: readonly Pick<StalePointer, 'name' | 'change'>[]): Promise<void>;
}

/** Who changes something, when and why. */
export interface ChangeNote {
  actor: string;
  /** Unix ms. */
  at: number;
  why?: string | null;
}
