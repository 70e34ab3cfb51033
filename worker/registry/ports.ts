/**
 * Types of the registry: the system of record of names and versions, their form in KV, and the needs of
 * publishing.
 */
import type { Page, Lookup, BulkIndex, Sha256 } from '../platform/ports.ts';
import type { ManifestChainEntry, NameEntry } from '../../protocol/adapter-manifest.ts';
import type { AboutName, ChangeView } from '../../protocol/admin-api/names.ts';
import type { RoomView } from '../../protocol/admin-api/rooms.ts';
import type { Result, ApiError } from '../../protocol/api-error.ts';
import type { Experiment } from '../../protocol/experiment.ts';
import type {
  StoredEvaluation,
  EvaluateAnswer,
  ScoredRow,
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
  /** sha256 of what an origin measured when it was published, stored beside its file; null if no origin was asked. */
  proof: string | null;
  /** Scores that its publisher reported. */
  evaluation: StoredEvaluation | null;
  /** Unix ms; from then on it is neither served nor can be made live. null = in use. */
  retiredAt: number | null;
  /**
   * Unix ms; from then on it is not served, because another owner's adapter that it is built on is retired.
   */
  withdrawnAt: number | null;
}

/** A version with its training card, which is up to 16 KiB and nothing that serves the version reads. */
export interface DescribedVersion extends VersionRow {
  /** How its publisher says that it was trained. */
  training: TrainingCard | null;
}

/** A name that can be requested, and its version. */
export interface UsableName {
  name: string;
  /** The name's owner; an alias and its target can have different ones. */
  owner: string;
  /** The live version; for an alias, its target's. */
  version: VersionRow;
}

/** Names from `from` on and before `to`. */
export interface NameRange {
  from: string;
  to: string;
  /** Only this tenant's; null = anybody's. */
  owner: string | null;
}

export interface NameWindow {
  from: string;
  to: string;
  /** Names to scan. */
  limit: number;
}

export interface UsableNames {
  /** Ordered by name; complete up to `end`. */
  names: UsableName[];
  /** The window may contain more after this name; null = no more. */
  end: string | null;
}

/** Actions on an experiment of a name; `drop`, `rollback` and most of `ramp` come from the schedule. */
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
  /**
   * For good; the sequence is below 0, since the name is forgotten. The name is `**` for a tenant,
   * `<name>/**` for a name with everything below it.
   */
  | 'erase'
  | 'repair'
  /** For rooms; `target` is the tenant. */
  | 'reserve'
  | 'unreserve'
  | ExperimentAction;

/** Changes that make their version live. */
export const GOES_LIVE: readonly ChangeAction[] = [
  'publish',
  'drop',
  'promote',
  'rollback',
  'experiment_promote',
];

/** One change of a name. */
export interface HistoryRow extends ChangeView {
  /** Counts the name's changes; below 0 for the room of that name, which need not exist as a name. */
  sequence: number;
  action: ChangeAction;
}

/**
 * System of record of names, versions and rooms. Only {@link Removals} return removed versions. Every method
 * throws StoreUnavailable.
 */
