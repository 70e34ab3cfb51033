/**
 * Ports of the registry: the system of record of names and versions, what KV says of a name, and what publishing needs.
 */
import type { Page, Lookup, BulkIndex, Sha256 } from '../platform/ports.ts';
import type { ManifestChainEntry, NameEntry } from '../../protocol/adapter-manifest.ts';
import type { AboutName, ChangeView } from '../../protocol/admin-api/names.ts';
import type { RoomView } from '../../protocol/admin-api/rooms.ts';
import type { Result, ApiError } from '../../protocol/api-error.ts';
import type { Experiment } from '../../protocol/experiment.ts';
import type {
  AdapterProof,
  StoredEvaluation,
  EvaluateAnswer,
  EvaluationRow,
  VerifyAnswer,
  VerifyRequest,
} from '../../protocol/origin-wire.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { BlobLedger } from '../blobs/d1-blob-ledger.ts';
import type { UploadMemoryLimit } from '../blobs/upload-memory-limit.ts';
import type { Bases, BasedChain, OriginWarmth } from '../origins/ports.ts';

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
  /** What an origin saw when it was admitted; null where no origin was asked. */
  proof: AdapterProof | null;
  /** What its publisher says it scored. */
  evaluation: StoredEvaluation | null;
  /** Unix ms; from then on it is neither served nor made live. null = in use. */
  retiredAt: number | null;
  /** Unix ms; from then on it is not served, because another owner's adapter that it stands on is retired. */
  withdrawnAt: number | null;
}

/** A version with its training card, which is up to 16 KiB and nothing that serves the version reads. */
export interface DescribedVersion extends VersionRow {
  /** How its publisher says that it was trained. */
  training: TrainingCard | null;
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
  describedVersion(name: string, version: number): Promise<DescribedVersion | null>;
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
  versions(name: string): Promise<DescribedVersion[]>;
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
    row: VersionRow & Partial<Pick<DescribedVersion, 'training'>>;
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

/** What each name points at, a live version or another name, as the hot path reads it. */
export interface NameIndex extends BulkIndex<NameEntry> {
  /** A manifest or `{name, alias}`. @throws StoreUnavailable */
  put(entry: NameEntry): Promise<void>;
  /**
   * Leaves a signed mark: the name points at nothing any more.
   * @param ttl seconds that the mark stays; for good unless given. @throws StoreUnavailable
   */
  remove(name: string, ttl?: number): Promise<void>;
}

/** The one writer of names in KV: two changes at once can never leave a pointer in inverted order. */
export interface PointerWriter {
  /**
   * Copies what the registry says of the name now to KV, at most one write a second a name; calls that come meanwhile
   * share the next write. What fails is tried again later by itself.
   * @param options.mark where the registry knows of nothing to point at, leaves a signed mark; otherwise nothing is
   * written then.
   * @param options.erased the name is being forgotten: the mark goes by itself when no isolate can remember the name.
   * @returns once a state is in KV that was read after the call. @throws StoreUnavailable
   */
  sync(name: string, options?: { mark?: boolean; erased?: boolean }): Promise<void>;
}

/** Asks the system of record about names that the index does not have. */
export interface NegativeCache {
  /** What a name points at after all; `absent` when it does not exist, or nobody can say. Never throws. */
  confirm(name: string): Promise<Lookup<Pointer>>;
  /**
   * For a name that is there, but not for who asks: asks as much as `confirm` does, about a name that nobody can have.
   * Never throws.
   */
  dummyLookup(name: string): Promise<void>;
}

interface NameRow {
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
interface Conflict {
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
interface NameWithRemoved {
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
  rooms(params: { tenant: string | null; cursor: string | null; limit: number }): Promise<Page<RoomView>>;
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

interface Withdrawals {
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

/** What work on behalf of a request needs of it. */
export interface RequestLife {
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** Lets work go on after the response. */
  keepAlive: (work: Promise<unknown>) => void;
}

/** The last adapter of the chain is the one in question. What an origin lacks of it is brought there. */
export interface AdapterTrial extends RequestLife, BasedChain {
  /** Prefers the origin that serves this name. */
  name: string;
  /** Whose share of the machine it takes. */
  tenant: string;
}

/** Trying adapters at the origins of their base. Every one fails with `origin_unavailable` when none answers sensibly. */
export interface AdapterTrials {
  /** Asks one origin after the other, until one answers. */
  verify(trial: AdapterTrial): Promise<Result<VerifyAnswer, ApiError>>;
  /** Asks all of them, each what it says now against what is expected. */
  verifyEverywhere(
    trial: AdapterTrial,
    expected: VerifyRequest['expected'],
  ): Promise<{ id: string; answer: Result<VerifyAnswer, ApiError> }[]>;
  /** @returns one score a row, in order. */
  evaluate(trial: AdapterTrial, rows: EvaluationRow[]): Promise<Result<EvaluateAnswer, ApiError>>;
}

/** What intake needs from the outside. */
export interface IntakeDeps {
  blobs: BlobStore;
  blobLedger: BlobLedger;
  registry: Registry;
  /** The only way in which a name's change reaches KV. */
  pointers: PointerWriter;
  bases: Bases;
  trials: AdapterTrials;
  warmth: OriginWarmth;
  createSha256: () => Sha256;
  /** What the isolate has room for. */
  uploadMemory: UploadMemoryLimit;
  /** Unix ms. */
  now: () => number;
}
