/** Ports of permanent erasure: scope, position, and the rows to delete. */
import { ERASE_STEPS, type EraseCounts, type EraseStep } from '../../protocol/admin-api/erasures.ts';
import type { ChangeNote, Stopped } from '../registry/ports.ts';

export type ErasureKind = 'tenant' | 'name' | 'below';

export interface ErasureTarget {
  kind: ErasureKind;
  /** The tenant, or the name. */
  target: string;
  /** Owner of what is erased. */
  owner: string;
}

/** `settling` waits for requests in progress; `waiting`, for origins. */
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
  /** Position in the step; '' = at its beginning. */
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
  /** Blocking items of the same owner, the first of each kind. */
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

/** D1's record of erasures. Throws StoreUnavailable. Everything may be repeated. */
export interface ErasureLedger {
  /** Owners of the names in scope, at most a few. */
  owners(kind: 'name' | 'below', name: string): Promise<string[]>;
  /** Owner of an unfinished erasure of it; null = there is none. */
  ownerOfBegun(kind: ErasureKind, target: string): Promise<string | null>;
  /**
   * Records everything that would be erased, with `cascade` also what the owner built on it; then begin or
   * discard it.
   */
  plan(params: ErasureTarget & { cascade: boolean; usage: boolean; at: number }): Promise<ErasurePlan>;
  discard(id: number): Promise<void>;
  /**
   * Takes everything out of service, in one transaction, and takes over what an earlier one of the same target
   * left.
   * @param params.record whether it leaves a row of history. @returns false when something changed since it was
   * planned.
   */
  begin(params: ChangeNote & { id: number; cascade: boolean; record: boolean }): Promise<boolean>;
  get(id: number): Promise<Erasure | null>;
  move(id: number, to: { step: ErasureStep; place: string; at: number }): Promise<void>;
  /** One at one of these steps and untouched since; the one that waits longest. */
  next(of: { steps: readonly ErasureStep[]; touchedBefore: number }): Promise<Erasure | null>;
  /** Nothing of it is left here. */
  end(id: number): Promise<void>;

  keys(of: Erasure, after: string, limit: number): Promise<ErasedKey[]>;
  experiments(of: Erasure, limit: number): Promise<ErasedExperiment[]>;
  forgetExperiments(of: Erasure, ids: readonly string[]): Promise<void>;
  names(of: Erasure, limit: number): Promise<ErasedName[]>;
  /** Their rows, whose pointers have been removed; a name that was published again in the meantime stays. */
  forgetNames(
    of: Erasure,
    names: readonly ErasedName[],
  ): Promise<Pick<EraseCounts, 'names' | 'aliases' | 'versions'>>;
  /** Others' experiments that use what is erased, by id; and others' aliases of it. */
  others(
    of: Erasure,
    after: string,
    limit: number,
  ): Promise<{ experiments: ErasedExperiment[]; aliases: string[] }>;
  endAliases(names: readonly string[]): Promise<void>;
  /** Digests of files whose bytes may still be in the store. */
  files(of: Erasure, limit: number): Promise<string[]>;
  /**
   * Its owner no longer holds it, and if nobody else does, nobody can from here on.
   * @returns null when it stays; otherwise its size.
   */
  releaseFile(of: Erasure, digest: string, at: number): Promise<{ bytes: number } | null>;
  /** @param origins that must drop it; empty = done. */
  fileLeftTo(of: Erasure, digest: string, origins: readonly string[]): Promise<void>;
  atOrigins(of: Erasure, after: string, limit: number): Promise<FileAtOrigins[]>;
  /** @returns those that no version uses: others were published again. */
  unused(digests: readonly string[]): Promise<string[]>;
  /** @returns how many sums of traffic were deleted: of the tenant, and of its names, whoever requested them. */
  forgetTraffic(of: Erasure, window: { step: number; from: number; to: number }): Promise<number>;
  /** @returns how many requests were deleted, and where it continues; null at the end. */
  forgetRequests(
    of: Erasure,
    after: string,
    limit: number,
  ): Promise<{ requests: number; after: string | null }>;
  /**
   * Of the owner only: others' use is on their bills. @returns how many were deleted; fewer than `limit` at the
   * end.
   */
  forgetUsage(of: Erasure, limit: number): Promise<number>;
  /** Tenants that have grants from it, or refuse them. */
  holders(of: Erasure, limit: number): Promise<string[]>;
  /** Revokes these tenants' grants from it, and their refusals. @returns how many grants. */
  forgetGrantsFrom(of: Erasure, tenants: readonly string[]): Promise<number>;
  /**
   * Of a tenant; of names, if others' history names them. @returns how many were deleted; fewer than `limit` at
   * the end.
   */
  forgetHistory(of: Erasure, limit: number): Promise<number>;
  /** Of a tenant: its revoked keys, limits, reservations and received grants. */
  forgetTenant(of: Erasure): Promise<Pick<EraseCounts, 'keys' | 'rooms' | 'grants'>>;
}

/** Origins as far as they drop adapters. Never throws. */
export interface OriginDrops {
  readonly ids: readonly string[];
  /** @returns null when they are gone there; otherwise why not. */
  drop(origin: string, digests: readonly string[]): Promise<string | null>;
}
