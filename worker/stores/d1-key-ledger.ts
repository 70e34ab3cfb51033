import { z } from 'zod';
import type { SqlDatabase } from './d1-database.ts';
import type { KeyLedger, KeyRow } from './types.ts';

interface KeyRecordRow {
  id: string;
  hash: string;
  kind: 'api' | 'admin';
  tenant: string;
  scopes: string;
  label: string;
  created_at: number;
  created_by: string;
  revoked_at: number | null;
}

const toKey = (row: KeyRecordRow): KeyRow => ({
  id: row.id,
  hash: row.hash,
  kind: row.kind,
  tenant: row.tenant,
  scopes: z.array(z.string()).parse(JSON.parse(row.scopes)),
  label: row.label,
  createdAt: row.created_at,
  createdBy: row.created_by,
  revokedAt: row.revoked_at,
});

export function createD1KeyLedger(db: SqlDatabase): KeyLedger {
  return {
    async add(row) {
      await db
        .prepare(
          `INSERT INTO keys (id, hash, kind, tenant, scopes, label, created_at, created_by, revoked_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .bind(
          row.id,
          row.hash,
          row.kind,
          row.tenant,
          JSON.stringify(row.scopes),
          row.label,
          row.createdAt,
          row.createdBy,
          row.revokedAt,
        )
        .run();
    },
    async list(tenant) {
      const { results } = await db
        .prepare('SELECT * FROM keys WHERE (? IS NULL OR tenant = ?) ORDER BY created_at DESC, id')
        .bind(tenant, tenant)
        .all<KeyRecordRow>();
      return results.map(toKey);
    },
    async get(id) {
      const row = await db.prepare('SELECT * FROM keys WHERE id = ?').bind(id).first<KeyRecordRow>();
      return row && toKey(row);
    },
    async admin(hash) {
      const row = await db
        .prepare("SELECT * FROM keys WHERE hash = ? AND kind = 'admin' AND revoked_at IS NULL")
        .bind(hash)
        .first<KeyRecordRow>();
      return row && toKey(row);
    },
    async revoke(id, at) {
      await db
        .prepare('UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL')
        .bind(at, id)
        .run();
    },
  };
}
