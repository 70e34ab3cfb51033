import type { SqlDatabase } from '../platform/d1-database.ts';
import { DROPS_REMEMBERED } from './limits.ts';

interface DropRecord {
  name: string;
  sha256: string;
  version: number | null;
  at: number;
  removed_at: number | null;
}

export function createD1DropLedger(db: SqlDatabase) {
  return {
    /** The last {@link DROPS_REMEMBERED} of the name at most, newest first. */
    async recent(name: string): Promise<DropRow[]> {
      const { results } = await db
        .prepare('SELECT * FROM drops WHERE name = ? ORDER BY at DESC, sha256 LIMIT ?')
        .bind(name, DROPS_REMEMBERED)
        .all<DropRecord>();
      return results.map(({ removed_at: removedAt, sha256, version, at }): DropRow => ({
        name,
        sha256,
        version,
        at,
        removedAt,
      }));
    },
    /**
     * Takes the place of what was known of the same file under the same name. @returns false for a refused file of a
     * name that has been erased: KV may show it for a minute longer, and nothing is noted.
     */
    async put({ name, sha256, version, at, removedAt }: DropRow): Promise<boolean> {
      const [noted] = await db.batch([
        db
          .prepare(
            `INSERT INTO drops (name, sha256, version, at, removed_at) SELECT ?1, ?2, ?3, ?4, ?5
             WHERE ?3 IS NOT NULL OR NOT EXISTS (SELECT 1 FROM erasures e CROSS JOIN erasure_items i
               ON i.erasure = e.id AND i.name = ?1 AND i.version = 0 WHERE e.step <> 'planned')
             ON CONFLICT (name, sha256) DO UPDATE SET version = excluded.version, at = excluded.at,
               removed_at = excluded.removed_at RETURNING name`,
          )
          .bind(name, sha256, version, at, removedAt),
        db
          .prepare(
            `DELETE FROM drops WHERE name = ? AND sha256 NOT IN
               (SELECT sha256 FROM drops WHERE name = ? ORDER BY at DESC, sha256 LIMIT ?)`,
          )
          .bind(name, name, DROPS_REMEMBERED),
      ]);
      return (noted?.results.length ?? 0) > 0;
    },
    /** Its file was taken out of KV. Nothing is noted of a name that has been erased meanwhile. */
    async removed({ name, sha256 }: DropRow, at: number): Promise<void> {
      await db
        .prepare('UPDATE drops SET removed_at = ? WHERE name = ? AND sha256 = ?')
        .bind(at, name, sha256)
        .run();
    },
  };
}

/** What became of each name's last files, so that none is taken twice. Throws StoreUnavailable. */
export type DropLedger = ReturnType<typeof createD1DropLedger>;

export interface DropRow {
  name: string;
  /** Of the file, hex. */
  sha256: string;
  /** That it became; null when it was refused. */
  version: number | null;
  /** Unix ms when that was decided. */
  at: number;
  /** Unix ms when the file was removed; null while it lies there. */
  removedAt: number | null;
}