export interface Registry extends Rooms, Withdrawals, Removals {
  /** Also returns a removed name. */
  name(name: string): Promise<NameRow | null>;
  version(name: string, version: number): Promise<VersionRow | null>;
  describedVersion(name: string, version: number): Promise<DescribedVersion | null>;
  /** The live version's row. */
  live(name: string): Promise<VersionRow | null>;
  /**
   * Names with versions, and aliases, ordered by name.
   * @param owner only names of this owner.
   */
  names(params: {
    prefix: string;
    cursor: string | null;
    limit: number;
    owner: string | null;
  }): Promise<Page<NameRow>>;
  /**
   * Names in the windows that the tenant owns or a layer covers: names with a live version, and their
   * aliases. The caller must check whether each chain may be used. One read with at most
   * `windows.length * (1 + layers.length)` statements, each of which scans `limit` names.
   * @param params.layers each has sorted, disjoint ranges, either all with an owner or all without.
   * @returns one result per window.
   */
  usable(params: {
    tenant: string;
    layers: readonly (readonly NameRange[])[];
    windows: readonly NameWindow[];
  }): Promise<UsableNames[]>;
  /** Newest first. */
  versions(name: string): Promise<DescribedVersion[]>;
  /** Versions with this file as their own, ordered by name, newest first. */
  versionsOf(params: { digest: string; limit: number }): Promise<VersionRow[]>;
  /** Proofs, by sha256, of some versions of this chain on this base, whatever their names; the chain ends with this file. */
  proofs(params: { digest: string; chainId: string; baseDigest: string; limit: number }): Promise<string[]>;
  /** What KV should contain for the name, from one read. */
  pointer(name: string): Promise<Pointer>;
  /** The same, with the change that KV gets by writing it; null if KV is up to date. */
  pointerToWrite(name: string): Promise<{ pointer: Pointer; change: number | null }>;
  /** The same for all names, ordered by name. */
  pointers(params: {
    cursor: string | null;
    limit: number;
  }): Promise<Page<{ name: NameRow; pointer: Pointer }>>;
  /**
   * Newest first.
   * @param name null = all names.
   * @param owner null = all owners.
   */
  history(params: {
    name: string | null;
    owner: string | null;
    /** Changes before this id; null = the newest. */
    before: number | null;
    limit: number;
  }): Promise<HistoryRow[]>;
  /** Newest version that was never live and is neither retired nor withdrawn. */
  newestStaged(name: string): Promise<VersionRow | null>;
  /** Versions in use, of the same owner, that are built on this one. */
  dependents(
    row: Pick<VersionRow, 'name' | 'digest' | 'owner'>,
    limit: number,
  ): Promise<{ name: string; version: number }[]>;
  /**
   * Adds a version, makes it live unless `stage`, and writes history, in one transaction like all changes.
   * @param before the name as it was read. Any change since is a conflict, and so is a chain with a retired
   * version.
   * @param params.claimant tenant for which a new name must be free at that time; otherwise it is a conflict.
   * @param params.sentBy tenant that must have uploaded the file and still hold it; otherwise it is a
   * conflict.
   * @param params.upload the page's upload that becomes the version; a conflict if it has become one, or its key may
   * no longer publish.
   */
  publish(params: {
    row: VersionRow & Partial<Pick<DescribedVersion, 'training'>>;
    stage: boolean;
    before: NameRow | null;
    /** For history; default `publish`. A staged version always has `stage`. */
    action?: 'publish' | 'drop';
    why?: string | null;
    claimant?: string | null;
    sentBy?: string | null;
    upload?: PageUpload | null;
  }): Promise<Result<NameRow, Conflict>>;
  /** Makes `to` live, which must exist. */
  flip(
    params: ChangeNote & {
      before: NameRow;
      to: number;
      /** `promote` unless given. */ action?: 'promote' | 'rollback';
    },
  ): Promise<Result<NameRow, Conflict>>;
  /**
   * Also a conflict if the owner's other version in use is built on this one, or the owner's experiment uses
   * it. Others' versions built on it are withdrawn in the same transaction.
   */
  retire(
    params: ChangeNote & { before: NameRow; version: number; /** Its file's. */ digest: string },
  ): Promise<Result<NameRow, Conflict>>;
  /** Makes the name, which must have no versions, an alias of `target`; null ends that. */
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
  /** Makes a name with versions strict, or ends that; publishing and flipping don't change it. */
  setStrict(params: ChangeNote & { before: NameRow; strict: boolean }): Promise<Result<NameRow, Conflict>>;
  /** Changes a name's description; other changes keep it. */
  setAbout(params: ChangeNote & { before: NameRow; about: AboutName }): Promise<Result<NameRow, Conflict>>;
  /** Records in history that KV was repaired; changes nothing. */
  repaired(params: ChangeNote & { before: NameRow }): Promise<Result<NameRow, Conflict>>;
}

/** What a page has uploaded with a publish token. It becomes at most one version. */
export interface PageUpload {
  /** The token's id; of a fine-tuning job, the job's, and of its checkpoints `<job>:<step>`. */
  token: string;
  /** The API key that the token was made with; a job's may be an admin key. */
  keyId: string;
  /** That the key must have; default: `publish`. */
  right?: 'publish' | 'train';
  /** The fine-tuning job that it is of, which must not have ended. */
  job?: string;
}

/** A name's latest experiment that was ever live, whatever its status. */
export interface PointedExperiment {
  id: string;
  owner: string;
  document: Experiment;
  /** Versions of its variants and its shadow. */
  versions: VersionRow[];
}

/** What KV should contain for a name. */
export type Pointer =
  | { kind: 'version'; row: VersionRow; strict: boolean; experiment?: PointedExperiment }
  | { kind: 'alias'; target: string }
  /** It was an alias or was removed: KV has a signed mark. */
  | { kind: 'gone' }
  /** The name does not exist or has no live version: KV has nothing. */
  | { kind: 'none' };

/** A name's live version or target, as read by the hot path. */
export interface NameIndex extends BulkIndex<NameEntry> {
  /** A manifest or `{name, alias}`. @throws StoreUnavailable */
  put(entry: NameEntry): Promise<void>;
  /**
   * Leaves a signed mark: the name no longer points at anything.
   * @param ttl of the mark, seconds; default: for good.
   * @throws StoreUnavailable
   */
  remove(name: string, ttl?: number): Promise<void>;
}

