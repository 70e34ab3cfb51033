import { MAX_KEPT_REQUESTS, RequestView } from '../../protocol/admin-api/traffic.ts';
import {
  isUniqueViolation,
  jsonLists,
  type SqlDatabase,
  type SqlStatement,
} from '../platform/d1-database.ts';
import {
  KEPT_S,
  PRUNED_CHUNKS,
  REQUESTS_KEPT_MS,
  TRAFFIC_BATCH_MEMORY_MS,
  MAX_NAMED_SERIES,
  PRUNED_STEPS,
  ROLL_UP_AFTER_S,
} from './limits.ts';
import type { TrafficLedger, TrafficRow, TrafficPoint } from './ports.ts';
import { UNNAMED, BUCKETS } from './sum-traffic.ts';
import { z } from 'zod';

const buckets = (letter: string): string[] => Array.from({ length: BUCKETS }, (_, i) => `${letter}${i}`);
const TTFT = buckets('t');
const DURATION = buckets('d');
/** Columns that are summed. */
const SUMS = ['requests', 'prompt_tokens', 'completion_tokens', ...TTFT, ...DURATION];

interface ChunkRow {
  tenant: string;
  count: number;
  left_out: number;
  requests: string;
}

const ChunkRequests = z.array(RequestView);

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

type Asked = Parameters<TrafficLedger['read']>[0];

const COLUMNS = ['step', 'at', 'tenant', 'name', 'key_id', 'status', 'code', ...SUMS];

const ADD = `INSERT INTO traffic (${COLUMNS.join(', ')})
  SELECT 60, ${COLUMNS.slice(1)
    .map((_, i) => `value ->> ${i}`)
    .join(', ')} FROM json_each(?) WHERE true
  ON CONFLICT DO UPDATE SET ${SUMS.map((column) => `${column} = ${column} + excluded.${column}`).join(', ')}`;

const valuesOf = (row: TrafficRow): (string | number)[] => [
  ...[row.at, row.tenant, row.name, row.keyId, row.status, row.code],
  ...[row.requests, row.promptTokens, row.completionTokens, ...row.ttft, ...row.duration],
];

const ADD_REQUESTS = `INSERT INTO request_chunks (tenant, at, id, count, left_out, requests)
  SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?)`;

/**
 * Late traffic, such as after an outage of the database, makes its hour and day be summed again, from the
 * minutes, which are kept for a day, and from the hours.
 */
const SUM_UP_AGAIN = `UPDATE traffic_marks SET until = CASE step WHEN 3600 THEN ?1 ELSE ?2 END
  WHERE (step = 3600 AND until > ?1 AND until <= ?1 + 86400) OR (step = 86400 AND until > ?2)`;

/** Deletes requests of the batch's tenants beyond each one's newest. */
const FORGET_REQUESTS = `WITH found AS (
    SELECT c.tenant, c.at, c.id,
      SUM(c.count) OVER (PARTITION BY c.tenant ORDER BY c.at DESC, c.id DESC) - c.count AS newer
    FROM json_each(?) wanted CROSS JOIN request_chunks c ON c.tenant = wanted.value)
  DELETE FROM request_chunks WHERE (tenant, at, id) IN (SELECT tenant, at, id FROM found WHERE newer >= ?)`;

const LAST_OF_TENANT = `SELECT tenant, count, left_out, requests FROM request_chunks
  WHERE tenant = ? ORDER BY at DESC, id DESC LIMIT ?`;
/** The counts are summed before any of the requests are read: a thousand rows can be 70 MB. */
const LAST_OF_ALL = `SELECT c.tenant, c.count, c.left_out, c.requests FROM (
    SELECT tenant, at, id, SUM(count) OVER (ORDER BY at DESC, tenant, id) - count AS newer FROM (
      SELECT tenant, at, id, count FROM request_chunks WHERE at > 0 ORDER BY at DESC LIMIT ?1)) found
  CROSS JOIN request_chunks c ON c.tenant = found.tenant AND c.at = found.at AND c.id = found.id
  WHERE found.newer < ?1 ORDER BY found.at DESC, found.tenant, found.id`;

/**
 * Statements made of constants only.
 * @param meant condition.
 */
const sumsOf = (meant: string): string =>
  `SELECT at / CAST(? AS INTEGER) * CAST(? AS INTEGER) AS begins, status, code,
     ${SUMS.map((column) => `SUM(${column}) AS ${column}`).join(', ')}
   FROM traffic WHERE step = ? AND at IN (SELECT value FROM json_each(?)) AND ${meant}
   GROUP BY begins, status, code`;

