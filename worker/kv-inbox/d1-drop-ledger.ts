import type { SqlDatabase } from '../platform/d1-database.ts';
import { DROPS_REMEMBERED, type DropLedger, type DropRow } from './ports.ts';

interface DropRecord {
  name: string;
  sha256: string;
  version: number | null;
  at: number;
  removed_at: number | null;
}

export function createD1DropLedger(db: SqlDatabase): DropLedger {
  return {
    async recent(name) {
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
    async put({ name, sha256, version, at, removedAt }) {
      await db.batch([
        db
          .prepare(
            `INSERT INTO drops (name, sha256, version, at, removed_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (name, sha256) DO UPDATE SET version = excluded.version, at = excluded.at,
               removed_at = excluded.removed_at`,
          )
          .bind(name, sha256, version, at, removedAt),
        db
          .prepare(
            `DELETE FROM drops WHERE name = ? AND sha256 NOT IN
               (SELECT sha256 FROM drops WHERE name = ? ORDER BY at DESC, sha256 LIMIT ?)`,
          )
          .bind(name, name, DROPS_REMEMBERED),
      ]);
    },
  };
}
