import { BlobRecord, type BlobPart } from '../../protocol/index.ts';
import type { SqlDatabase } from './d1-database.ts';
import type { BlobLedger } from './types.ts';

export function createD1BlobLedger(db: SqlDatabase): BlobLedger {
  return {
    async touch({ digest, parts, at }) {
      const touched = await db
        .prepare(
          `INSERT INTO stored_files (digest, parts, touched_at) VALUES (?, ?, ?)
           ON CONFLICT (digest) DO UPDATE SET parts = MAX(parts, excluded.parts),
             touched_at = MAX(touched_at, excluded.touched_at), deleting_at = NULL
             WHERE collecting_at IS NULL
           RETURNING digest`,
        )
        .bind(digest, parts, at)
        .first();
      return touched !== null;
    },
    async addPart({ digest, tenant, part, at }) {
      await db
        .prepare(
          `INSERT INTO blob_parts (digest, tenant, part, bytes, sha256, at) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (digest, tenant, part) DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256,
             at = excluded.at`,
        )
        .bind(digest, tenant, part.index, part.bytes, part.sha256, at)
        .run();
    },
    async parts(digest, tenant) {
      const { results } = await db
        .prepare(
          'SELECT part AS "index", bytes, sha256 FROM blob_parts WHERE digest = ? AND tenant = ? ORDER BY part',
        )
        .bind(digest, tenant)
        .all<BlobPart>();
      return results;
    },
    async complete({ digest, tenant, record, at }) {
      await db.batch([
        db
          .prepare(
            `INSERT INTO blobs (digest, bytes, parts, created_at, touched_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (digest) DO UPDATE SET touched_at = excluded.touched_at`,
          )
          .bind(digest, record.bytes, JSON.stringify(record.parts), at, at),
        db
          .prepare('INSERT INTO blob_holders (digest, tenant, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
          .bind(digest, tenant, at),
      ]);
    },
    async record(digest) {
      const row = await db
        .prepare('SELECT bytes, parts FROM blobs WHERE digest = ?')
        .bind(digest)
        .first<{ bytes: number; parts: string }>();
      return row && BlobRecord.parse({ bytes: row.bytes, parts: JSON.parse(row.parts) as unknown });
    },
    async holds(digest, tenant) {
      const row = await db
        .prepare('SELECT 1 AS held FROM blob_holders WHERE digest = ? AND tenant = ?')
        .bind(digest, tenant)
        .first();
      return row !== null;
    },
  };
}
