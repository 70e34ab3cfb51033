import { z } from 'zod';
import { DegradePolicy } from '../../protocol/admin-api/keys.ts';
import {
  type SqlDatabase,
  type SqlStatement,
  isUniqueViolation,
  readable,
  readColumn,
} from '../platform/d1-database.ts';
import { KeyLimits } from '../metering/ports.ts';
import { DamagedRow, type Page } from '../platform/ports.ts';
import type { ChangeableKey, KeyLedger, KeyRow, RevokedLine } from './ports.ts';

export interface KeyRecordRow {
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
  strict_fields: number;
  download: number;
  keep_prompts: number | null;
  prompts: number;
  degrade: string | null;
  limits: string | null;
  limits_fixed: number;
  tenant_limits: string | null;
  counter: string | null;
  replaced_by: string | null;
  replaces: string | null;
}

/** Of a key that is revoked nothing counts but that: what is damaged of it is left out. @throws DamagedRow */
export function toKey(row: KeyRecordRow, toRevoke = false): KeyRow {
  try {
    return readKey(row);
  } catch (error) {
    if (!(error instanceof DamagedRow) || (!toRevoke && row.revoked_at === null)) throw error;
    return readKey({ ...row, scopes: '[]', owners: null, limits: null, tenant_limits: null, degrade: null });
  }
}

const column = <T>(schema: z.ZodType<T>, text: string, { id }: KeyRecordRow, column: string): T =>
  readColumn(schema, text, { table: 'keys', id, column });

const readKey = (row: KeyRecordRow): KeyRow => ({
  id: row.id,
  hash: row.hash,
  kind: row.kind,
  tenant: row.tenant,
  scopes: column(z.array(z.string()), row.scopes, row, 'scopes'),
  owners: row.owners === null ? [] : column(z.array(z.string().nullable()), row.owners, row, 'owners'),
  label: row.label,
  createdAt: row.created_at,
  createdBy: row.created_by,
  revokedAt: row.revoked_at,
  expiresAt: row.expires_at,
  strict: row.strict !== 0,
  strictFields: row.strict_fields !== 0,
  download: row.download !== 0,
  keepPrompts: row.keep_prompts,
  prompts: row.prompts !== 0,
  degrade: row.degrade === null ? null : column(DegradePolicy, JSON.stringify(row.degrade), row, 'degrade'),
  limits: row.limits === null ? null : column(KeyLimits, row.limits, row, 'limits'),
  limitsFixed: row.limits_fixed !== 0,
  tenantLimits:
    row.tenant_limits === null
      ? null
      : readColumn(KeyLimits, row.tenant_limits, {
          table: 'tenant_limits',
          id: row.tenant,
          column: 'limits',
        }),
  counter: row.counter ?? row.id,
  replacedBy: row.replaced_by,
  replaces: row.replaces,
});

/** @returns whether the statement's `RETURNING` gave a row. */
const gaveRow = (answer: { results: unknown[] } | undefined): boolean => (answer?.results.length ?? 0) > 0;

/**
 * The line of ?1 as a table `line (id)`. Each step follows an index (CROSS JOIN keeps the line outside), and what is
 * there already is not followed again, so that it costs what the line is long.
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

const same = (sql: string): string => sql;
const inJson = (sql: string): string => `json(${sql})`;
/** Limits in whichever order they were written. */
const inOrder = (sql: string): string =>
  `(SELECT group_concat(found.pair) FROM (SELECT key || '=' || value AS pair FROM json_each(${sql}) ORDER BY key) found)`;

/** What can be changed of a key: column, its value, and what two of them are compared as. */
const CHANGEABLE: readonly [
  column: string,
  valueOf: (row: ChangeableKey) => string | number | null,
  comparedAs: (sql: string) => string,
][] = [
  ['scopes', ({ scopes }) => JSON.stringify(scopes), inJson],
  ['owners', ({ owners }) => JSON.stringify(owners), inJson],
  ['label', ({ label }) => label, same],
  ['limits', ({ limits }) => (limits === null ? null : JSON.stringify(limits)), inOrder],
  ['limits_fixed', ({ limitsFixed }) => (limitsFixed ? 1 : 0), same],
  ['strict', ({ strict }) => (strict ? 1 : 0), same],
  ['strict_fields', ({ strictFields }) => (strictFields ? 1 : 0), same],
  ['degrade', ({ degrade }) => degrade, same],
  ['download', ({ download }) => (download ? 1 : 0), same],
  ['keep_prompts', ({ keepPrompts }) => keepPrompts, same],
  ['prompts', ({ prompts }) => (prompts ? 1 : 0), same],
];
const changeable = (row: ChangeableKey) => CHANGEABLE.map(([, valueOf]) => valueOf(row));
/** @param first the number that the first of the values is bound by. */
const listed = (first: number): string[] => CHANGEABLE.map((_, at) => `?${first + at}`);
const assigned = (first: number): string =>
  CHANGEABLE.map(([column], at) => `${column} = ?${first + at}`).join(', ');
