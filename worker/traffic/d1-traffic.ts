import { jsonLists, type SqlDatabase, type SqlStatement } from '../platform/d1-database.ts';
import { DAY_AFTER_S, KEPT_S, MAX_NAMED_SERIES, PRUNED_STEPS } from './limits.ts';
import type { TrafficLedger, TrafficPoint, TrafficQuery, TrafficRow } from './ports.ts';
import { UNNAMED, BUCKETS } from './sum-traffic.ts';

const buckets = (letter: string): string[] => Array.from({ length: BUCKETS }, (_, i) => `${letter}${i}`);
const TTFT = buckets('t');
const DURATION = buckets('d');
/** Columns that are summed. */
const SUMS = ['requests', 'prompt_tokens', 'completion_tokens', ...TTFT, ...DURATION];

/** Also has the sums, under their columns' names. */
type PointRow = Record<string, number> & { begins: number; status: number } & { code: unknown };

const readPoint = (row: PointRow): TrafficPoint => ({
  at: row.begins,
  status: row.status,
  code: String(row.code),
  requests: row['requests'] ?? 0,
  promptTokens: row['prompt_tokens'] ?? 0,
  completionTokens: row['completion_tokens'] ?? 0,
  ttft: TTFT.map((column) => row[column] ?? 0),
  duration: DURATION.map((column) => row[column] ?? 0),
});

const COLUMNS = ['step', 'at', 'tenant', 'name', 'key_id', 'status', 'code', 'writer', ...SUMS];

const ADD = `INSERT INTO traffic (${COLUMNS.join(', ')})
  SELECT 3600, ${COLUMNS.slice(1)
    .map((_, i) => `value ->> ${i}`)
    .join(', ')} FROM json_each(?)`;

const valuesOf = (row: TrafficRow, writer: number): (string | number)[] => [
  ...[row.at, row.tenant, row.name, row.keyId, row.status, row.code, writer],
  ...[row.requests, row.promptTokens, row.completionTokens, ...row.ttft, ...row.duration],
];

/** An hour that comes late, such as after an outage of the database, makes its day be summed again. */
const SUM_UP_AGAIN = 'UPDATE traffic_marks SET until = ?1 WHERE step = 86400 AND until > ?1';

/**
 * Statements made of constants only.
 * @param meant condition.
 * @param table with its index, where SQLite would choose the primary key's, and read every tenant's rows.
 */
const sumsOf = (meant: string, table = 'traffic'): string =>
  `SELECT at / CAST(? AS INTEGER) * CAST(? AS INTEGER) AS begins, status, code,
     ${SUMS.map((column) => `SUM(${column}) AS ${column}`).join(', ')}
   FROM ${table} WHERE step = ? AND at IN (SELECT value FROM json_each(?)) AND ${meant}
   GROUP BY begins, status, code`;

const ONE = sumsOf('tenant = ? AND name = ? AND key_id = ?');
const OF_NAME = sumsOf('tenant = ? AND name = ?');
const OF_KEY = sumsOf('tenant = ? AND key_id = ?');
// For any tenant. Two indexes have only rows with a name, or with a key.
const ANY_OF_NAME = sumsOf(
  "name = ? AND name <> '' AND COALESCE(?, key_id) = key_id",
  'traffic INDEXED BY traffic_by_name',
);
const ANY_OF_KEY = sumsOf("key_id = ? AND key_id <> ''", 'traffic INDEXED BY traffic_by_key');

/** @returns the statement and its last values. */
function readingOf({ tenant, name, keyId }: Pick<TrafficQuery, 'tenant' | 'name' | 'keyId'>) {
  if (name === null && keyId === null) return { query: ONE, values: [tenant ?? '', '', ''] };
  if (tenant === null)
    return name === null
      ? { query: ANY_OF_KEY, values: [keyId] }
      : { query: ANY_OF_NAME, values: [name, keyId] };
  if (name === null) return { query: OF_KEY, values: [tenant, keyId] };
  return keyId === null
    ? { query: OF_NAME, values: [tenant, name] }
    : { query: ONE, values: [tenant, name, keyId] };
}

const times = (from: number, to: number, step: number): string =>
  JSON.stringify(
    Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step),
  );

