import { z } from 'zod';
import { DegradePolicy } from '../../protocol/index.ts';
import type { SqlDatabase, SqlStatement } from './d1-database.ts';
import { KeyLimits } from './types-metering.ts';
import type { KeyLedger, KeyRow } from './types.ts';

interface KeyRecordRow {
  id: string;
  hash: string;
  kind: 'api' | 'admin';
  tenant: string;
  scopes: string;
  owners: string | null;
  label: string;
  created_at: number;
  created_by: string;
  revoked_at: number | null;
  expires_at: number | null;
  strict: number;
  degrade: string | null;
  limits: string | null;
  counter: string | null;
  replaced_by: string | null;
}

const toKey = (row: KeyRecordRow): KeyRow => ({
  id: row.id,
  hash: row.hash,
  kind: row.kind,
  tenant: row.tenant,
  scopes: z.array(z.string()).parse(JSON.parse(row.scopes)),
  owners: row.owners === null ? [] : z.array(z.string().nullable()).parse(JSON.parse(row.owners)),
  label: row.label,
  createdAt: row.created_at,
  createdBy: row.created_by,
  revokedAt: row.revoked_at,
  expiresAt: row.expires_at,
  strict: row.strict !== 0,
  degrade: row.degrade === null ? null : DegradePolicy.parse(row.degrade),
  limits: row.limits === null ? null : KeyLimits.parse(JSON.parse(row.limits)),
  counter: row.counter ?? row.id,
  replacedBy: row.replaced_by,
});

export function createD1KeyLedger(db: SqlDatabase): KeyLedger {
  const insert = (row: KeyRow): SqlStatement =>
    db
      .prepare(
        `INSERT INTO keys (id, hash, kind, tenant, scopes, owners, label, created_at, created_by, revoked_at,
           expires_at, strict, degrade, limits, counter, replaced_by)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .bind(
        row.id,
        row.hash,
        row.kind,
        row.tenant,
        JSON.stringify(row.scopes),
        JSON.stringify(row.owners),
        row.label,
        row.createdAt,
        row.createdBy,
        row.revokedAt,
        row.expiresAt,
        row.strict ? 1 : 0,
        row.degrade,
        row.limits === null ? null : JSON.stringify(row.limits),
        row.counter === row.id ? null : row.counter,
        row.replacedBy,
      );
  return {
    async add(row) {
      await insert(row).run();
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
    async rotate({ row, old, expiresAt }) {
      await db.batch([
        insert(row),
        db
          .prepare(
            'UPDATE keys SET replaced_by = ?, expires_at = MIN(COALESCE(expires_at, ?), ?) WHERE id = ?',
          )
          .bind(row.id, expiresAt, expiresAt, old),
      ]);
    },
    async change({ id, scopes, owners, label, limits, strict, degrade }) {
      await db
        .prepare(
          `UPDATE keys SET scopes = ?, owners = ?, label = ?, limits = ?, strict = ?, degrade = ?
           WHERE id = ? AND revoked_at IS NULL`,
        )
        .bind(
          JSON.stringify(scopes),
          JSON.stringify(owners),
          label,
          limits === null ? null : JSON.stringify(limits),
          strict ? 1 : 0,
          degrade,
          id,
        )
        .run();
    },
    async revoke(id, at) {
      await db
        .prepare('UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL')
        .bind(at, id)
        .run();
    },
    async page({ cursor, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM keys WHERE id > ? ORDER BY id LIMIT ?')
        .bind(cursor ?? '', limit)
        .all<KeyRecordRow>();
      return {
        items: results.map(toKey),
        cursor: results.length === limit ? (results.at(-1)?.id ?? null) : null,
      };
    },
  };
}
