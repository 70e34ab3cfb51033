import { z } from 'zod';
import { KeyLimits, KeyRights } from '../../protocol/admin-api/keys.ts';
import {
  type SqlDatabase,
  type SqlStatement,
  gaveRow,
  isUniqueViolation,
  mayAct,
  placeOf,
  readable,
  readColumn,
} from '../platform/d1-database.ts';
import { DamagedRow, type Page } from '../platform/ports.ts';
import { changeOf, NOTE_KEYS, readChange } from './d1-stale-rights.ts';
import { allRights, rightsOf, type ChangeableKey, type KeyRow } from './ports.ts';

/** Column `rights`: everything that can be changed about a key. */
const StoredRights = KeyRights.extend({
  label: z.string(),
  scopes: z.array(z.string()),
  scope_owners: z.array(z.string().nullable()),
  limits_fixed: z.literal(true).optional(),
});

const storedRights = (row: ChangeableKey): string => {
  const { label, scopes, scope_owners, limits_fixed } = row;
  const fixed = limits_fixed ? { limits_fixed } : {};
  return JSON.stringify({ label, scopes, scope_owners, ...fixed, ...rightsOf(row) });
};

export interface KeyRecordRow extends Pick<
  KeyRow,
  | 'id'
  | 'hash'
  | 'kind'
  | 'tenant'
  | 'created_at'
  | 'created_by'
  | 'revoked_at'
  | 'expires_at'
  | 'replaced_by'
  | 'replaces'
> {
  rights: string;
  counter: string | null;
  tenant_limits: string | null;
}

const NOTHING = JSON.stringify({ label: '', scopes: [], scope_owners: [] });

/**
 * Reads a row. Damaged columns of a revoked key are ignored: only its revocation matters.
 * @param toRevoke ignores them in any key.
 * @throws DamagedRow
 */
export function toKey(row: KeyRecordRow, toRevoke = false): KeyRow {
  try {
    return readKey(row);
  } catch (error) {
    if (!(error instanceof DamagedRow) || (!toRevoke && row.revoked_at === null)) throw error;
    return readKey({ ...row, rights: NOTHING, tenant_limits: null });
  }
}

function readKey({ rights, tenant_limits: tenantLimits, ...row }: KeyRecordRow): KeyRow {
  const stored = readColumn(StoredRights, rights, { table: 'keys', id: row.id, column: 'rights' });
  const { label, scopes, scope_owners, limits_fixed = false, ...given } = stored;
  const place = { table: 'tenant_limits', id: row.tenant, column: 'limits' };
  return {
    ...row,
    label,
    scopes,
    scope_owners,
    limits_fixed,
    ...allRights(given),
    tenant_limits: tenantLimits === null ? null : readColumn(KeyLimits, tenantLimits, place),
    counter: row.counter ?? row.id,
  };
}

/**
 * The descendants of key ?1, itself included, as a table `line (id)`. Each step uses an index (CROSS JOIN
 * keeps `line` as the outer loop), and UNION skips known keys, so the cost is linear in their number.
 */
function lineOf({ successors, made }: Pick<RevokedLine, 'successors' | 'made'>): string {
  const steps = [
    ...(successors ? ['SELECT k.id FROM line CROSS JOIN keys k ON k.replaces = line.id'] : []),
    ...(made ? ['SELECT k.id FROM line CROSS JOIN keys k ON k.created_by = line.id'] : []),
  ];
  return `WITH RECURSIVE line (id) AS (${['SELECT ?1', ...steps].join(' UNION ')})`;
}

const pageOf = (rows: readonly KeyRecordRow[], limit: number): Page<KeyRow> => ({
  items: readable(rows, toKey),
  cursor: rows.length === limit ? (rows.at(-1)?.id ?? null) : null,
});

/** The fields of column `rights`, regardless of their order. */
const fields = (sql: string): string =>
  `(SELECT json_group_array(field) FROM
     (SELECT fullkey || '=' || type || ':' || COALESCE(atom, '') AS field FROM json_tree(${sql}) ORDER BY 1))`;
/**
 * Whether column `rights` is unchanged.
 * @param value as it was read.
 */
const asRead = (value: string): string => `${fields('rights')} = ${fields(value)}`;
/** The key ?1 can be changed, and still has the rights ?2. */
const UNCHANGED = `id = ?1 AND revoked_at IS NULL AND ${asRead('?2')}`;
/** The added key replaces ?11, and ?12 are the rights that it copied. */
const REPLACED_AS_READ = ` AND EXISTS (SELECT 1 FROM keys WHERE id = ?11 AND ${asRead('?12')})`;

