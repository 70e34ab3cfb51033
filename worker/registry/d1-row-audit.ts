import { toRecord, type BlobRow } from '../blobs/d1-blob-rows.ts';
import type { SqlDatabase } from '../platform/d1-database.ts';
import { toExperiment, type ExperimentRecord } from '../experiments/d1-experiment-rows.ts';
import { toKey, type KeyRecordRow } from '../access/d1-key-ledger.ts';
import { NAME, toDescribed, toName, type NameRecord, type VersionRecord } from './d1-registry-rows.ts';
import { toRow as toLimits, type TenantLimitsRecord } from '../metering/d1-tenant-limits.ts';
import { toWebhook, type WebhookRecord } from '../webhooks/d1-webhooks.ts';
import { DamagedRow, type DamagedPlace, type RowAudit } from '../platform/ports.ts';

interface Table {
  name: string;
  /** Rows after a key, ordered by it. */
  query: string;
  /** Values of `query` before its limit; null = from the first row. */
  after: (key: readonly string[] | null) => (string | number)[];
  keyOf: (record: never) => string[];
  read: (record: never) => unknown;
}

const byId = (
  name: string,
  column: 'id' | 'digest' | 'name' | 'tenant',
  query: string,
  read: Table['read'],
): Table => ({
  name,
  query,
  after: (key) => [key?.[0] ?? ''],
  keyOf: (record: Record<string, string>) => [record[column] ?? ''],
  read,
});

const TABLES: readonly Table[] = [
  {
    name: 'versions',
    query: 'SELECT * FROM versions WHERE (name, version) > (?, ?) ORDER BY name, version LIMIT ?',
    after: (key) => [key?.[0] ?? '', Number(key?.[1] ?? 0)],
    keyOf: ({ name, version }: VersionRecord) => [name, String(version)],
    read: toDescribed,
  },
  byId('names', 'name', `${NAME} WHERE name > ? ORDER BY name LIMIT ?`, (record: NameRecord) =>
    toName(record),
  ),
  byId(
    'keys',
    'id',
    'SELECT *, NULL AS tenant_limits FROM keys WHERE id > ? ORDER BY id LIMIT ?',
    (record: KeyRecordRow) => toKey(record),
  ),
  byId(
    'tenant_limits',
    'tenant',
    'SELECT * FROM tenant_limits WHERE tenant > ? ORDER BY tenant LIMIT ?',
    (record: TenantLimitsRecord) => toLimits(record),
  ),
  byId(
    'experiments',
    'id',
    'SELECT * FROM experiments WHERE id > ? ORDER BY id LIMIT ?',
    (record: ExperimentRecord) => toExperiment(record),
  ),
  byId('webhooks', 'id', 'SELECT * FROM webhooks WHERE id > ? ORDER BY id LIMIT ?', (record: WebhookRecord) =>
    toWebhook(record),
  ),
  byId(
    'blobs',
    'digest',
    'SELECT digest, bytes, parts FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?',
    (record: BlobRow) => toRecord(record),
  ),
];

/** Neither names nor ids contain line breaks. */
const SEPARATOR = '\n';

export const createD1RowAudit = (db: SqlDatabase): RowAudit => ({
  async page({ cursor, limit }) {
    const [at = '', ...key] = (cursor ?? '').split(SEPARATOR);
    const table = TABLES.find(({ name }) => name === at) ?? (TABLES[0] as Table);
    const { results } = await db
      .prepare(table.query)
      .bind(...table.after(key.length === 0 ? null : key), limit)
      .all<never>();
    const last = results.length === limit ? results.at(-1) : undefined;
    const next = TABLES[TABLES.indexOf(table) + 1]?.name ?? null;
    return {
      checked: results.length,
      damaged: results.flatMap((record) => damageOf(() => table.read(record)) ?? []),
      cursor: last === undefined ? next : [table.name, ...table.keyOf(last)].join(SEPARATOR),
    };
  },
});

function damageOf(read: () => unknown): DamagedPlace | null {
  try {
    read();
    return null;
  } catch (error) {
    if (error instanceof DamagedRow) return error.place;
    throw error;
  }
}
