/** Rooms that the operator reserved, and what claims a name; part of the port Registry. */
import type { ChangeNote, Page } from './types-changes.ts';

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