/** The only writer of names in KV, so that concurrent changes cannot leave an outdated pointer. */
export interface PointerWriter {
  /**
   * Copies the name's current state to KV, at most once a second per name; calls in the meantime share the
   * next write. Failed writes are retried in the background.
   * @param options.mark leaves a signed mark if there is nothing to point at; otherwise nothing is written
   * then.
   * @param options.erased the name is being forgotten: its mark expires once no isolate can remember the
   * name.
   * @returns once KV has a state that was read after the call.
   * @throws StoreUnavailable
   */
  sync(name: string, options?: { mark?: boolean; erased?: boolean }): Promise<void>;
}

/** Looks up names in the system of record that the index does not have. */
export interface NegativeCache {
  /** The name's pointer; `absent` if it does not exist or cannot be read. Never throws. */
  confirm(name: string): Promise<Lookup<Pointer>>;
  /**
   * For a name that exists, but not for this caller: makes the same lookups as `confirm`, with an impossible
   * name. Never throws.
   */
  dummyLookup(name: string): Promise<void>;
}

interface NameRow {
  name: string;
  owner: string;
  /** Live version; null if all are staged. */
  version: number | null;
  /** Highest version; 0 if it has none, like an alias. */
  latest: number;
  /** Counts the name's changes; detects concurrent ones. */
  sequence: number;
  /** The alias's target. */
  alias: string | null;
  /** Missing names below it inherit neither from it nor from above. Always false for an alias. */
  strict: boolean;
  /** Its owner's description. */
  about: AboutName;
  /** Unix ms; it was removed, and has neither a live version nor a target. null = it exists. */
  removedAt: number | null;
}

/** The name, or something that the change depends on, has changed since it was read. */
interface Conflict {
  kind: 'conflict';
  name: NameRow | null;
}

/** What to remove: a name, or one of its versions. */
export interface Doomed {
  name: string;
  /** null = the whole name. */
  version: number | null;
}

/** A version in use that is built on what is removed. */
export interface Descendant {
  name: string;
  version: number;
  live: boolean;
  /** The name's versions, except removed ones. */
  versions: number;
}

/** What prevents a removal, besides descendants. */
export interface Holders {
  /** The owner's aliases of a name to remove. */
  aliases: string[];
  /** Names to remove that are pinned in the origins' memory. */
  pins: string[];
  /** The owner's experiments that are not archived and test a name to remove, or use a version. */
  experiments: string[];
  /** Other owners' versions built on it. */
  others: Stopped;
}

/** A removed version that can be restored. */
export interface RemovedVersion {
  name: string;
  version: number;
  /** Id of the removal, shared by everything removed with it. */
  removal: number;
  /** Names of the owner's adapters that it is built on and that are not in use now. */
  lacks: string[];
}

/** A name with something that can be restored. */
interface NameWithRemoved {
  name: string;
  owner: string;
  whole: boolean;
  versions: number[];
  /** Unix ms of the first removal. */
  removedAt: number;
}

/** A removed name that can be restored, in its earlier state. */
export interface RemovedName {
  row: NameRow;
  removal: number;
  version: number | null;
  alias: string | null;
}

export interface Removals {
  /** The owner's versions in use that are built on removed items without being among them, in order. */
  descendants(params: { items: readonly Doomed[]; owner: string; limit: number }): Promise<Descendant[]>;
  holders(params: { items: readonly Doomed[]; owner: string }): Promise<Holders>;
  /**
   * Removes the items and their pins in one transaction. Others' versions built on them are withdrawn.
   * @param params.items with each name's row as it was read; the requested one comes first.
   * @param params.cascade ignores others' versions and pins.
   * @returns a conflict also if {@link Holders} or {@link descendants} have appeared in the meantime.
   */
  remove(
    params: ChangeNote & {
      items: readonly (Doomed & { before: NameRow })[];
      owner: string;
      cascade: boolean;
    },
  ): Promise<Result<null, Conflict>>;
  /** Versions of the name or the removal that were removed since `since` (unix ms), in order. */
  removedVersions(of: { name: string } | { removal: number }, since: number): Promise<RemovedVersion[]>;
  /** Removed names, by name or removal, in order. */
  removedNames(of: { name: string } | { removal: number }, since: number): Promise<RemovedName[]>;
  /**
   * Restores them. Also a conflict if one of the versions can no longer be restored, or an adapter of the
   * same owner that it is built on is missing.
   */
  restore(
    params: ChangeNote & {
      names: readonly RemovedName[];
      /** With the names' rows as they were read, both those in `names` and others. */
      versions: readonly (Pick<RemovedVersion, 'name' | 'version'> & { before: NameRow })[];
    },
  ): Promise<Result<null, Conflict>>;
  /**
   * Ordered by name. Pages are of everybody's names, so one of an owner's may have few, or none.
   * @param params.owner null = everybody's.
   * @param params.since unix ms.
   */
  withRemoved(params: {
    prefix: string;
    owner: string | null;
    since: number;
    cursor: string | null;
    limit: number;
  }): Promise<Page<NameWithRemoved>>;
  /**
   * Forgets versions that were removed before `before`, oldest first.
   * @param params.at now, unix ms.
   * @returns how many.
   */
  forgetRemoved(params: { before: number; limit: number; at: number }): Promise<number>;
}

