/** Minutes become hours and hours days; what is too old goes. */
import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import { KEPT_S, MAX_NAMED_SERIES, PRUNED_STEPS, ROLL_UP_AFTER_S } from './limits.ts';
import { UNNAMED } from './merge-batches.ts';
import { SUMS } from './traffic-rows.ts';

const sums = SUMS.map((column) => `SUM(${column})`).join(', ');

/**
 * Names and keys beyond the busiest become one row without. The total of a tenant, whose name and key are empty, is
 * none of them. Summed up again it is the same.
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

/** Sums up the first step that is over and not summed up yet, if there is one. @param params.seconds unix s, now. */
export async function rollUp(
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
  // A time without a request is passed over at once.
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

/** Unix s, of those that no hour has yet; a day waits for them. */
async function firstMinute(db: SqlDatabase): Promise<number> {
  const first = await db
    .prepare(
      `SELECT MIN(at) AS at FROM traffic
       WHERE step = 60 AND at >= COALESCE((SELECT until FROM traffic_marks WHERE step = 3600), 0)`,
    )
    .first<{ at: number | null }>();
  return first?.at ?? Infinity;
}

/** Takes away what is too old, at most {@link PRUNED_STEPS} steps of it. */
export const pruneStep = (db: SqlDatabase, step: keyof typeof KEPT_S, seconds: number): SqlStatement =>
  db
    .prepare(
      `DELETE FROM traffic WHERE step = ?1
         AND at < MIN(?2, (SELECT MIN(at) FROM traffic WHERE step = ?1) + ?3)`,
    )
    .bind(step, seconds - KEPT_S[step], PRUNED_STEPS * step);