/** The row is as it was read. */
const asRead = (first: number): string =>
  CHANGEABLE.map(
    ([column, , comparedAs], at) => `${comparedAs(column)} IS ${comparedAs(`?${first + at}`)}`,
  ).join(' AND ');
/** Of an added key, ?11 replaces the one that it is a copy of. */
const REPLACED_AS_READ = ` AND EXISTS (SELECT 1 FROM keys WHERE id = ?11 AND ${asRead(12)})`;

/** A key `k` with the limits of its tenant. */
const COLUMNS = 'k.*, (SELECT t.limits FROM tenant_limits t WHERE t.tenant = k.tenant) AS tenant_limits';
const SUCCESSORS = lineOf({ successors: true, made: false });
const NEWEST_FIRST = 'ORDER BY created_at DESC, id';

export function createD1KeyLedger(db: SqlDatabase): KeyLedger {
  /**
   * Nothing when the key that makes it, or the one that it replaces, is revoked: decided as it is added.
   * @param also what else has to be so.
   */
  const insert = (row: KeyRow, also = ''): SqlStatement =>
    db
      .prepare(
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        `INSERT INTO keys (id, hash, kind, tenant, created_at, created_by, revoked_at, expires_at, counter,
           replaced_by, replaces, ${CHANGEABLE.map(([column]) => column).join(', ')})
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ${listed(12).join(', ')}
         WHERE NOT EXISTS (SELECT 1 FROM keys WHERE id IN (?6, ?11) AND revoked_at IS NOT NULL)${also}
         RETURNING id`,
      )
      .bind(
        row.id,
        row.hash,
        row.kind,
        row.tenant,
        row.createdAt,
        row.createdBy,
        row.revokedAt,
        row.expiresAt,
        row.counter === row.id ? null : row.counter,
        row.replacedBy,
        row.replaces,
        ...changeable(row),
      );
  return {
    async add(row) {
      try {
        return (await insert(row).first()) !== null;
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return false;
      }
    },
    async list(tenant) {
      const { results } = await (
        tenant === null
          ? db.prepare(`SELECT ${COLUMNS} FROM keys k ${NEWEST_FIRST}`)
          : db.prepare(`SELECT ${COLUMNS} FROM keys k WHERE tenant = ? ${NEWEST_FIRST}`).bind(tenant)
      ).all<KeyRecordRow>();
      return readable(results, toKey);
    },
    async get(id, { toRevoke } = {}) {
      const row = await db
        .prepare(`SELECT ${COLUMNS} FROM keys k WHERE id = ?`)
        .bind(id)
        .first<KeyRecordRow>();
      return row && toKey(row, toRevoke);
    },
    async admin(hash) {
      const row = await db
        .prepare(`SELECT ${COLUMNS} FROM keys k WHERE hash = ? AND kind = 'admin' AND revoked_at IS NULL`)
        .bind(hash)
        .first<KeyRecordRow>();
      return row && toKey(row);
    },
    async rotate({ row, expiresAt }) {
      const [added] = await db.batch([
        insert(row, REPLACED_AS_READ),
        db
          .prepare(
            `UPDATE keys SET replaced_by = ?1, expires_at = MIN(COALESCE(expires_at, ?2), ?2)
             WHERE id = ?3 AND EXISTS (SELECT 1 FROM keys WHERE id = ?1)`,
          )
          .bind(row.id, expiresAt, row.replaces),
      ]);
      return gaveRow(added);
    },
    async change(row, was) {
      const changed = await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
          `UPDATE keys SET ${assigned(2)}
           WHERE id = ?1 AND revoked_at IS NULL AND ${asRead(2 + CHANGEABLE.length)} RETURNING id`,
        )
        .bind(row.id, ...changeable(row), ...changeable(was))
        .first();
      return changed !== null;
    },
    async revoke({ id, at, ...line }) {
      await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
          `${lineOf(line)} UPDATE keys SET revoked_at = ?2
           WHERE id IN (SELECT id FROM line) AND revoked_at IS NULL`,
        )
        .bind(id, at)
        .run();
    },
    async line({ id, after, limit, ...line }) {
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
    async madeBy({ id, at, limit }) {
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
    async page({ cursor, limit }) {
      const { results } = await db
        .prepare(`SELECT ${COLUMNS} FROM keys k WHERE id > ? ORDER BY id LIMIT ?`)
        .bind(cursor ?? '', limit)
        .all<KeyRecordRow>();
      return pageOf(results, limit);
    },
    async ofTenant({ tenant, cursor, limit }) {
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
