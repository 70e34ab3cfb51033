/** Port of the system of record of names and versions. */
import type { Page } from '../platform/ports.ts';
import type {
  AboutName,
  AdapterProof,
  ChangeView,
  ManifestChainEntry,
  Result,
  StoredEvaluation,
  Experiment,
} from '../../protocol/index.ts';
import type { Conflict, NameRow, Removals } from './ports-removals.ts';
import type { Rooms, Withdrawals, ChangeNote } from './ports-rooms.ts';

export type { Conflict, NameRow };

/** One version of a name; immutable. */
export interface VersionRow {
  name: string;
  version: number;
  digest: string;
  owner: string;
  chain: ManifestChainEntry[];
  chainId: string;
  /** `name@version` of the parent, or null. */
  parent: string | null;
  base: { id: string; digest: string };
  bytes: number;
  rank: number;
  /** Ranks of the whole chain, summed. */
  rankSum: number;
  /** Unix ms. */
  createdAt: number;
  createdBy: string;
  /** What an origin saw when it was admitted; null for versions from before there were proofs. */
  proof: AdapterProof | null;
  /** What its publisher says it scored. */
  evaluation: StoredEvaluation | null;
  /** Unix ms; from then on it is neither served nor made live. null = in use. */
  retiredAt: number | null;
  /** Unix ms; from then on it is not served, because another owner's adapter that it stands on is retired. */
  withdrawnAt: number | null;
}

/** A name that can be asked for, and what it means. */
export interface UsableName {
  name: string;
  /** Of the name: an alias can be another's than what it stands for. */
  owner: string;
  /** The live one, of an alias its target's. */
  version: VersionRow;
}

/** Names from `from` on and before `to`. */
export interface NameRange {
  from: string;
  to: string;
  /** Only those of this tenant; null = of anybody. */
  owner: string | null;
}

export interface NameWindow {
  from: string;
  to: string;
  /** Names that are looked at. */
  limit: number;
}

export interface UsableNames {
  /** In the order of names, all there are up to `end`. */
  names: UsableName[];
  /** The name after which there may be more in the window; null = there are no more. */
  end: string | null;
}

/** What is done to an experiment of a name; `drop`, `rollback` and most of `ramp` by the schedule. */
export type ExperimentAction =
  | 'experiment_create'
  | 'experiment_start'
  | 'experiment_change'
  | 'experiment_ramp'
  | 'experiment_kill'
  | 'experiment_resume'
  | 'experiment_stop'
  | 'experiment_drop'
  | 'experiment_rollback'
  | 'experiment_promote'
  | 'experiment_archive';

export type ChangeAction =
  | 'publish'
  | 'drop'
  | 'stage'
  | 'promote'
  | 'rollback'
  /** In histories of before; nothing writes it now. */
  | 'flip'
  | 'retire'
  | 'alias'
  | 'unalias'
  | 'strict'
  | 'unstrict'
  | 'edit'
  | 'remove'
  | 'restore'
  /** For good; a sequence below 0, since the name is forgotten. Of a tenant the name is `**`, of a name with all below it `<name>/**`. */
  | 'erase'
  | 'repair'
  /** Of a room; `target` is its tenant. */
  | 'reserve'
  | 'unreserve'
  | ExperimentAction;

/** Changes after which the version that they are about is live. */
export const GOES_LIVE: readonly ChangeAction[] = [
  'publish',
  'drop',
  'promote',
  'rollback',
  'flip',
  'experiment_promote',
];

/** One change of a name. */
export interface HistoryRow extends ChangeView {
  /** Of the changes of this name; below 0 those of the room of that name, which need not exist as a name. */
  sequence: number;
  action: ChangeAction;
}

/**
 * System of record of names, versions and rooms. A version that was removed is not there, but for {@link Removals}.
 * Every method throws StoreUnavailable.
 */
