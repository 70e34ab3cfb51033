import { MAX_KEPT_REQUESTS } from '../../protocol/index.ts';
import { isUniqueViolation, type SqlDatabase } from '../platform/d1-database.ts';
import { KEPT_S, PRUNED_CHUNKS, REQUESTS_KEPT_MS, TRAFFIC_BATCH_MEMORY_MS } from './limits.ts';
import { pruneStep, rollUp } from './d1-roll-up.ts';
import { ChunkRequests, readPoint, SUMS, type PointRow, type ChunkRow } from './traffic-rows.ts';
import type { TrafficLedger, TrafficRow } from './ports.ts';

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

/** Those beyond the newest of each tenant that this batch is of. */
const FORGET_REQUESTS = `WITH found AS (
    SELECT c.tenant, c.at, c.id,
      SUM(c.count) OVER (PARTITION BY c.tenant ORDER BY c.at DESC, c.id DESC) - c.count AS newer
    FROM json_each(?) wanted CROSS JOIN request_chunks c ON c.tenant = wanted.value)
  DELETE FROM request_chunks WHERE (tenant, at, id) IN (SELECT tenant, at, id FROM found WHERE newer >= ?)`;

const LAST_OF_TENANT = `SELECT tenant, count, left_out, requests FROM request_chunks
  WHERE tenant = ? ORDER BY at DESC, id DESC LIMIT ?`;
const LAST_OF_ALL = `SELECT tenant, count, left_out, requests FROM request_chunks
  WHERE at > 0 ORDER BY at DESC LIMIT ?`;

/** Statements of constants alone: sums of what is meant of each time. */
const sumsOf = (meant: string): string =>
  `SELECT at / CAST(? AS INTEGER) * CAST(? AS INTEGER) AS begins, status, code,
     ${SUMS.map((column) => `SUM(${column}) AS ${column}`).join(', ')}
   FROM traffic WHERE step = ? AND at IN (SELECT value FROM json_each(?)) AND ${meant}
   GROUP BY begins, status, code`;

const ONE = sumsOf('tenant = ? AND name = ? AND key_id = ?');
const OF_NAME = sumsOf('tenant = ? AND name = ?');
const OF_KEY = sumsOf('tenant = ? AND key_id = ?');
/** Of whichever tenant. */
const ANY = sumsOf('COALESCE(?, name) = name AND COALESCE(?, key_id) = key_id');

/** @returns the statement, and what its last question marks are. */
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
  /** Unix s; what begins there is not summed up by this step yet. */
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
        db.prepare(ADD).bind(JSON.stringify(rows.map(valuesOf))),
      ];
      if (chunks.length > 0) {
        const lines = chunks.map(({ tenant, requests, leftOut }) => [
          ...[tenant, requests[0]?.at ?? at, id, requests.length, leftOut, JSON.stringify(requests)],
        ]);
        statements.push(
          db
            .prepare(
              `INSERT INTO request_chunks (tenant, at, id, count, left_out, requests)
               SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
               FROM json_each(?)`,
            )
            .bind(JSON.stringify(lines)),
          db
            .prepare(FORGET_REQUESTS)
            .bind(JSON.stringify(chunks.map(({ tenant }) => tenant)), MAX_KEPT_REQUESTS),
        );
      }
      try {
        await db.batch(statements);
      } catch (error) {
        // The batch's id is the one key that can be there already: it was added, and the answer was lost.
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
        // Minutes that are gone are not looked for.
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
