import type { HistoryRow, PointedExperiment, ChangeNote } from '../../worker/registry/ports.ts';

/** What the ledger of experiments, which lies in the same database, has to do with names. */
export interface FakeNames {
  /** Writes history, and flips the name if so. */
  note(name: string, entry: ChangeNote & Pick<HistoryRow, 'action' | 'target'>, flip?: { to: number }): void;
  isRetired(name: string, version: number): boolean;
  liveOf(name: string): number | null;
  /** Set by the ledger. */
  experimentOf: (name: string) => Omit<PointedExperiment, 'versions'> | null;
  isUsed: (name: string, version: number, owner: string) => boolean;
  /** Experiments that are not archived, with what they name; set by the ledger. */
  using: () => { id: string; owner: string; name: string; started: boolean; adapters: string[] }[];
  /** Set by the ledger of pins. */
  isPinned: (name: string) => boolean;
  unpin: (name: string) => void;
}