export interface Registry extends Rooms, Withdrawals, Removals {
  /** Also one that was removed. */
  name(name: string): Promise<NameRow | null>;
  version(name: string, version: number): Promise<VersionRow | null>;
  /** The live version's row. */
  live(name: string): Promise<VersionRow | null>;
  /** Names that have versions or are aliases, in their order. @param owner only names of this owner. */
  names(params: {
    prefix: string;
    cursor: string | null;
    limit: number;
    owner: string | null;
  }): Promise<Page<NameRow>>;
  /**
   * What lies in windows of the names that the tenant owns or a layer covers: names with a live version, and aliases of
   * such. Whether the chain may be used is the caller's to check. One read, of at most
   * `windows.length * (1 + layers.length)` statements, each of which looks at `limit` names.
   * @param params.layers each of ranges with an owner, or without, in the order of names; they do not overlap in a layer.
   * @returns one answer a window.
   */
  usable(params: {
    tenant: string;
    layers: readonly (readonly NameRange[])[];
    windows: readonly NameWindow[];
  }): Promise<UsableNames[]>;
  /** Newest first. */
  versions(name: string): Promise<VersionRow[]>;
  /** Versions whose own file this is, in the names' order, a name's newest first. */
  versionsOf(params: { digest: string; limit: number }): Promise<VersionRow[]>;
  /** Versions of this chain, of whatever names, the newest first. */
  versionsOfChain(params: { chainId: string; limit: number }): Promise<VersionRow[]>;
  /** What belongs in KV for the name, from one read. */
  pointer(name: string): Promise<Pointer>;
  /** The same, and the change that KV is told of by writing it; null when it has been told of all. */
  pointerToWrite(name: string): Promise<{ pointer: Pointer; change: number | null }>;
  /** The same for all names, in their order. */
  pointers(params: {
    cursor: string | null;
    limit: number;
  }): Promise<Page<{ name: NameRow; pointer: Pointer }>>;
  /** Newest first. @param name null = of all names. @param owner null = of all owners. */
  history(params: {
    name: string | null;
    owner: string | null;
    /** Changes before this id; null = the newest. */
    before: number | null;
    limit: number;
  }): Promise<HistoryRow[]>;
  /** Newest version that has never been live and is neither retired nor withdrawn. */
  newestStaged(name: string): Promise<VersionRow | null>;
  /** Versions in use, of the same owner, that were made on top of this one. */
  dependents(
    row: Pick<VersionRow, 'name' | 'digest' | 'owner'>,
    limit: number,
  ): Promise<{ name: string; version: number }[]>;
  /**
   * Adds a version, makes it live unless `stage`, and writes history: all of it or nothing. The other changes likewise.
   * @param before the name as it was read; another change since then is a conflict, and so is a chain that stands on a
   * version that was retired.
   * @param params.claimant tenant for which a new name must be free, by what is around it then; else it is a conflict.
   * @param params.sentBy tenant that must have sent the file, and hold it then; else it is a conflict.
   */
  publish(params: {
    row: VersionRow;
    stage: boolean;
    before: NameRow | null;
    /** For history; `publish` unless given. A staged version is always `stage`. */
    action?: 'publish' | 'drop';
    why?: string | null;
    claimant?: string | null;
    sentBy?: string | null;
  }): Promise<Result<NameRow, Conflict>>;
  /** Makes `to`, which must exist, the live version. */
  flip(
    params: ChangeNote & {
      before: NameRow;
      to: number;
      /** `promote` unless given. */ action?: 'promote' | 'rollback';
    },
  ): Promise<Result<NameRow, Conflict>>;
  /**
   * A conflict as well when another version in use of the same owner stands on this one, or an experiment of theirs names
   * it. Those of others are withdrawn in the same transaction.
   */
  retire(
    params: ChangeNote & { before: NameRow; version: number; /** Of its file. */ digest: string },
  ): Promise<Result<NameRow, Conflict>>;
  /** Makes the name, which must have no versions, stand for `target`; null ends that. */
  alias(
    params: ChangeNote & {
      before: NameRow | null;
      name: string;
      owner: string;
      target: string | null;
      /** As in {@link publish}. */
      claimant?: string | null;
    },
  ): Promise<Result<NameRow, Conflict>>;
  /** Marks a name that has versions as strict, or ends that; publishing and flipping leave it so. */
  setStrict(params: ChangeNote & { before: NameRow; strict: boolean }): Promise<Result<NameRow, Conflict>>;
  /** Changes what is said of a name; whatever else changes leaves it so. */
  setAbout(params: ChangeNote & { before: NameRow; about: AboutName }): Promise<Result<NameRow, Conflict>>;
  /** Writes into history that KV was mended; changes nothing. */
  repaired(params: ChangeNote & { before: NameRow }): Promise<Result<NameRow, Conflict>>;
}

/** The latest experiment of a name that was ever live, whatever became of it. */
export interface PointedExperiment {
  id: string;
  owner: string;
  document: Experiment;
  /** Those that its variants and its shadow stand for. */
  versions: VersionRow[];
}

/** What belongs in KV for a name. */
export type Pointer =
  | { kind: 'version'; row: VersionRow; strict: boolean; experiment?: PointedExperiment }
  | { kind: 'alias'; target: string }
  /** It was an alias, or it was removed: a signed mark. */
  | { kind: 'gone' }
  /** There is no such name, or none of its versions is live: nothing. */
  | { kind: 'none' };