export const createD1Traffic = (db: SqlDatabase): TrafficLedger => ({
  async writeHour({ at, writer, rows }) {
    await db.batch([
      db.prepare('DELETE FROM traffic WHERE step = 3600 AND at = ? AND writer = ?').bind(at, writer),
      ...jsonLists(rows.map((row) => valuesOf(row, writer))).map((list) => db.prepare(ADD).bind(list)),
      db.prepare(SUM_UP_AGAIN).bind(86400 * Math.floor(at / 86400)),
    ]);
  },

  async read({ from, to, step, ...of }) {
    const summed = step < 86400 ? null : await markOf(db);
    // Whole ones: `to` may be within one.
    const days = Math.max(from, 86400 * Math.floor(Math.min(to, summed?.until ?? from) / 86400));
    const { query, values } = readingOf(of);
    const parts = [
      { source: 86400, from, to: days },
      { source: 3600, from: days, to },
    ].filter((part) => part.from < part.to);
    if (parts.length === 0) return [];
    const answers = await db.batch(
      parts.map((part) =>
        db.prepare(query).bind(step, step, part.source, times(part.from, part.to, part.source), ...values),
      ),
    );
    return answers.flatMap(({ results }) => results as PointRow[]).map(readPoint);
  },

  async tend(now) {
    const seconds = Math.floor(now / 1000);
    await sumUpDay(db, seconds);
    await db.batch(([3600, 86400] as const).map((step) => pruneStep(db, step, seconds)));
  },

  async forget({ tenant, names, step, from, to }) {
    const first = step * Math.ceil(from / step);
    const ofTenant = [step, times(first, to, step), tenant];
    const ofNames = [JSON.stringify(names), step, from, to];
    const statements = [
      ...(tenant === null ? [] : FORGET_TENANT.map((sql) => db.prepare(sql).bind(...ofTenant))),
      ...(names.length === 0 ? [] : FORGET_NAMES.map((sql) => db.prepare(sql).bind(...ofNames))),
    ];
    if (statements.length === 0) return 0;
    return (await db.batch(statements))
      .flatMap(({ results }) => results as { count: number }[])
      .reduce((sum, { count }) => sum + count, 0);
  },
});

// By times of which each is looked up: a range of them has every tenant's rows in it.
const OF_TENANT = 'WHERE step = ? AND at IN (SELECT value FROM json_each(?)) AND tenant = ?';
const OF_NAMES = `INDEXED BY traffic_by_name WHERE name <> '' AND name IN (SELECT value FROM json_each(?))
  AND step = ? AND at >= ? AND at < ?`;
const counting = (of: string): [count: string, remove: string] => [
  `SELECT COUNT(*) AS count FROM traffic ${of}`,
  `DELETE FROM traffic ${of}`,
];
const FORGET_TENANT = counting(OF_TENANT);
const FORGET_NAMES = counting(OF_NAMES);

/** Unix s from which days still have to be summed; null = none is. */
const markOf = (db: SqlDatabase): Promise<{ until: number } | null> =>
  db.prepare('SELECT until FROM traffic_marks WHERE step = 86400').first<{ until: number }>();

const sums = SUMS.map((column) => `SUM(${column})`).join(', ');

/**
 * Merges names and keys beyond the busiest into one row without them. A tenant's total, which has no name and
 * key, is kept apart. Repeating it gives the same result.
 */
const SUM_UP = `WITH line AS (
    SELECT tenant, name, key_id, ROW_NUMBER() OVER (ORDER BY SUM(requests) DESC, tenant, name, key_id) AS place
    FROM traffic WHERE step = 3600 AND at >= ?1 AND at < ?2 AND (name <> '' OR key_id <> '')
      AND name <> '${UNNAMED}'
    GROUP BY tenant, name, key_id),
  found AS (
    SELECT tenant, name, key_id FROM line WHERE place > ?3)
  INSERT INTO traffic (step, at, tenant, name, key_id, status, code, writer, ${SUMS.join(', ')})
  SELECT 86400, ?1, tenant,
    CASE WHEN (tenant, name, key_id) IN (SELECT tenant, name, key_id FROM found) THEN '${UNNAMED}' ELSE name END AS named,
    CASE WHEN (tenant, name, key_id) IN (SELECT tenant, name, key_id FROM found) THEN '' ELSE key_id END AS keyed,
    status, code, 0, ${sums}
  FROM traffic WHERE step = 3600 AND at >= ?1 AND at < ?2
  GROUP BY tenant, named, keyed, status, code
  ON CONFLICT DO UPDATE SET ${SUMS.map((column) => `${column} = excluded.${column}`).join(', ')}`;

/**
 * Sums the first day that has ended and is not summed yet, if any.
 * @param seconds now, unix s.
 */
async function sumUpDay(db: SqlDatabase, seconds: number): Promise<void> {
  const known = await markOf(db);
  const first = await db
    .prepare('SELECT MIN(at) AS at FROM traffic WHERE step = 3600 AND at >= ?')
    .bind(known?.until ?? 0)
    .first<{ at: number | null }>();
  // Skips times without requests.
  const from = Math.floor((first?.at ?? seconds) / 86400) * 86400;
  const until = from + 86400;
  if (seconds < until + DAY_AFTER_S) return;
  await db.batch([
    db.prepare(SUM_UP).bind(from, until, MAX_NAMED_SERIES),
    db
      .prepare(
        'INSERT INTO traffic_marks (step, until) VALUES (86400, ?) ON CONFLICT DO UPDATE SET until = excluded.until',
      )
      .bind(until),
  ]);
}

/** Deletes at most {@link PRUNED_STEPS} steps that are too old. */
const pruneStep = (db: SqlDatabase, step: 3600 | 86400, seconds: number): SqlStatement =>
  db
    .prepare(
      `DELETE FROM traffic WHERE step = ?1
         AND at < MIN(?2, (SELECT MIN(at) FROM traffic WHERE step = ?1) + ?3)`,
    )
    .bind(step, seconds - KEPT_S[step], PRUNED_STEPS * step);