/** A key `k` with its tenant's limits. */
const COLUMNS = 'k.*, (SELECT t.limits FROM tenant_limits t WHERE t.tenant = k.tenant) AS tenant_limits';
const SUCCESSORS = lineOf({ successors: true, made: false });

export function createD1KeyLedger(db: SqlDatabase) {
  /**
   * Inserts nothing if the key that creates it is revoked or erased, or the one that it replaces is revoked. The
   * statement checks both.
   * @param also a further condition.
   */
  const insert = (row: KeyRow, also = ''): SqlStatement =>
    db
      .prepare(
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        `INSERT INTO keys (id, hash, kind, tenant, created_at, created_by, revoked_at, expires_at, counter,
           replaced_by, replaces, rights)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
         WHERE ${mayAct('?6')} AND NOT EXISTS (SELECT 1 FROM keys WHERE id = ?11 AND revoked_at IS NOT NULL)${also}
         RETURNING id`,
      )
      .bind(
        row.id,
        row.hash,
        row.kind,
        row.tenant,
        row.created_at,
        row.created_by,
        row.revoked_at,
        row.expires_at,
        row.counter === row.id ? null : row.counter,
        row.replaced_by,
        row.replaces,
        storedRights(row),
      );
  return {
    /** @returns false if the key that creates it has been revoked or erased, or the key exists already. */
    async add(row: KeyRow): Promise<boolean> {
      try {
        const [added] = await db.batch([insert(row), db.prepare(`${NOTE_KEYS} id = ?`).bind(row.id)]);
        return gaveRow(added);
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return false;
      }
    },
    /**
     * A page, newest first.
     * @param params.tenant null = all.
     */
    async list({
      tenant,
      cursor,
      limit,
    }: {
      tenant: string | null;
      cursor: string | null;
      limit: number;
    }): Promise<Page<KeyRow>> {
      // Only the requested conditions are in the query, so that SQLite uses the index.
      const place = placeOf(cursor);
      const given = [
        ...(tenant === null ? [] : [{ sql: 'tenant = ?', values: [tenant] }]),
        ...(place === null ? [] : [{ sql: '(created_at, id) < (?, ?)', values: place }]),
      ];
      const where = given.length === 0 ? '' : `WHERE ${given.map(({ sql }) => sql).join(' AND ')}`;
      const { results } = await db
        // eslint-disable-next-line no-restricted-syntax -- made of the constants above; the values are bound
        .prepare(`SELECT ${COLUMNS} FROM keys k ${where} ORDER BY created_at DESC, id DESC LIMIT ?`)
        .bind(...given.flatMap(({ values }) => values), limit)
        .all<KeyRecordRow>();
      const last = results.length === limit ? results.at(-1) : undefined;
      return {
        items: readable(results, toKey),
        cursor: last === undefined ? null : `${last.created_at}-${last.id}`,
      };
    },
    /** @param reading.toRevoke reads a damaged row as a key without rights, so that it can be revoked. */
    async get(id: string, { toRevoke }: { toRevoke?: boolean } = {}): Promise<KeyRow | null> {
      const row = await db
        .prepare(`SELECT ${COLUMNS} FROM keys k WHERE id = ?`)
        .bind(id)
        .first<KeyRecordRow>();
      return row && toKey(row, toRevoke);
    },
    /** The source of what is in KV. @returns `change` null = KV has all of them. */
    async toWrite(hash: string): Promise<{ row: KeyRow | null; change: number | null }> {
      const [found, noted] = await db.batch([
        db.prepare(`SELECT ${COLUMNS} FROM keys k WHERE hash = ?`).bind(hash),
        readChange(db, { key: hash }),
      ]);
      const [row] = (found?.results ?? []) as KeyRecordRow[];
      return { row: row === undefined ? null : toKey(row), change: changeOf(noted) };
    },
    /** An admin key that is not revoked. The caller checks whether it has expired. */
    async admin(hash: string): Promise<KeyRow | null> {
      const row = await db
        .prepare(`SELECT ${COLUMNS} FROM keys k WHERE hash = ? AND kind = 'admin' AND revoked_at IS NULL`)
        .bind(hash)
        .first<KeyRecordRow>();
      return row && toKey(row);
    },
    /**
     * Adds `row` as the successor of the key that it replaces, which expires at `expiresAt` or earlier.
     * Atomic.
     * @returns false if the replaced key or the key that creates `row` has been revoked, or if the replaced
     * key's rights have changed: otherwise its successor would keep a right that was removed.
     */
    async rotate({
      row,
      expiresAt,
    }: {
      row: KeyRow & { replaces: string };
      expiresAt: number;
    }): Promise<boolean> {
      const [added] = await db.batch([
        insert(row, REPLACED_AS_READ),
        db
          .prepare(
            `UPDATE keys SET replaced_by = ?1, expires_at = MIN(COALESCE(expires_at, ?2), ?2)
             WHERE id = ?3 AND EXISTS (SELECT 1 FROM keys WHERE id = ?1)`,
          )
          .bind(row.id, expiresAt, row.replaces),
        db
          .prepare(`${NOTE_KEYS} id IN (?1, ?2) AND EXISTS (SELECT 1 FROM keys WHERE id = ?1)`)
          .bind(row.id, row.replaces),
      ]);
      return gaveRow(added);
    },
    /**
     * Changes a key.
     * @param was as it was read.
     * @returns false, without writing, if the key has changed since or is revoked: otherwise a stale change
     * could restore a right that was removed.
     */
    async change(row: ChangeableKey, was: ChangeableKey): Promise<boolean> {
      const [, changed] = await db.batch([
        db.prepare(`${NOTE_KEYS} ${UNCHANGED}`).bind(row.id, storedRights(was)),
        db
          .prepare(`UPDATE keys SET rights = ?3 WHERE ${UNCHANGED} RETURNING id`)
          .bind(row.id, storedRights(was), storedRights(row)),
      ]);
      return gaveRow(changed);
    },
    /**
     * Revokes the key and its descendants at once. After that, none of them can be rotated or create a key.
     */
    async revoke({ id, at, ...line }: RevokedLine & { at: number }): Promise<void> {
      const valid = `id IN (${lineOf(line)} SELECT id FROM line) AND revoked_at IS NULL`;
      await db.batch([
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        db.prepare(`${NOTE_KEYS} ${valid}`).bind(id),
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        db.prepare(`UPDATE keys SET revoked_at = ?2 WHERE ${valid}`).bind(id, at),
      ]);
    },
    /**
     * The keys that {@link KeyLedger.revoke} ends, the first included, ordered by id.
     * @param params.after the previous page's last id.
     */
    async line({
      id,
      after,
      limit,
      ...line
    }: RevokedLine & { after: string | null; limit: number }): Promise<KeyRow[]> {
      const { results } = await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
          `${lineOf(line)} SELECT ${COLUMNS} FROM line CROSS JOIN keys k ON k.id = line.id
           WHERE line.id > ?2 ORDER BY line.id LIMIT ?3`,
        )
        .bind(id, after ?? '', limit)
        .all<KeyRecordRow>();
      return readable(results, toKey);
    },
    /**
     * Keys created by the key or its successors that are not successors, and neither revoked nor expired at
     * `at`.
     */
    async madeBy({ id, at, limit }: { id: string; at: number; limit: number }): Promise<KeyRow[]> {
      const { results } = await db
        .prepare(
          `${SUCCESSORS} SELECT ${COLUMNS} FROM line CROSS JOIN keys k ON k.created_by = line.id
           WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?2)
             AND k.id NOT IN (SELECT id FROM line) LIMIT ?3`,
        )
        .bind(id, at, limit)
        .all<KeyRecordRow>();
      return readable(results, toKey);
    },
    /** All keys, ordered by id. */
    async page({ cursor, limit }: { cursor: string | null; limit: number }): Promise<Page<KeyRow>> {
      const { results } = await db
        .prepare(`SELECT ${COLUMNS} FROM keys k WHERE id > ? ORDER BY id LIMIT ?`)
        .bind(cursor ?? '', limit)
        .all<KeyRecordRow>();
      return pageOf(results, limit);
    },
    /** The tenant's API keys that are not revoked, ordered by id. */
    async ofTenant({
      tenant,
      cursor,
      limit,
    }: {
      tenant: string;
      cursor: string | null;
      limit: number;
    }): Promise<Page<KeyRow>> {
      const { results } = await db
        .prepare(
          `SELECT ${COLUMNS} FROM keys k
           WHERE tenant = ? AND id > ? AND kind = 'api' AND revoked_at IS NULL ORDER BY id LIMIT ?`,
        )
        .bind(tenant, cursor ?? '', limit)
        .all<KeyRecordRow>();
      return pageOf(results, limit);
    },
  };
}

/** System of record of keys. Throws StoreUnavailable. */
export type KeyLedger = ReturnType<typeof createD1KeyLedger>;

/** Which keys a revocation ends. */
export interface RevokedLine {
  id: string;
  /** The keys that replaced it by rotation, directly or not. */
  successors: boolean;
  /** The keys that it or one of these created. */
  made: boolean;
}
