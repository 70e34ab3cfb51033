import type { Mended } from '../../protocol/index.ts';
import type { ExperimentIndex, ExperimentLedger } from '../experiments/ports.ts';
import type { ByteGate } from '../blobs/byte-gate.ts';
import type { BlobLedger, BlobStore } from '../blobs/ports.ts';
import type { HeldFiles } from '../origins/ports.ts';
import {
  type DamagedPlace,
  type RowAudit,
  type KeyListing,
  type Sha256,
  DamagedRow,
} from '../platform/ports.ts';
import type { GrantIndex, GrantLedger } from '../access/ports-grants.ts';
import type { KeyIndex, KeyLedger, RightsWriter } from '../access/ports.ts';
import type { NameIndex, PointerWriter } from './ports-pointers.ts';
import type { Registry } from './ports.ts';

export type { Mended };

export interface RepairDeps {
  registry: Registry;
  pointers: PointerWriter;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  experimentLedger: Pick<ExperimentLedger, 'get'>;
  /** As KV has them, without a memory. */
  nameIndex: Pick<NameIndex, 'get' | 'getMany'>;
  experimentIndex: Pick<ExperimentIndex, 'get' | 'remove'>;
  keyIndex: Pick<KeyIndex, 'get'>;
  grantIndex: Pick<GrantIndex, 'get'>;
  /** Writes both. */
  rights: RightsWriter;
  blobs: Pick<BlobStore, 'getPart' | 'putPart' | 'getRecord' | 'putRecord'>;
  blobLedger: Pick<BlobLedger, 'records' | 'storing' | 'finish' | 'markDamaged'>;
  /** What the origins still have of what the store has lost. */
  heldFiles: HeldFiles;
  /** What the isolate has room for. */
  gate: ByteGate;
  createSha256: () => Sha256;
  rowAudit: RowAudit;
  /** What lies in KV at all. */
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

/** @param page.dryRun says what would be mended, and changes nothing. */
export type RepairStep = (
  deps: RepairDeps,
  page: { cursor: string | null; dryRun: boolean; actor: string },
) => Promise<RepairedPage>;

/** Rows of the system of record itself that nobody can read. They are told, not mended: nothing says what they were. */
export const reportRows: RepairStep = async (deps, { cursor }) => {
  const { checked, damaged, cursor: next } = await deps.rowAudit.page({ cursor, limit: ROW_PAGE });
  return { checked, mended: [], damaged, cursor: next };
};

/** Rows of one request, about a kilobyte each. */
const ROW_PAGE = 200;

/** @returns what was read; `damaged` when the row is there and cannot be read, which another step tells. */
export async function unlessDamaged<T>(read: Promise<T>): Promise<T | 'damaged'> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof DamagedRow) return 'damaged';
    throw error;
  }
}
