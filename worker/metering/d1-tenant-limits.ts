import { KeyLimits } from '../../protocol/admin-api/keys.ts';
import { type SqlDatabase, readable, readColumn } from '../platform/d1-database.ts';
import type { TenantLimits, TenantLimitsRow } from './ports.ts';

export interface TenantLimitsRecord extends Omit<TenantLimitsRow, 'limits'> {
  limits: string | null;
}

/** @throws DamagedRow */
export function toRow(record: TenantLimitsRecord): TenantLimitsRow {
  const place = { table: 'tenant_limits', id: record.tenant, column: 'limits' };
  return { ...record, limits: record.limits === null ? null : readColumn(KeyLimits, record.limits, place) };
}

export function createD1TenantLimits(db: SqlDatabase): TenantLimits {
  return {
    async get(tenant) {
      const record = await db
        .prepare('SELECT * FROM tenant_limits WHERE tenant = ?')
        .bind(tenant)
        .first<TenantLimitsRecord>();
      return record && toRow(record);
    },
    async set({ tenant, limits, changed_at, changed_by, was }) {
      const record = await db
        .prepare(
          `INSERT INTO tenant_limits (tenant, limits, changed_at, changed_by, revision, written_to)
           SELECT ?1, ?2, ?3, ?4, 1, ''
           WHERE ?5 = COALESCE((SELECT t.revision FROM tenant_limits t WHERE t.tenant = ?1), 0)
           ON CONFLICT (tenant) DO UPDATE SET limits = excluded.limits, changed_at = excluded.changed_at,
             changed_by = excluded.changed_by, revision = revision + 1, written_to = ''
           RETURNING *`,
        )
        .bind(tenant, limits === null ? null : JSON.stringify(limits), changed_at, changed_by, was)
        .first<TenantLimitsRecord>();
      return record && toRow(record);
    },
    async wrote({ tenant, revision, written_to }) {
      await db
        .prepare('UPDATE tenant_limits SET written_to = ? WHERE tenant = ? AND revision = ?')
        .bind(written_to, tenant, revision)
        .run();
    },
    async list({ cursor, limit }) {
      const { results } = await db
        .prepare(
          `SELECT * FROM tenant_limits WHERE tenant > ? AND (limits IS NOT NULL OR written_to IS NOT NULL)
           ORDER BY tenant LIMIT ?`,
        )
        .bind(cursor ?? '', limit)
        .all<TenantLimitsRecord>();
      return {
        items: readable(results, toRow),
        cursor: results.length === limit ? (results.at(-1)?.tenant ?? null) : null,
      };
    },
    async unwritten(limit) {
      const { results } = await db
        .prepare('SELECT * FROM tenant_limits WHERE written_to IS NOT NULL ORDER BY tenant LIMIT ?')
        .bind(limit)
        .all<TenantLimitsRecord>();
      return readable(results, toRow);
    },
  };
}
