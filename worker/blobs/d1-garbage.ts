import type { SqlDatabase } from '../platform/d1-database.ts';
import type { GarbageLedger, SurplusPart, UnusedFile } from './ports.ts';

/** A row of `stored_files` with what its parts add up to. */
interface FileRecord {
  digest: string;
  parts: number;
  finished: number;
  bytes: number;
  touched_at: number;
  deleting_at: number | null;
  collecting_at: number | null;
}

/** Decided inside each statement, so that a publication in between cannot be overlooked. */
const UNUSED = 'NOT EXISTS (SELECT 1 FROM chain_members m WHERE m.digest = stored_files.digest)';
const FINISHED = 'EXISTS (SELECT 1 FROM blobs b WHERE b.digest = stored_files.digest)';
/** In `upkeep`. */
const JOB = 'garbage';

export function createD1Garbage(db: SqlDatabase): GarbageLedger {
  return {
    async unused({ touchedBefore, cursor, scan, limit }) {
      const [{ results }, last] = await Promise.all([
        db
          .prepare(
            `SELECT digest, parts, touched_at, deleting_at, collecting_at, ${FINISHED} AS finished, COALESCE(
               (SELECT b.bytes FROM blobs b WHERE b.digest = stored_files.digest),
               (SELECT SUM(p.bytes) FROM stored_parts p WHERE p.digest = stored_files.digest),
               (SELECT SUM(p.bytes) FROM blob_parts p WHERE p.digest = stored_files.digest), 0) AS bytes
             FROM (SELECT * FROM stored_files WHERE digest > ? ORDER BY digest LIMIT ?) stored_files
             WHERE (touched_at < ? OR collecting_at IS NOT NULL) AND ${UNUSED}
             ORDER BY digest LIMIT ?`,
          )
          .bind(cursor ?? '', scan, touchedBefore, limit)
          .all<FileRecord>(),
        db
          .prepare('SELECT digest FROM stored_files WHERE digest > ? ORDER BY digest LIMIT 1 OFFSET ?')
          .bind(cursor ?? '', scan - 1)
          .first<{ digest: string }>(),
      ]);
      const full = results.length === limit ? results.at(-1) : undefined;
      return { items: results.map(toFile), cursor: (full ?? last)?.digest ?? null };
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
    async beginDropping({ digest, touchedBefore, at }) {
      const began = await db
        .prepare(
          `UPDATE stored_files SET collecting_at = ?
           WHERE digest = ? AND touched_at < ? AND collecting_at IS NULL AND NOT ${FINISHED} AND ${UNUSED}
           RETURNING digest`,
        )
        .bind(at, digest, touchedBefore)
        .first();
      if (began === null) return false;
      await forgetSenders(digest);
      return true;
    },
    async storedParts(digest, limit) {
      const { results } = await db
        .prepare('SELECT sha256 FROM stored_parts WHERE digest = ? ORDER BY sha256 LIMIT ?')
        .bind(digest, limit)
        .all<{ sha256: string }>();
      return results.map(({ sha256 }) => sha256);
    },
    async partsCollected(digest, sha256s) {
      const gone = JSON.stringify(sha256s);
      await db.batch([
        // Who holds the file sent them long ago, and is not asked for them again.
        db
          .prepare(
            `DELETE FROM blob_parts WHERE digest = ? AND sha256 IN (SELECT value FROM json_each(?)) AND NOT EXISTS (
               SELECT 1 FROM blob_holders h WHERE h.digest = blob_parts.digest AND h.tenant = blob_parts.tenant)`,
          )
          .bind(digest, gone),
        db
          .prepare('DELETE FROM stored_parts WHERE digest = ? AND sha256 IN (SELECT value FROM json_each(?))')
          .bind(digest, gone),
      ]);
    },
    async collected(digest) {
      await forgetSenders(digest);
      await db
        .prepare('DELETE FROM stored_files WHERE digest = ? AND collecting_at IS NOT NULL')
        .bind(digest)
        .run();
    },
    async surplus({ keptBefore, limit }) {
      const { results } = await db
        .prepare(
          `SELECT digest, sha256, bytes FROM stored_parts WHERE recorded = 0 AND kept_at < ?
           ORDER BY kept_at LIMIT ?`,
        )
        .bind(keptBefore, limit)
        .all<SurplusPart>();
      return results;
    },
    async beginPart({ digest, sha256, keptBefore, at }) {
      const began = await db
        .prepare(
          `UPDATE stored_parts SET collecting_at = COALESCE(collecting_at, ?)
           WHERE digest = ? AND sha256 = ? AND recorded = 0 AND kept_at < ? RETURNING sha256`,
        )
        .bind(at, digest, sha256, keptBefore)
        .first();
      return began !== null;
    },
    async postpone({ digest, at }) {
      await db
        .prepare(
          `UPDATE stored_parts SET kept_at = ? WHERE digest = ? AND recorded = 0 AND collecting_at IS NULL`,
        )
        .bind(at, digest)
        .run();
    },
    async position() {
      const row = await db
        .prepare('SELECT cursor FROM upkeep WHERE job = ?')
        .bind(JOB)
        .first<{ cursor: string }>();
      return row?.cursor || null;
    },
    async setPosition(cursor) {
      await db
        .prepare(
          `INSERT INTO upkeep (job, cursor) VALUES (?, ?)
           ON CONFLICT (job) DO UPDATE SET cursor = excluded.cursor`,
        )
        .bind(JOB, cursor ?? '')
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
  bytes: record.bytes,
  finished: record.finished === 1,
  touchedAt: record.touched_at,
  deletingAt: record.deleting_at,
  collectingAt: record.collecting_at,
});