const ONE = sumsOf('tenant = ? AND name = ? AND key_id = ?');
const OF_NAME = sumsOf('tenant = ? AND name = ?');
const OF_KEY = sumsOf('tenant = ? AND key_id = ?');
/** For any tenant. */
const ANY = sumsOf('COALESCE(?, name) = name AND COALESCE(?, key_id) = key_id');

/** @returns the statement and its last values. */
function readingOf({ tenant, name, keyId }: Pick<Asked, 'tenant' | 'name' | 'keyId'>) {
  if (name === null && keyId === null) return { query: ONE, values: [tenant ?? '', '', ''] };
  if (tenant === null) return { query: ANY, values: [name, keyId] };
  if (name === null) return { query: OF_KEY, values: [tenant, keyId] };
  return keyId === null
    ? { query: OF_NAME, values: [tenant, name] }
    : { query: ONE, values: [tenant, name, keyId] };
}

const times = (from: number, to: number, step: number): string =>
  JSON.stringify(
    Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step),
  );

export function createD1Traffic(db: SqlDatabase): TrafficLedger {
  /** Unix s from which each step still has to be summed. */
  async function marks(): Promise<ReadonlyMap<number, number>> {
    const { results } = await db
      .prepare('SELECT step, until FROM traffic_marks WHERE step IN (3600, 86400)')
      .all<{ step: number; until: number }>();
    return new Map(results.map(({ step, until }) => [step, until]));
  }

  return {
    async add({ id, at, rows, chunks }) {
      const statements = [
        db.prepare('INSERT INTO traffic_batches (id, at) VALUES (?, ?)').bind(id, at),
        ...jsonLists(rows.map(valuesOf)).map((list) => db.prepare(ADD).bind(list)),
      ];
      if (rows.length > 0) {
        const first = Math.min(...rows.map((row) => row.at));
        const begins = [3600, 86400].map((step) => step * Math.floor(first / step));
        statements.push(db.prepare(SUM_UP_AGAIN).bind(...begins));
      }
      if (chunks.length > 0) {
        const lines = chunks.map(({ tenant, requests, leftOut }) => [
          ...[tenant, requests[0]?.at ?? at, id, requests.length, leftOut, JSON.stringify(requests)],
        ]);
        statements.push(
          ...jsonLists(lines).map((list) => db.prepare(ADD_REQUESTS).bind(list)),
          db
            .prepare(FORGET_REQUESTS)
            .bind(JSON.stringify(chunks.map(({ tenant }) => tenant)), MAX_KEPT_REQUESTS),
        );
      }
      try {
        await db.batch(statements);
      } catch (error) {
        // Only the batch's id can exist already: it was added, but the response was lost.
        if (!isUniqueViolation(error)) throw error;
      }
    },

    async read({ from, to, step, ...of }) {
      const summed = step < 3600 ? new Map<number, number>() : await marks();
      const hours = Math.min(to, Math.max(from, summed.get(3600) ?? from));
      const days = step < 86400 ? from : Math.min(hours, Math.max(from, summed.get(86400) ?? from));
      const { query, values } = readingOf(of);
      const parts = [
        { source: 86400, from, to: days },
        { source: 3600, from: days, to: hours },
        // Minutes older than that are deleted already.
        { source: 60, from: Math.max(hours, to - KEPT_S[60]), to },
      ].filter((part) => part.from < part.to);
      const answers = await db.batch(
        parts.map((part) =>
          db.prepare(query).bind(step, step, part.source, times(part.from, part.to, part.source), ...values),
        ),
      );
      return answers
        .flatMap(({ results }) => results as PointRow[])
        .map(readPoint)
        .sort((a, b) => a.at - b.at);
    },

    async requests({ tenant, limit }) {
      const { results } = await (
        tenant === null ? db.prepare(LAST_OF_ALL).bind(limit) : db.prepare(LAST_OF_TENANT).bind(tenant, limit)
      ).all<ChunkRow>();
      let before = 0;
      return results
        .filter(({ count }) => (before += count) - count < limit)
        .map((row) => ({
          tenant: row.tenant,
          requests: ChunkRequests.parse(JSON.parse(row.requests)),
          leftOut: row.left_out,
        }));
    },

    async tend(now) {
      const seconds = Math.floor(now / 1000);
      await rollUp(db, { into: 3600, outOf: 60, seconds });
      await rollUp(db, { into: 86400, outOf: 3600, seconds });
      await db.batch([
        ...([60, 3600, 86400] as const).map((step) => pruneStep(db, step, seconds)),
        db.prepare('DELETE FROM traffic_batches WHERE at < ?').bind(now - TRAFFIC_BATCH_MEMORY_MS),
        db
          .prepare(
            `DELETE FROM request_chunks WHERE (tenant, at, id) IN
               (SELECT tenant, at, id FROM request_chunks WHERE at < ? ORDER BY at LIMIT ?)`,
          )
          .bind(now - REQUESTS_KEPT_MS, PRUNED_CHUNKS),
      ]);
    },
  };
}

