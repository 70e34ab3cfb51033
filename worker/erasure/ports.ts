/** Ports of erasing for good: what is to go, where it is, and the rows that go. */
import { ERASE_STEPS, type EraseCounts, type EraseStep } from '../../protocol/admin-api/erasures.ts';
import type { ChangeNote, Stopped } from '../registry/ports.ts';

export type ErasureKind = 'tenant' | 'name' | 'below';

export interface ErasureTarget {
  kind: ErasureKind;
  /** The tenant, or the name. */
  target: string;
  /** Whose things go. */
  owner: string;
}

/** `settling` waits for requests that were under way; `waiting`, for origins. */
export const ERASURE_STEPS = [
  'planned',
  ...ERASE_STEPS,
  'settling',
  'late-traffic',
  'late-requests',
  'late-usage',
  'waiting',
] as const;
export type ErasureStep = (typeof ERASURE_STEPS)[number];
/** Steps that do something. */
export type WorkStep = EraseStep | 'late-traffic' | 'late-requests' | 'late-usage';

export interface Erasure extends ErasureTarget {
  id: number;
  usage: boolean;
  step: ErasureStep;
  /** Where in the step; '' = at its beginning. */
  place: string;
  /** Unix ms. */
  touchedAt: number;
}

export interface ErasurePlan {
  id: number;
  counts: EraseCounts;
  /** Files that stay. */
  kept: { files: number; bytes: number };
  /** Of other owners. */
  stops: Stopped;
  /** What of the same owner is in the way, the first of each. */
  inTheWay: { versions: string[]; experiments: string[] };
  /** An earlier one of the same target has not ended. */
  begun: boolean;
}

export interface ErasedName {
  name: string;
  /** 0 = the name as a whole. */
  version: number;
}

export interface ErasedExperiment {
  id: string;
  name: string;
}

export interface ErasedKey {
  id: string;
  hash: string;
  kind: 'api' | 'admin';
  /** Name of its counter; null = it has no limits. */
  counter: string | null;
}

/** A file whose bytes are not, or no longer, in the store. */
export interface FileAtOrigins {
  digest: string;
  /** Ids of those that are to drop it. */
  origins: string[];
}

/** System of record of erasures. Throws StoreUnavailable. Everything may be repeated. */
export interface ErasureLedger {
  /** Owners of the names that are meant, a few of them. */
  owners(kind: 'name' | 'below', name: string): Promise<string[]>;
  /** Owner of an erasure of it that has not ended; null = there is none. */
  ownerOfBegun(kind: ErasureKind, target: string): Promise<string | null>;
  /** Notes all that would go, with `cascade` also what of the owner stands on it; begin it or discard it. */
  plan(params: ErasureTarget & { cascade: boolean; usage: boolean; at: number }): Promise<ErasurePlan>;
  discard(id: number): Promise<void>;
  /**
   * Takes all of it out of service, in one transaction, and takes over what an earlier one of the same target left.
   * @param params.record it leaves a row of history. @returns false when something came in its way since it was planned.
   */
  begin(params: ChangeNote & { id: number; cascade: boolean; record: boolean }): Promise<boolean>;
  get(id: number): Promise<Erasure | null>;
  move(id: number, to: { step: ErasureStep; place: string; at: number }): Promise<void>;
  /** One that is at one of these steps and was not touched since; the one that waits longest. */
  next(of: { steps: readonly ErasureStep[]; touchedBefore: number }): Promise<Erasure | null>;
  /** Nothing is left of it here. */
  end(id: number): Promise<void>;

  keys(of: Erasure, after: string, limit: number): Promise<ErasedKey[]>;
  experiments(of: Erasure, limit: number): Promise<ErasedExperiment[]>;
  forgetExperiments(of: Erasure, ids: readonly string[]): Promise<void>;
  names(of: Erasure, limit: number): Promise<ErasedName[]>;
  /** Their rows, whose pointers have been taken away; a name that was published anew meanwhile stays. */
  forgetNames(
    of: Erasure,
    names: readonly ErasedName[],
  ): Promise<Pick<EraseCounts, 'names' | 'aliases' | 'versions'>>;
  /** Experiments of others that name what goes, by their ids; and aliases of others that stand for it. */
  others(
    of: Erasure,
    after: string,
    limit: number,
  ): Promise<{ experiments: ErasedExperiment[]; aliases: string[] }>;
  endAliases(names: readonly string[]): Promise<void>;
  /** Digests of files whose bytes may be in the store still. */
  files(of: Erasure, limit: number): Promise<string[]>;
  /**
   * Its owner does not hold it any more, and where nobody else does, nobody can from here on.
   * @returns null when it stays; else its size.
   */
  releaseFile(of: Erasure, digest: string, at: number): Promise<{ bytes: number } | null>;
  /** @param origins that are to drop it; none = it is done with. */
  fileLeftTo(of: Erasure, digest: string, origins: readonly string[]): Promise<void>;
  atOrigins(of: Erasure, after: string, limit: number): Promise<FileAtOrigins[]>;
  /** @returns those of them that no version has: others were published anew. */
  unused(digests: readonly string[]): Promise<string[]>;
  /** @returns how many sums of traffic went: of the tenant, and of its names by whomever they were asked. */
  forgetTraffic(of: Erasure, window: { step: number; from: number; to: number }): Promise<number>;
  /** @returns how many requests went, and where it goes on; null at the end. */
  forgetRequests(
    of: Erasure,
    after: string,
    limit: number,
  ): Promise<{ requests: number; after: string | null }>;
  /** Of the owner alone: what others used of it is on their bills. @returns how many went; fewer than `limit` at the end. */
  forgetUsage(of: Erasure, limit: number): Promise<number>;
  /** Tenants that have grants from it, or have refused them. */
  holders(of: Erasure, limit: number): Promise<string[]>;
  /** Takes these tenants' grants from it back, and their refusals. @returns how many grants. */
  forgetGrantsFrom(of: Erasure, tenants: readonly string[]): Promise<number>;
  /** Of a tenant; of names, where the history of others names them. @returns how many went; fewer than `limit` at the end. */
  forgetHistory(of: Erasure, limit: number): Promise<number>;
  /** Of a tenant: its revoked keys, limits, rooms and what it was granted. */
  forgetTenant(of: Erasure): Promise<Pick<EraseCounts, 'keys' | 'rooms' | 'grants'>>;
}

/** Origins as far as they let go of adapters. Never throws. */
export interface OriginDrops {
  readonly ids: readonly string[];
  /** @returns null when they are gone there; else why not. */
  drop(origin: string, digests: readonly string[]): Promise<string | null>;
}
