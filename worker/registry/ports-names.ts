/** Part of the registry's port: names as they are, and what a change of one can come upon. */
import type { AboutName } from '../../protocol/index.ts';

export interface NameRow {
  name: string;
  owner: string;
  /** Live version; null when all are staged. */
  version: number | null;
  /** Highest version; 0 when it has none, as an alias. */
  latest: number;
  /** Counts the changes of this name; guards against two at once. */
  sequence: number;
  /** The name that it stands for. */
  alias: string | null;
  /** A missing name below it is answered neither by it nor by what is above it. Never so of an alias. */
  strict: boolean;
  /** What its owner says of it. */
  about: AboutName;
  /** Unix ms; it was removed, and has neither a live version nor a target. null = it is there. */
  removedAt: number | null;
}

/** The name has changed since it was read, or what the change rests on has. */
export interface Conflict {
  kind: 'conflict';
  name: NameRow | null;
}