const sums = SUMS.map((column) => `SUM(${column})`).join(', ');

/**
 * Merges names and keys beyond the busiest into one row without them. A tenant's total, which has no name and
 * key, is kept apart. Repeating it gives the same result.
 */
const SUM_UP = `WITH line AS (
    SELECT tenant, name, key_id, ROW_NUMBER() OVER (ORDER BY SUM(requests) DESC, tenant, name, key_id) AS place
    FROM traffic WHERE step = ?1 AND at >= ?2 AND at < ?3 AND (name <> '' OR key_id <> '')
      AND name <> '${UNNAMED}'
    GROUP BY tenant, name, key_id),
  found AS (
    SELECT tenant, name, key_id FROM line WHERE place > ?5)
  INSERT INTO traffic (step, at, tenant, name, key_id, status, code, ${SUMS.join(', ')})
  SELECT ?4, ?2, tenant,
    CASE WHEN (tenant, name, key_id) IN (SELECT tenant, name, key_id FROM found) THEN '${UNNAMED}' ELSE name END AS named,
    CASE WHEN (tenant, name, key_id) IN (SELECT tenant, name, key_id FROM found) THEN '' ELSE key_id END AS keyed,
    status, code, ${sums}
  FROM traffic WHERE step = ?1 AND at >= ?2 AND at < ?3
  GROUP BY tenant, named, keyed, status, code
  ON CONFLICT DO UPDATE SET ${SUMS.map((column) => `${column} = excluded.${column}`).join(', ')}`;

/**
 * Sums the first step that has ended and is not summed yet, if any.
 * @param params.seconds now, unix s.
 */
async function rollUp(
  db: SqlDatabase,
  params: { into: 3600 | 86400; outOf: 60 | 3600; seconds: number },
): Promise<void> {
  const { into, outOf, seconds } = params;
  const known = await db
    .prepare('SELECT until FROM traffic_marks WHERE step = ?')
    .bind(into)
    .first<{ until: number }>();
  const first = await db
    .prepare('SELECT MIN(at) AS at FROM traffic WHERE step = ? AND at >= ?')
    .bind(outOf, known?.until ?? 0)
    .first<{ at: number | null }>();
  // Skips times without requests.
  const from = Math.floor((first?.at ?? seconds) / into) * into;
  const until = from + into;
  if (seconds < until + ROLL_UP_AFTER_S) return;
  if (outOf === 3600 && (await firstMinute(db)) < until) return;
  await db.batch([
    db.prepare(SUM_UP).bind(outOf, from, until, into, MAX_NAMED_SERIES),
    db
      .prepare(
        'INSERT INTO traffic_marks (step, until) VALUES (?, ?) ON CONFLICT DO UPDATE SET until = excluded.until',
      )
      .bind(into, until),
  ]);
}

/** Unix s of the first minute that is in no hour yet; days wait for it. */
async function firstMinute(db: SqlDatabase): Promise<number> {
  const first = await db
    .prepare(
      `SELECT MIN(at) AS at FROM traffic
       WHERE step = 60 AND at >= COALESCE((SELECT until FROM traffic_marks WHERE step = 3600), 0)`,
    )
    .first<{ at: number | null }>();
  return first?.at ?? Infinity;
}

/** Deletes at most {@link PRUNED_STEPS} steps that are too old. */
const pruneStep = (db: SqlDatabase, step: keyof typeof KEPT_S, seconds: number): SqlStatement =>
  db
    .prepare(
      `DELETE FROM traffic WHERE step = ?1
         AND at < MIN(?2, (SELECT MIN(at) FROM traffic WHERE step = ?1) + ?3)`,
    )
    .bind(step, seconds - KEPT_S[step], PRUNED_STEPS * step);
