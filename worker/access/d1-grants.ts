import type { GrantCaps } from './ports.ts';
import type { Page } from '../platform/ports.ts';
import { gaveRow, isUniqueViolation, mayAct, type SqlDatabase } from '../platform/d1-database.ts';
import { changeOf, NOTE_GRANTS, readChange } from './d1-stale-rights.ts';
import { PUBLIC, type GrantRow, type RefusalRow } from './ports.ts';

type GrantRecord = Omit<GrantRow, 'owner'> & { owner: string };

/** "Any owner" in the table: no tenant can have this name. */
const EVERY_OWNER = '*';

const toGrant = (record: GrantRecord): GrantRow => ({
  ...record,
  owner: record.owner === EVERY_OWNER ? null : record.owner,
});

/** Neither tenants nor scopes contain line breaks. */
const CURSOR_SEPARATOR = '\n';

/** ?1 the receiver, ?2 the giver. Refused grants don't count. */
const HOLDER = `SELECT COUNT(*) FROM grants g WHERE g.tenant = ?1 AND NOT EXISTS (
  SELECT 1 FROM grant_refusals r WHERE r.tenant = g.tenant AND r.owner = g.owner)`;
const PAIR = 'SELECT COUNT(*) FROM grants WHERE owner = ?2 AND tenant = ?1';
const GIVER = 'SELECT COUNT(*) FROM grants WHERE owner = ?2';

/** The grant ?1, ?2 of the giver ?3 … */
const GRANT = 'grants WHERE tenant = ?1 AND scope = ?2 AND owner = ?3';
/** … or of every giver. */
const GRANT_OF_ALL = 'grants WHERE tenant = ?1 AND scope = ?2';
const REFUSAL = 'grant_refusals WHERE tenant = ?1 AND owner = ?2';
/** As the index `versions_from_prompts` has it. */
const FROM_PROMPTS = "CASE WHEN json_valid(training) THEN training ->> '$.prompts' END IS NOT NULL";
/** @param meant condition on the name ?1. */
const madeFromPrompts = (meant: string): string =>
  `SELECT name || '@' || version AS found FROM versions WHERE ${FROM_PROMPTS} AND ${meant}
     AND (?2 IS NULL OR owner = ?2) AND retired_at IS NULL AND removed_at IS NULL ORDER BY name, version LIMIT 1`;
/** Conditions that are not asked for would keep SQLite from the range of the index. */
const MADE_FROM_PROMPTS = {
  everything: madeFromPrompts('?1 IS NULL'),
  name: madeFromPrompts('name = ?1'),
  below: madeFromPrompts("name >= ?1 AND name < ?1 || '0' AND (name = ?1 OR name >= ?1 || '/')"),
};
const COVERING = `SELECT tenant FROM grants WHERE scope IN (SELECT value FROM json_each(?1))
  AND owner IN (?2, '${EVERY_OWNER}') ORDER BY tenant LIMIT 1`;
const ACTING = `SELECT 1 WHERE ${mayAct('?1')}`;
const REFUSED_BY = 'SELECT * FROM grant_refusals WHERE tenant = ? ORDER BY owner';