/** A name or a reserved room. */
export interface Claim {
  path: string;
  owner: string;
  by: 'name' | 'room';
}

/** What exists above, at and below a name. */
export interface Surroundings {
  /** The name's owner; null = it does not exist. */
  own: string | null;
  /** The nearest room at or above the name, or the nearest name above; on the same path, the room. */
  above: Claim | null;
  /** Owners of names and rooms below it, sorted and unique; at most {@link MAX_OWNERS_BELOW}. */
  below: readonly string[];
}

/** Two are enough to decide; the others are reported to the operator. */
export const MAX_OWNERS_BELOW = 5;

export interface Rooms {
  /** In one read. */
  around(name: string): Promise<Surroundings>;
  /**
   * Ordered by name.
   * @param tenant null = everybody's.
   */
  rooms(params: { tenant: string | null; cursor: string | null; limit: number }): Promise<Page<RoomView>>;
  /**
   * Gives the room to the tenant, whoever had it, and writes history.
   * @returns false if it already had it.
   */
  reserve(params: ChangeNote & { name: string; tenant: string }): Promise<boolean>;
  /** @returns false if it was not reserved. */
  release(params: ChangeNote & { name: string }): Promise<boolean>;
}

/** How retiring a version affects others' versions and experiments; part of `Registry`. */

/** What is no longer served when a version is retired, because it belongs to other owners. */
export interface Stopped {
  /** Versions in use that are built on it. */
  versions: number;
  /** Experiments that are not archived and use it, or one of these. */
  experiments: number;
}

/** A name whose latest change KV does not have yet. */
export interface StalePointer {
  name: string;
  /** Unix ms of the change. */
  since: number;
  /** Id of its latest such change; ids are ordered across all names. */
  change: number;
}

interface Withdrawals {
  /**
   * What would stop if the version were retired; nothing while the name has another version in use with the
   * same file.
   */
  stops(row: { name: string; version: number; digest: string; owner: string }): Promise<Stopped>;
  /**
   * Names that KV does not have the latest state of. Every change of a pointer notes its name in the same
   * transaction; a withdrawal notes all names that lead to the withdrawn versions.
   * @param newest first; otherwise the oldest.
   */
  stalePointers(params: { limit: number; newest: boolean }): Promise<StalePointer[]>;
  /** KV has been updated with these changes; a name that has changed since remains stale. */
  pointersWritten(pointers: readonly Pick<StalePointer, 'name' | 'change'>[]): Promise<void>;
}

/** Who makes a change, when and why. */
export interface ChangeNote {
  actor: string;
  /** Unix ms. */
  at: number;
  why?: string | null;
}

/** Lifetime of work on behalf of a request. */
export interface RequestLife {
  /** Aborts when the client disconnects. */
  signal: AbortSignal;
  /** Lets work continue after the response. */
  keepAlive: (work: Promise<unknown>) => void;
}

/** The chain's last adapter is on trial. Files that an origin lacks are copied to it. */
export interface AdapterTrial extends RequestLife, BasedChain {
  /** Prefers the origin that serves this name. */
  name: string;
  /** Tenant whose share of the origin it uses. */
  tenant: string;
}

/**
 * Tries adapters at the origins of their base. Each method fails with `origin_unavailable` if no origin gives
 * a valid response.
 */
export interface AdapterTrials {
  /** Asks one origin after the other until one responds. */
  verify(trial: AdapterTrial): Promise<Result<VerifyAnswer, ApiError>>;
  /** Asks all origins, and compares each one's result with the expected one. */
  verifyEverywhere(
    trial: AdapterTrial,
    expected: VerifyRequest['expected'],
  ): Promise<{ id: string; answer: Result<VerifyAnswer, ApiError> }[]>;
  /** @returns one score per row, in order. */
  evaluate(trial: AdapterTrial, rows: ScoredRow[]): Promise<Result<EvaluateAnswer, ApiError>>;
}

/** Dependencies of publishing. */
export interface IntakeDeps {
  blobs: BlobStore;
  blobLedger: BlobLedger;
  registry: Registry;
  /** The only path of a name's change to KV. */
  pointers: PointerWriter;
  bases: Bases;
  trials: AdapterTrials;
  warmth: OriginWarmth;
  createSha256: () => Sha256;
  /** The isolate's memory limit. */
  uploadMemory: UploadMemoryLimit;
  /** Unix ms. */
  now: () => number;
}
