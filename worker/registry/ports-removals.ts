/** Parts of the registry's port: names as they are, and what a change of one can come upon; names and versions that are removed, brought back, and forgotten. */
import type { AboutName, Result } from '../../protocol/index.ts';
import type { Page } from '../platform/ports.ts';
import type { ChangeNote, Stopped } from './ports-rooms.ts';

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

/** What is to go: a name, or one version of it. */
export interface Doomed {
  name: string;
  /** null = the whole name. */
  version: number | null;
}

/** A version in use that stands on what is to go. */
export interface Descendant {
  name: string;
  version: number;
  live: boolean;
  /** Versions that the name has, removed ones not among them. */
  versions: number;
}

/** What keeps names and versions from being removed, beside what stands on them. */
export interface Holders {
  /** Names of the same owner that stand for one that is to go. */
  aliases: string[];
  /** Names to go that are pinned in the origins' memory. */
  pins: string[];
  /** Of the same owner, not archived: they test a name that is to go, or name a version. */
  experiments: string[];
  /** What other owners made with it. */
  others: Stopped;
}

/** A version that was removed and can be restored. */
export interface RemovedVersion {
  name: string;
  version: number;
  /** Of all that went at once. */
  removal: number;
  /** Names of adapters of the same owner that it stands on and that are not in use now. */
  lacks: string[];
}

/** A name of which something was removed and can be restored. */
export interface NameWithRemoved {
  name: string;
  owner: string;
  whole: boolean;
  versions: number[];
  /** Unix ms: the first. */
  removedAt: number;
}

/** A name that was removed and can be restored, as it was. */
export interface RemovedName {
  row: NameRow;
  removal: number;
  version: number | null;
  alias: string | null;
}

export interface Removals {
  /** Versions of the same owner in use that stand on what is to go, and are not to go themselves, in their order. */
  descendants(params: { items: readonly Doomed[]; owner: string; limit: number }): Promise<Descendant[]>;
  holders(params: { items: readonly Doomed[]; owner: string }): Promise<Holders>;
  /**
   * Removes them, all of them or nothing, and the pins. The versions of others that stand on them are withdrawn.
   * @param params.items a name's own rows are as they were read; the one that is named comes first.
   * @param params.cascade others' versions and pins are no obstacle.
   * @returns a conflict as well when something of {@link Holders} or {@link descendants} came to be in between.
   */
  remove(
    params: ChangeNote & {
      items: readonly (Doomed & { before: NameRow })[];
      owner: string;
      cascade: boolean;
    },
  ): Promise<Result<null, Conflict>>;
  /** Versions of the name, or of the removal, that were removed since `since` (unix ms), in their order. */
  removedVersions(of: { name: string } | { removal: number }, since: number): Promise<RemovedVersion[]>;
  /** Names that are removed, by their name or the removal, in their order. */
  removedNames(of: { name: string } | { removal: number }, since: number): Promise<RemovedName[]>;
  /**
   * Brings them back. A conflict as well when one of the versions cannot be restored any more, or stands on one of the
   * same owner that is not there.
   */
  restore(
    params: ChangeNote & {
      names: readonly RemovedName[];
      /** With the names that they are of, as they were read: those in `names`, and others. */
      versions: readonly (Pick<RemovedVersion, 'name' | 'version'> & { before: NameRow })[];
    },
  ): Promise<Result<null, Conflict>>;
  /** In the names' order. @param params.owner null = everybody's. @param params.since unix ms. */
  withRemoved(params: {
    prefix: string;
    owner: string | null;
    since: number;
    cursor: string | null;
    limit: number;
  }): Promise<Page<NameWithRemoved>>;
  /** Forgets versions that were removed before `before` (unix ms), the oldest first. @returns how many. */
  forgetRemoved(params: { before: number; limit: number }): Promise<number>;
}
