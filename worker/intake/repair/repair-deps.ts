import type { ExperimentIndex } from '../../stores/types-experiments.ts';
import type {
  GrantIndex,
  GrantLedger,
  KeyIndex,
  KeyLedger,
  KeyListing,
  NameIndex,
  PointerWriter,
  Registry,
} from '../../stores/types.ts';

export interface RepairDeps {
  registry: Registry;
  pointers: PointerWriter;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  /** As KV has them, without a memory. */
  nameIndex: Pick<NameIndex, 'get' | 'getMany'>;
  experimentIndex: Pick<ExperimentIndex, 'get'>;
  keyIndex: KeyIndex;
  grantIndex: GrantIndex;
  /** What lies in KV at all. */
  listing: KeyListing;
  now: () => number;
}

/** Something that KV had otherwise than the system of record says. */
export interface Mended {
  kind: 'name' | 'experiment' | 'key' | 'grant';
  /** The name, the experiment's or key's id, or the tenant (`*` = everybody). */
  id: string;
  /** What was wrong: `missing`, `unreadable`, `outdated`, or `unknown` when the system of record has no such thing. */
  was: 'missing' | 'unreadable' | 'outdated' | 'unknown';
  /** What was done. */
  did: 'written' | 'removed' | 'revoked';
}

/** One page of one step. */
export interface RepairedPage {
  checked: number;
  mended: Mended[];
  /** Within the step; null at its end. */
  cursor: string | null;
}

/** @param page.dryRun says what would be mended, and changes nothing. */
export type RepairStep = (
  deps: RepairDeps,
  page: { cursor: string | null; dryRun: boolean; actor: string },
) => Promise<RepairedPage>;
