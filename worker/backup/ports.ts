/** Port of backups: all tables of the system of record, as they are. */
import type { BackupPlan, BackupRow, BackupRows } from '../../protocol/admin-api/backup.ts';

/** Throws StoreUnavailable. */
export interface BackupLedger {
  plan(): Promise<BackupPlan>;
  /** @returns null when there is no such table, or the cursor is none of it. */
  rows(params: { table: string; cursor: string | null }): Promise<BackupRows | null>;
  /**
   * Notes that the backup is being brought back.
   * @returns `full` when the registry has names, versions or files; `other` when another backup is being brought back.
   */
  begin(params: { id: string; dryRun: boolean }): Promise<'begun' | 'resumed' | 'full' | 'other'>;
  isBegun(id: string): Promise<boolean>;
  /**
   * A row that is there already is replaced.
   * @returns why not, when the table, or a column, is none of this registry's.
   */
  write(params: {
    table: string;
    columns: readonly string[];
    rows: readonly BackupRow[];
  }): Promise<string | null>;
  end(id: string): Promise<void>;
}
