/** Repairs KV from the system of record: names, and what the steps share. */
import type { NameEntry } from '../../protocol/adapter-manifest.ts';
import type { Mended } from '../../protocol/admin-api/upkeep.ts';
import { isLive } from '../../protocol/experiment.ts';
import { nameProblem, sameJson } from '../../protocol/identity.ts';
import type { RightsWriter } from '../access/ports.ts';
import type { GrantIndex, KeyIndex } from './kv-indexes.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import type { UploadMemoryLimit } from '../blobs/upload-memory-limit.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { BlobLedger } from '../blobs/d1-blob-ledger.ts';
import type { ExperimentIndex, ExperimentLedger, ExperimentEntry } from '../experiments/ports.ts';
import { REPAIR_PAGE } from '../limits.ts';
import type { HeldFiles } from '../origins/ports.ts';
import {
  type DamagedPlace,
  type RowAudit,
  type KeyListing,
  type Sha256,
  DamagedRow,
  MAX_KEYS_AT_ONCE,
  type Lookup,
} from '../platform/ports.ts';
import type { NameIndex, PointerWriter, Registry, NameRow, PointedExperiment, Pointer } from './ports.ts';
import { experimentEntryOf, nameEntryOf } from './write-pointer.ts';

export interface RepairDeps {
  registry: Registry;
  pointers: PointerWriter;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  experimentLedger: ExperimentLedger;
  /** KV's names, without a cache. */
  nameIndex: NameIndex;
  experimentIndex: ExperimentIndex;
  keyIndex: KeyIndex;
  grantIndex: GrantIndex;
  /** Writes keys and grants. */
  rights: RightsWriter;
  blobs: BlobStore;
  blobLedger: BlobLedger;
  /** Files that origins still have, but the store has lost. */
  heldFiles: HeldFiles;
  /** The isolate's memory limit. */
  uploadMemory: UploadMemoryLimit;
  createSha256: () => Sha256;
  rowAudit: RowAudit;
  /** Lists KV's keys. */
  listing: KeyListing;
  now: () => number;
}

/** One page of one step. */
export interface RepairedPage {
  checked: number;
  mended: Mended[];
  damaged?: DamagedPlace[];
  /** Within the step; null at its end. */
  cursor: string | null;
}

/** @param page.dryRun reports what would be repaired, and changes nothing. */
export type RepairStep = (
  deps: RepairDeps,
  page: { cursor: string | null; dryRun: boolean; actor: string },
) => Promise<RepairedPage>;

/**
 * Reports unreadable rows of the system of record. They cannot be repaired: nothing says what they contained.
 */
export const reportRows: RepairStep = async (deps, { cursor }) => {
  const { checked, damaged, cursor: next } = await deps.rowAudit.page({ cursor, limit: ROW_PAGE });
  return { checked, mended: [], damaged, cursor: next };
};

/** Rows per request, about a kilobyte each. */
const ROW_PAGE = 200;

/** @returns what was read; `damaged` if the row exists but is unreadable, which another step reports. */
export async function unlessDamaged<T>(read: Promise<T>): Promise<T | 'damaged'> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof DamagedRow) return 'damaged';
    throw error;
  }
}

/** Repairs the pointer and the current or last experiment of every name in the system of record. */
export const repairNames: RepairStep = async (deps, { cursor, dryRun, actor }) => {
  const page = await deps.registry.pointers({ cursor, limit: REPAIR_PAGE });
  const names = page.items.map(({ name }) => name.name);
  const lookups: Lookup<NameEntry>[] = [];
  for (let at = 0; at < names.length; at += MAX_KEYS_AT_ONCE)
    lookups.push(...(await deps.nameIndex.getMany(names.slice(at, at + MAX_KEYS_AT_ONCE))));
  const mended: Mended[] = [];
  for (const [i, { name, pointer }] of page.items.entries()) {
    const found: Mended[] = [];
    const wrong = problemOf(name.name, pointer, lookups[i] as Lookup<NameEntry>);
    if (wrong !== null) found.push({ kind: 'name', id: name.name, ...wrong });
    const experiment = pointer.kind === 'version' ? pointer.experiment : undefined;
    if (experiment !== undefined) {
      const was = experimentProblem(experiment, await deps.experimentIndex.get(experiment.id));
      if (was !== null) found.push({ kind: 'experiment', id: experiment.id, was, did: 'written' });
    }
    // Writing the pointer writes both.
    if (found.length > 0 && !dryRun) await mend(deps, name, actor);
    mended.push(...found);
  }
  return { checked: names.length, mended, cursor: page.cursor };
};

async function mend({ registry, pointers, now }: RepairDeps, name: NameRow, actor: string): Promise<void> {
  await pointers.sync(name.name, { mark: true });
  // If somebody has changed the name in the meantime, they wrote its pointer too: nothing to report.
  await registry.repaired({ before: name, actor, at: now() });
}

function problemOf(
  name: string,
  pointer: Pointer,
  lookup: Lookup<NameEntry>,
): Pick<Mended, 'was' | 'did'> | null {
  const nothing = pointer.kind === 'none' || pointer.kind === 'gone';
  const did = nothing ? 'removed' : 'written';
  switch (lookup.state) {
    case 'trouble':
      return { was: 'unreadable', did };
    case 'absent':
    case 'gone':
      return nothing ? null : { was: 'missing', did };
    case 'found':
      return !nothing && sameJson(lookup.value, nameEntryOf(name, pointer)) ? null : { was: 'outdated', did };
  }
}

function experimentProblem(
  experiment: PointedExperiment,
  lookup: Lookup<ExperimentEntry>,
): Mended['was'] | null {
  switch (lookup.state) {
    case 'trouble':
      return 'unreadable';
    case 'absent':
    case 'gone':
      return 'missing';
    case 'found':
      return sameEntry(lookup.value, experimentEntryOf(experiment)) ? null : 'outdated';
  }
}

/** Of an ended experiment readers take its state alone: an arm that is retired later is not written into it. */
const sameEntry = (found: ExperimentEntry, wanted: ExperimentEntry): boolean =>
  sameJson(found, isLive(wanted.document) ? wanted : { ...found, document: wanted.document });

/** Marks every name in KV that the system of record does not have. */
export const removeUnknownNames: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'name:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const name of page.items) {
    // Invalid names are never read.
    if (nameProblem(name) !== null || (await unlessDamaged(deps.registry.name(name))) !== null) continue;
    const { state } = await deps.nameIndex.get(name);
    if (state === 'gone' || state === 'absent') continue;
    mended.push({ kind: 'name', id: name, was: 'unknown', did: 'removed' });
    if (!dryRun) await deps.pointers.sync(name, { mark: true });
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};
