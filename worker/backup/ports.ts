/** Port of backups: all tables of D1, unchanged. */
import type { BackupPlan, BackupRow, BackupRows } from '../../protocol/admin-api/backup.ts';

/** Throws StoreUnavailable. */
export interface BackupLedger {
  plan(): Promise<BackupPlan>;
  /** @returns null when there is no such table, or the cursor is not one of it. */
  rows(params: { table: string; cursor: string | null }): Promise<BackupRows | null>;
  /**
   * Records that the backup is being restored.
   * @returns `full` when the registry has names, versions or files; `other` when another backup is being
   * restored.
   */
  begin(params: { id: string; dryRun: boolean }): Promise<'begun' | 'resumed' | 'full' | 'other'>;
  isBegun(id: string): Promise<boolean>;
  /**
   * Replaces existing rows.
   * @returns an error when the table, or a column, does not exist in this registry.
   */
  write(params: {
    table: string;
    columns: readonly string[];
    rows: readonly BackupRow[];
  }): Promise<string | null>;
  end(id: string): Promise<void>;
}
