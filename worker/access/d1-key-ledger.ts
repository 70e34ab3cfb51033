import { z } from 'zod';
import { DegradePolicy } from '../../protocol/index.ts';
import { type SqlDatabase, type SqlStatement, readable, readColumn } from '../platform/d1-database.ts';
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

/** What can be changed of a key, in the order of {@link CHANGEABLE}. */
const changeable = (row: ChangeableKey): (string | number | null)[] => [
  JSON.stringify(row.scopes),
  JSON.stringify(row.owners),
  row.label,
  row.limits === null ? null : JSON.stringify(row.limits),
  row.limitsFixed ? 1 : 0,
  row.strict ? 1 : 0,
  row.strictFields ? 1 : 0,
  row.degrade,
  row.download ? 1 : 0,
  row.keepPrompts,
  row.prompts ? 1 : 0,
];
/** Limits in whichever order they were written. */
const inOrder = (limits: string): string =>
  `(SELECT group_concat(found.pair) FROM (SELECT key || '=' || value AS pair FROM json_each(${limits}) ORDER BY key) found)`;
/** Rows from before have no owners. */
const CHANGEABLE: readonly ((value: string) => string)[] = [
  (value) => `json(scopes) = json(${value})`,
  (value) => `json(COALESCE(owners, '[]')) = json(${value})`,
  (value) => `label = ${value}`,
  (value) => `${inOrder('limits')} IS ${inOrder(value)}`,
  ...['limits_fixed', 'strict', 'strict_fields', 'degrade', 'download', 'keep_prompts', 'prompts'].map(
    (column) => (value: string) => `${column} IS ${value}`,
  ),
];
/** The row is as it was read. @param numberOf the number that the value at this place is bound by. */
const asRead = (numberOf: (at: number) => number): string =>
  CHANGEABLE.map((is, at) => is(`?${numberOf(at)}`)).join(' AND ');
/** Of an added key, ?18 replaces the one that it is a copy of. */
const INSERTED_AT = [5, 6, 7, 14, 15, 12, 19, 13, 20, 21, 22];
const REPLACED_AS_READ = ` AND EXISTS (SELECT 1 FROM keys WHERE id = ?18 AND ${asRead((at) => INSERTED_AT[at] ?? 0)})`;

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
        `INSERT INTO keys (id, hash, kind, tenant, scopes, owners, label, created_at, created_by, revoked_at,
           expires_at, strict, degrade, limits, limits_fixed, counter, replaced_by, replaces, strict_fields, download,
           keep_prompts, prompts)
         SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?9, ?, ?, ?, ?, ?, ?, ?, ?, ?18, ?, ?, ?, ?
         WHERE NOT EXISTS (SELECT 1 FROM keys WHERE id IN (?9, ?18) AND revoked_at IS NOT NULL)${also}
         RETURNING id`,
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
        row.limitsFixed ? 1 : 0,
        row.counter === row.id ? null : row.counter,
        row.replacedBy,
        row.replaces,
        row.strictFields ? 1 : 0,
        row.download ? 1 : 0,
        row.keepPrompts,
        row.prompts ? 1 : 0,
      );
  return {
    async add(row) {
      return (await insert(row).first()) !== null;
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
          `UPDATE keys SET scopes = ?2, owners = ?3, label = ?4, limits = ?5, limits_fixed = ?6, strict = ?7,
             strict_fields = ?8, degrade = ?9, download = ?10, keep_prompts = ?11, prompts = ?12
           WHERE id = ?1 AND revoked_at IS NULL AND ${asRead((at) => at + 13)} RETURNING id`,
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
