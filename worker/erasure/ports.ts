/** Ports of permanent erasure: scope, position, and the rows to delete. */
import {
  ERASE_SETTLE_MS,
  ERASE_STEPS,
  type EraseCounts,
  type EraseStep,
} from '../../protocol/admin-api/erasures.ts';
import type { Stopped } from '../registry/ports.ts';

export type ErasureKind = 'tenant' | 'name' | 'below';

export interface ErasureTarget {
  kind: ErasureKind;
  /** The tenant, or the name. */
  target: string;
  /** Owner of what is erased. */
  owner: string;
}

/** `settling` waits for requests in progress, after which the late steps search once more; `waiting`, for origins. */
export const ERASURE_STEPS = [
  'planned',
  ...ERASE_STEPS,
  'settling',
  'late-origins',
  'late-traffic',
  'late-requests',
  'late-usage',
  'waiting',
] as const;
export type ErasureStep = (typeof ERASURE_STEPS)[number];
/** Steps that do something. */
export type WorkStep = EraseStep | 'late-origins' | 'late-traffic' | 'late-requests' | 'late-usage';

export interface Erasure extends ErasureTarget {
  id: number;
  usage: boolean;
  step: ErasureStep;
  /** Position in the step; '' = at its beginning. */
  place: string;
  /** Unix ms. */
  touchedAt: number;
  /** When it began to settle, unix ms; null = it has not. */
  endedAt: number | null;
}

/** What is noted later is of a tenant or a name that was made anew, unix ms. */
export const untilOf = ({ endedAt }: Erasure): number =>
  endedAt === null ? Number.MAX_SAFE_INTEGER : endedAt + ERASE_SETTLE_MS;

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
}

/** A file whose bytes are not, or no longer, in the store. */
export interface FileAtOrigins {
  digest: string;
  /** Ids of those that are to drop it. */
  origins: string[];
}

/** Origins as far as they drop adapters. Never throws. */
export interface OriginDrops {
  readonly ids: readonly string[];
  /** @returns null when they are gone there; otherwise why not. */
  drop(origin: string, digests: readonly string[]): Promise<string | null>;
}
