import { type SqlDatabase, readable, readColumn } from '../platform/d1-database.ts';
import { KeyLimits, type TenantLimits, type TenantLimitsRow } from './ports.ts';

export interface TenantLimitsRecord {
  tenant: string;
  limits: string | null;
  at: number;
  actor: string;
  revision: number;
  written_to: string | null;
}

/** @throws DamagedRow */
export const toRow = (record: TenantLimitsRecord): TenantLimitsRow => ({
  tenant: record.tenant,
  limits:
    record.limits === null
      ? null
      : readColumn(KeyLimits, record.limits, {
          table: 'tenant_limits',
          id: record.tenant,
          column: 'limits',
        }),
  at: record.at,
  actor: record.actor,
  revision: record.revision,
  writtenTo: record.written_to,
});

export function createD1TenantLimits(db: SqlDatabase): TenantLimits {
  return {
    async get(tenant) {
      const record = await db
        .prepare('SELECT * FROM tenant_limits WHERE tenant = ?')
        .bind(tenant)
        .first<TenantLimitsRecord>();
      return record && toRow(record);
    },
    async set({ tenant, limits, at, actor, was }) {
      const record = await db
        .prepare(
          `INSERT INTO tenant_limits (tenant, limits, at, actor, revision, written_to)
           SELECT ?1, ?2, ?3, ?4, 1, ''
           WHERE ?5 = COALESCE((SELECT t.revision FROM tenant_limits t WHERE t.tenant = ?1), 0)
           ON CONFLICT (tenant) DO UPDATE SET limits = excluded.limits, at = excluded.at,
             actor = excluded.actor, revision = revision + 1, written_to = ''
           RETURNING *`,
        )
        .bind(tenant, limits === null ? null : JSON.stringify(limits), at, actor, was)
        .first<TenantLimitsRecord>();
      return record && toRow(record);
    },
    async wrote({ tenant, revision, writtenTo }) {
      await db
        .prepare('UPDATE tenant_limits SET written_to = ? WHERE tenant = ? AND revision = ?')
        .bind(writtenTo, tenant, revision)
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
