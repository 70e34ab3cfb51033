import { isUniqueViolation, type SqlDatabase } from '../platform/d1-database.ts';
import { PUBLIC, type GrantLedger, type GrantRow, type RefusalRow } from './ports.ts';

interface GrantRecord {
  tenant: string;
  scope: string;
  owner: string;
  created_at: number;
  created_by: string;
}
type RefusalRecord = Omit<GrantRecord, 'scope'>;

/** How the table says "whoever owns them": no tenant can be called so. */
const EVERY_OWNER = '*';

const toGrant = (record: GrantRecord): GrantRow => ({
  tenant: record.tenant,
  scope: record.scope,
  owner: record.owner === EVERY_OWNER ? null : record.owner,
  createdAt: record.created_at,
  createdBy: record.created_by,
});

const toRefusal = (record: RefusalRecord): RefusalRow => ({
  tenant: record.tenant,
  owner: record.owner,
  createdAt: record.created_at,
  createdBy: record.created_by,
});

/** Neither tenants nor scopes can hold a line break. */
const CURSOR_SEPARATOR = '\n';

/** ?1 the receiver, ?2 the giver. What is refused takes nobody's room. */
const HOLDER = `SELECT COUNT(*) FROM grants g WHERE g.tenant = ?1 AND NOT EXISTS (
  SELECT 1 FROM grant_refusals r WHERE r.tenant = g.tenant AND r.owner = g.owner)`;
const PAIR = 'SELECT COUNT(*) FROM grants WHERE owner = ?2 AND tenant = ?1';
const GIVER = 'SELECT COUNT(*) FROM grants WHERE owner = ?2';

const TAKEN_BACK = 'DELETE FROM grants WHERE tenant = ? AND scope = ?';

export function createD1GrantLedger(db: SqlDatabase): GrantLedger {
  return {
    async add({ tenant, scope, owner, createdAt, createdBy }, caps) {
      try {
        const added = await db
          .prepare(
            `INSERT INTO grants (tenant, owner, scope, created_at, created_by) SELECT ?1, ?2, ?3, ?4, ?5
             WHERE EXISTS (SELECT 1 FROM grants WHERE tenant = ?1 AND scope = ?3 AND owner = ?2)
               OR ((${HOLDER}) < ?6 AND (${PAIR}) < ?7 AND (${GIVER}) < ?8) RETURNING scope`,
          )
          .bind(tenant, owner ?? EVERY_OWNER, scope, createdAt, createdBy, caps.holder, caps.pair, caps.giver)
          .first();
        return added === null ? 'full' : 'added';
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return 'known';
      }
    },
    async get({ tenant, scope, owner }) {
      const record = await db
        .prepare('SELECT * FROM grants WHERE tenant = ? AND scope = ? AND owner = ?')
        .bind(tenant, scope, owner ?? EVERY_OWNER)
        .first<GrantRecord>();
      return record && toGrant(record);
    },
    async counts({ tenant, owner }) {
      const counts = await db
        .prepare(`SELECT (${HOLDER}) AS holder, (${PAIR}) AS pair, (${GIVER}) AS giver`)
        .bind(tenant, owner ?? EVERY_OWNER)
        .first<{ holder: number; pair: number; giver: number }>();
      return counts ?? { holder: 0, pair: 0, giver: 0 };
    },
    async remove({ tenant, scope, owner }) {
      const { results } = await (
        owner === undefined
          ? db.prepare(`${TAKEN_BACK} RETURNING owner`).bind(tenant, scope)
          : db.prepare(`${TAKEN_BACK} AND owner = ? RETURNING owner`).bind(tenant, scope, owner)
      ).all();
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
    async usableBy(tenant) {
      const { results } = await db
        .prepare(
          `SELECT * FROM grants g WHERE g.tenant IN (?1, '${PUBLIC}') AND NOT EXISTS (
             SELECT 1 FROM grant_refusals r WHERE r.tenant = ?1 AND r.owner = g.owner)
           ORDER BY g.tenant, g.scope, g.owner`,
        )
        .bind(tenant)
        .all<GrantRecord>();
      return results.map(toGrant);
    },
    async list({ owner, cursor, limit }) {
      const [tenant = '', scope = '', after = ''] = (cursor ?? '').split(CURSOR_SEPARATOR);
      const { results } = await (
        owner === null
          ? db
              .prepare(
                `SELECT * FROM grants WHERE (tenant, scope, owner) > (?, ?, ?)
                 ORDER BY tenant, scope, owner LIMIT ?`,
              )
              .bind(tenant, scope, after, limit)
          : db
              .prepare(
                `SELECT * FROM grants WHERE owner = ? AND (tenant, scope) > (?, ?)
                 ORDER BY tenant, scope LIMIT ?`,
              )
              .bind(owner, tenant, scope, limit)
      ).all<GrantRecord>();
      const last = results.length === limit ? results.at(-1) : undefined;
      return {
        items: results.map(toGrant),
        cursor: last === undefined ? null : [last.tenant, last.scope, last.owner].join(CURSOR_SEPARATOR),
      };
    },
    async refuse({ tenant, owner, createdAt, createdBy }, max) {
      try {
        const added = await db
          .prepare(
            `INSERT INTO grant_refusals (tenant, owner, created_at, created_by) SELECT ?1, ?2, ?3, ?4
             WHERE EXISTS (SELECT 1 FROM grant_refusals WHERE tenant = ?1 AND owner = ?2)
               OR (SELECT COUNT(*) FROM grant_refusals WHERE tenant = ?1) < ?5 RETURNING owner`,
          )
          .bind(tenant, owner, createdAt, createdBy, max)
          .first();
        return added === null ? 'full' : 'added';
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return 'known';
      }
    },
    async accept({ tenant, owner }) {
      const removed = await db
        .prepare('DELETE FROM grant_refusals WHERE tenant = ? AND owner = ? RETURNING owner')
        .bind(tenant, owner)
        .first();
      return removed !== null;
    },
    async refusedBy(tenant) {
      const { results } = await db
        .prepare('SELECT * FROM grant_refusals WHERE tenant = ? ORDER BY owner')
        .bind(tenant)
        .all<RefusalRecord>();
      return results.map(toRefusal);
    },
  };
}
