import { isUniqueViolation, type SqlDatabase } from './d1-database.ts';
import type { GrantLedger, GrantRow } from './types.ts';

interface GrantRecord {
  tenant: string;
  scope: string;
  owner: string;
  created_at: number;
  created_by: string;
}

/** How the table says "whoever owns them": no tenant can be called so. */
const EVERY_OWNER = '*';

const toGrant = (record: GrantRecord): GrantRow => ({
  tenant: record.tenant,
  scope: record.scope,
  owner: record.owner === EVERY_OWNER ? null : record.owner,
  createdAt: record.created_at,
  createdBy: record.created_by,
});

/** Neither tenants nor scopes can hold a line break. */
const CURSOR_SEPARATOR = '\n';

export function createD1GrantLedger(db: SqlDatabase): GrantLedger {
  return {
    async add({ tenant, scope, owner, createdAt, createdBy }) {
      try {
        await db
          .prepare('INSERT INTO grants (tenant, scope, owner, created_at, created_by) VALUES (?, ?, ?, ?, ?)')
          .bind(tenant, scope, owner ?? EVERY_OWNER, createdAt, createdBy)
          .run();
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return false;
      }
      return true;
    },
    async remove({ tenant, scope, owner = null }) {
      const { results } = await db
        .prepare(
          'DELETE FROM grants WHERE tenant = ? AND scope = ? AND (? IS NULL OR owner = ?) RETURNING owner',
        )
        .bind(tenant, scope, owner, owner)
        .all<{ owner: string }>();
      return results.length;
    },
    async heldBy(tenants) {
      const { results } = await db
        .prepare(
          `SELECT * FROM grants WHERE tenant IN (SELECT value FROM json_each(?))
           ORDER BY tenant, scope, owner`,
        )
        .bind(JSON.stringify(tenants))
        .all<GrantRecord>();
      return results.map(toGrant);
    },
    async list({ owner, cursor, limit }) {
      const [tenant = '', scope = '', after = ''] = (cursor ?? '').split(CURSOR_SEPARATOR);
      const { results } = await db
        .prepare(
          `SELECT * FROM grants WHERE (? IS NULL OR owner = ?) AND (tenant, scope, owner) > (?, ?, ?)
           ORDER BY tenant, scope, owner LIMIT ?`,
        )
        .bind(owner, owner, tenant, scope, after, limit)
        .all<GrantRecord>();
      const last = results.length === limit ? results.at(-1) : undefined;
      return {
        items: results.map(toGrant),
        cursor: last === undefined ? null : [last.tenant, last.scope, last.owner].join(CURSOR_SEPARATOR),
      };
    },
  };
}
