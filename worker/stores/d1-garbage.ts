import type { SqlDatabase } from './d1-database.ts';
import type { GarbageLedger, UnusedFile } from './types.ts';

/** A row of `stored_files` with what its parts add up to. */
interface FileRecord {
  digest: string;
  parts: number;
  bytes: number | null;
  touched_at: number;
  deleting_at: number | null;
  collecting_at: number | null;
}

/** Decided inside each statement, so that a publication in between cannot be overlooked. */
const UNUSED = 'NOT EXISTS (SELECT 1 FROM chain_members m WHERE m.digest = stored_files.digest)';

export function createD1Garbage(db: SqlDatabase): GarbageLedger {
  return {
    async unused({ touchedBefore, cursor, limit }) {
      const { results } = await db
        .prepare(
          `SELECT digest, parts, touched_at, deleting_at, collecting_at, COALESCE(
             (SELECT b.bytes FROM blobs b WHERE b.digest = stored_files.digest),
             (SELECT SUM(p.bytes) FROM blob_parts p WHERE p.digest = stored_files.digest)) AS bytes
           FROM stored_files
           WHERE digest > ? AND (touched_at < ? OR collecting_at IS NOT NULL) AND ${UNUSED}
           ORDER BY digest LIMIT ?`,
        )
        .bind(cursor ?? '', touchedBefore, limit)
        .all<FileRecord>();
      return {
        items: results.map(toFile),
        cursor: results.length === limit ? (results.at(-1)?.digest ?? null) : null,
      };
    },
    async mark({ digest, touchedBefore, at }) {
      const marked = await db
        .prepare(
          `UPDATE stored_files SET deleting_at = ?
           WHERE digest = ? AND touched_at < ? AND deleting_at IS NULL AND collecting_at IS NULL AND ${UNUSED}
           RETURNING digest`,
        )
        .bind(at, digest, touchedBefore)
        .first();
      return marked !== null;
    },
    async beginCollecting({ digest, markedBefore, at }) {
      const began = await db
        .prepare(
          `UPDATE stored_files SET collecting_at = ?
           WHERE digest = ? AND deleting_at < ? AND collecting_at IS NULL AND ${UNUSED} RETURNING digest`,
        )
        .bind(at, digest, markedBefore)
        .first();
      if (began === null) return false;
      // Cut off before this, the file is found again as being collected, and this is done then.
      await forgetSenders(digest);
      return true;
    },
    async collected(digest) {
      await forgetSenders(digest);
      await db
        .prepare('DELETE FROM stored_files WHERE digest = ? AND collecting_at IS NOT NULL')
        .bind(digest)
        .run();
    },
  };

  async function forgetSenders(digest: string): Promise<void> {
    const beingCollected =
      'EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ? AND f.collecting_at IS NOT NULL)';
    await db.batch(
      ['blobs', 'blob_holders', 'blob_parts'].map((table) =>
        // eslint-disable-next-line no-restricted-syntax -- made of the constants above
        db.prepare(`DELETE FROM ${table} WHERE digest = ? AND ${beingCollected}`).bind(digest, digest),
      ),
    );
  }
}

const toFile = (record: FileRecord): UnusedFile => ({
  digest: record.digest,
  parts: record.parts,
  bytes: record.bytes ?? 0,
  touchedAt: record.touched_at,
  deletingAt: record.deleting_at,
  collectingAt: record.collecting_at,
});
