import { z } from 'zod';
import type { SqlDatabase } from '../platform/d1-database.ts';
import type { ErasureLedger } from './ports.ts';

type Pages = Pick<ErasureLedger, 'files' | 'releaseFile' | 'fileLeftTo' | 'atOrigins' | 'unused'>;

const Ids = z.array(z.string());

/** Of the file ?1: no version has it in its chain … */
const UNUSED = 'NOT EXISTS (SELECT 1 FROM chain_members m WHERE m.digest = ?1)';
/** … none of the tenant ?2 has it … */
const UNUSED_BY = `NOT EXISTS (SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE m.digest = ?1 AND v.owner = ?2)`;
/** … and nobody has sent it. */
const UNSENT = `NOT EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = ?1)
  AND NOT EXISTS (SELECT 1 FROM blob_parts p WHERE p.digest = ?1)`;

/** Files of an erasure: in the store, and at the origins. */
export function createD1ErasedFiles(db: SqlDatabase): Pages {
  return {
    async files({ id }, limit) {
      const { results } = await db
        .prepare(
          'SELECT digest FROM erasure_files WHERE erasure = ? AND origins IS NULL ORDER BY digest LIMIT ?',
        )
        .bind(id, limit)
        .all<{ digest: string }>();
      return results.map(({ digest }) => digest);
    },

    async releaseFile({ owner }, digest, at) {
      const [, , size, , began] = await db.batch([
        db
          .prepare(`DELETE FROM blob_parts WHERE digest = ?1 AND tenant = ?2 AND ${UNUSED_BY}`)
          .bind(digest, owner),
        db
          .prepare(`DELETE FROM blob_holders WHERE digest = ?1 AND tenant = ?2 AND ${UNUSED_BY}`)
          .bind(digest, owner),
        db
          .prepare(
            `SELECT COALESCE((SELECT b.bytes FROM blobs b WHERE b.digest = ?1),
               (SELECT SUM(p.bytes) FROM stored_parts p WHERE p.digest = ?1), 0) AS bytes`,
          )
          .bind(digest),
        db.prepare(`DELETE FROM blobs WHERE digest = ?1 AND ${UNUSED} AND ${UNSENT}`).bind(digest),
        db
          .prepare(
            `UPDATE stored_files SET collecting_at = COALESCE(collecting_at, ?2)
             WHERE digest = ?1 AND ${UNUSED} AND ${UNSENT} RETURNING parts`,
          )
          .bind(digest, at),
        db
          .prepare(
            `UPDATE stored_parts SET collecting_at = COALESCE(collecting_at, ?2) WHERE digest = ?1 AND ${UNUSED} AND ${UNSENT}`,
          )
          .bind(digest, at),
      ]);
      const [file] = (began?.results ?? []) as { parts: number }[];
      const [sized] = (size?.results ?? []) as { bytes: number }[];
      if (file !== undefined) return { bytes: sized?.bytes ?? 0, parts: file.parts };
      // Deleted before, by this or as garbage: nothing is in the store, and origins may have it still.
      const held = await db
        .prepare(`SELECT 1 AS held WHERE NOT (${UNUSED} AND ${UNSENT})`)
        .bind(digest)
        .first();
      return held === null ? { bytes: 0, parts: 0 } : null;
    },

    async fileLeftTo({ id }, digest, origins) {
      await (
        origins.length === 0
          ? db.prepare('DELETE FROM erasure_files WHERE erasure = ? AND digest = ?').bind(id, digest)
          : db
              .prepare('UPDATE erasure_files SET origins = ?3 WHERE erasure = ?1 AND digest = ?2')
              .bind(id, digest, JSON.stringify(origins))
      ).run();
    },

    async atOrigins({ id }, after, limit) {
      const { results } = await db
        .prepare(
          `SELECT digest, origins FROM erasure_files WHERE erasure = ? AND origins IS NOT NULL AND digest > ?
           ORDER BY digest LIMIT ?`,
        )
        .bind(id, after, limit)
        .all<{ digest: string; origins: string }>();
      return results.map(({ digest, origins }) => ({ digest, origins: Ids.parse(JSON.parse(origins)) }));
    },

    async unused(digests) {
      const { results } = await db
        .prepare(
          `SELECT value AS digest FROM json_each(?) WHERE NOT EXISTS (
             SELECT 1 FROM chain_members m WHERE m.digest = value)`,
        )
        .bind(JSON.stringify(digests))
        .all<{ digest: string }>();
      return results.map(({ digest }) => digest);
    },
  };
}