export function createD1GrantLedger(db: SqlDatabase) {
  return {
    /** The statement that adds the grant also checks the caps, and that the key which gives it may still act. */
    async add(
      { tenant, scope, owner, created_at, created_by }: GrantRow,
      caps: GrantCaps,
    ): Promise<'added' | 'known' | 'full' | 'revoked'> {
      try {
        const [added, , acting] = await db.batch([
          db
            .prepare(
              // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
              `INSERT INTO grants (tenant, owner, scope, created_at, created_by) SELECT ?1, ?2, ?3, ?4, ?5
               WHERE EXISTS (SELECT 1 FROM grants WHERE tenant = ?1 AND scope = ?3 AND owner = ?2)
                 OR ((${HOLDER}) < ?6 AND (${PAIR}) < ?7 AND (${GIVER}) < ?8 AND ${mayAct('?5')}) RETURNING scope`,
            )
            .bind(
              tenant,
              owner ?? EVERY_OWNER,
              scope,
              created_at,
              created_by,
              caps.holder,
              caps.pair,
              caps.giver,
            ),
          db.prepare(`${NOTE_GRANTS} ${GRANT}`).bind(tenant, scope, owner ?? EVERY_OWNER),
          db.prepare(ACTING).bind(created_by),
        ]);
        if (gaveRow(added)) return 'added';
        return gaveRow(acting) ? 'full' : 'revoked';
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return 'known';
      }
    },
    /**
     * @param of.name null = every name. @param of.below also everything below it. @param of.owner null = anybody's.
     * @returns `name@version` of one that was made from prompts and is in use; null = there is none.
     */
    async madeFromPrompts(of: {
      name: string | null;
      below: boolean;
      owner: string | null;
    }): Promise<string | null> {
      const row = await db
        .prepare(MADE_FROM_PROMPTS[of.name === null ? 'everything' : of.below ? 'below' : 'name'])
        .bind(of.name, of.owner)
        .first<{ found: string }>();
      return row?.found ?? null;
    },
    /** @param of.scopes that cover a name. @returns one who holds any of them; null = nobody. */
    async holderOf(of: { scopes: readonly string[]; owner: string }): Promise<string | null> {
      const row = await db
        .prepare(COVERING)
        .bind(JSON.stringify(of.scopes), of.owner)
        .first<{ tenant: string }>();
      return row?.tenant ?? null;
    },
    async get({
      tenant,
      scope,
      owner,
    }: Pick<GrantRow, 'tenant' | 'scope' | 'owner'>): Promise<GrantRow | null> {
      const record = await db
        .prepare('SELECT * FROM grants WHERE tenant = ? AND scope = ? AND owner = ?')
        .bind(tenant, scope, owner ?? EVERY_OWNER)
        .first<GrantRecord>();
      return record && toGrant(record);
    },
    /** The counts that {@link GrantCaps} limits. */
    async counts({ tenant, owner }: Pick<GrantRow, 'tenant' | 'owner'>): Promise<GrantCaps> {
      const counts = await db
        .prepare(`SELECT (${HOLDER}) AS holder, (${PAIR}) AS pair, (${GIVER}) AS giver`)
        .bind(tenant, owner ?? EVERY_OWNER)
        .first<{ holder: number; pair: number; giver: number }>();
      return counts ?? { holder: 0, pair: 0, giver: 0 };
    },
    /**
     * @returns how many were removed.
     * @param params.owner only this owner's; undefined = every owner's.
     */
    async remove({
      tenant,
      scope,
      owner,
    }: {
      scope: string;
      tenant: string;
      owner?: string;
    }): Promise<number> {
      const [from, values] =
        owner === undefined ? [GRANT_OF_ALL, [tenant, scope]] : [GRANT, [tenant, scope, owner]];
      const [, removed] = await db.batch([
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        db.prepare(`${NOTE_GRANTS} ${from}`).bind(...values),
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        db.prepare(`DELETE FROM ${from} RETURNING owner`).bind(...values),
      ]);
      return removed?.results.length ?? 0;
    },
    /** The source of what is in KV. @returns `change` null = KV has all of them. */
    async toWrite(
      tenant: string,
    ): Promise<{ rows: GrantRow[]; refusals: RefusalRow[]; change: number | null }> {
      const [held, refused, noted] = await db.batch([
        db.prepare('SELECT * FROM grants WHERE tenant = ? ORDER BY scope, owner').bind(tenant),
        db.prepare(REFUSED_BY).bind(tenant),
        readChange(db, { grants: tenant }),
      ]);
      return {
        rows: ((held?.results ?? []) as GrantRecord[]).map(toGrant),
        refusals: (refused?.results ?? []) as RefusalRow[],
        change: changeOf(noted),
      };
    },
    /** Grants to these tenants, including refused ones, by tenant and scope. */
    async heldBy(tenants: readonly string[]): Promise<GrantRow[]> {
      const { results } = await db
        .prepare(
          `SELECT * FROM grants WHERE tenant IN (SELECT value FROM json_each(?))
           ORDER BY tenant, scope, owner`,
        )
        .bind(JSON.stringify(tenants))
        .all<GrantRecord>();
      return results.map(toGrant);
    },
    /** The tenant's effective grants: given to it or to {@link PUBLIC}, and not refused by it. */
    async usableBy(tenant: string): Promise<GrantRow[]> {
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
    /**
     * A page, ordered by tenant, scope and owner.
     * @param params.owner null = every owner's.
     */
    async list({
      owner,
      cursor,
      limit,
    }: {
      owner: string | null;
      cursor: string | null;
      limit: number;
    }): Promise<Page<GrantRow>> {
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
    /** @returns `full` if the tenant already refuses `max` others; `revoked` if its key may no longer act. */
    async refuse(
      { tenant, owner, created_at, created_by }: RefusalRow,
      max: number,
    ): Promise<'added' | 'known' | 'full' | 'revoked'> {
      try {
        const [added, , acting] = await db.batch([
          db
            .prepare(
              // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
              `INSERT INTO grant_refusals (tenant, owner, created_at, created_by) SELECT ?1, ?2, ?3, ?4
               WHERE EXISTS (SELECT 1 FROM grant_refusals WHERE tenant = ?1 AND owner = ?2)
                 OR ((SELECT COUNT(*) FROM grant_refusals WHERE tenant = ?1) < ?5 AND ${mayAct('?4')}) RETURNING owner`,
            )
            .bind(tenant, owner, created_at, created_by, max),
          db.prepare(`${NOTE_GRANTS} ${REFUSAL}`).bind(tenant, owner),
          db.prepare(ACTING).bind(created_by),
        ]);
        if (gaveRow(added)) return 'added';
        return gaveRow(acting) ? 'full' : 'revoked';
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return 'known';
      }
    },
    /** @returns false if it was not refused. */
    async accept({ tenant, owner }: Pick<RefusalRow, 'tenant' | 'owner'>): Promise<boolean> {
      const [, removed] = await db.batch([
        db.prepare(`${NOTE_GRANTS} ${REFUSAL}`).bind(tenant, owner),
        db.prepare(`DELETE FROM ${REFUSAL} RETURNING owner`).bind(tenant, owner),
      ]);
      return gaveRow(removed);
    },
    /** Ordered by owner. */
    async refusedBy(tenant: string): Promise<RefusalRow[]> {
      const { results } = await db.prepare(REFUSED_BY).bind(tenant).all<RefusalRow>();
      return results;
    },
  };
}

/** System of record of grants. Throws StoreUnavailable. */
export type GrantLedger = ReturnType<typeof createD1GrantLedger>;
