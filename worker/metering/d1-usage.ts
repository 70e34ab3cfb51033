import type { UsageGroup } from '../../protocol/admin-api/tenants.ts';
import { isUniqueViolation, jsonLists, type SqlDatabase } from '../platform/d1-database.ts';
import { ADDING_USAGE, DAY_H, SUMMING_DAYS_ANEW, usageValues } from './d1-usage-rows.ts';
import type { UsageLedger } from './ports.ts';

const BY_TOKENS = 'SUM(u.prompt_tokens + u.completion_tokens) DESC, SUM(u.requests) DESC, grouped';
/** SQL expression and order of each grouping. */
const GROUPS: Record<UsageGroup, { expression: string; order: string }> = {
  key: { expression: 'u.key_id', order: BY_TOKENS },
  tenant: { expression: 'u.tenant', order: BY_TOKENS },
  name: { expression: 'u.name', order: BY_TOKENS },
  version: {
    expression: "CASE u.version WHEN 0 THEN u.name ELSE u.name || '@' || u.version END",
    order: BY_TOKENS,
  },
  day: { expression: "strftime('%Y-%m-%d', u.hour * 3600, 'unixepoch')", order: 'grouped' },
  hour: { expression: "strftime('%Y-%m-%dT%H', u.hour * 3600, 'unixepoch')", order: 'grouped' },
};

/** Statements made of constants only; for one tenant, and for all. */
type Statements = Record<UsageGroup, { one: string; all: string }>;
const statements = (of: (expression: string, order: string, tenant: string) => string): Statements =>
  Object.fromEntries(
    Object.entries(GROUPS).map(([by, { expression, order }]) => [
      by,
      { one: of(expression, order, 'u.tenant = ? AND'), all: of(expression, order, '') },
    ]),
  ) as Statements;

/** @param lastHour SQL. */
const sumsBy = (expression: string, lastHour: string): string =>
  `SELECT ${expression} AS grouped, SUM(u.requests) AS requests, SUM(u.errors) AS errors,
     SUM(u.prompt_tokens) AS prompt_tokens, SUM(u.completion_tokens) AS completion_tokens,
     MAX(${lastHour}) AS last_hour`;

/** @param prices SQL: of tokens whose base `p` has no price of its own. */
const costsBy = (expression: string, [prompt, completion]: readonly [string, string]): string =>
  `SELECT ${expression} AS grouped,
     SUM(u.prompt_tokens * COALESCE(p.value ->> 'prompt', ${prompt})
       + u.completion_tokens * COALESCE(p.value ->> 'completion', ${completion})) / 1e6 AS cost`;

const SUMS = statements(
  (expression, order, tenant) =>
    `${sumsBy(expression, 'u.hour')}
     FROM usage u WHERE ${tenant} u.hour >= ? AND u.hour < ? AND COALESCE(?, u.name) = u.name
     GROUP BY grouped ORDER BY ${order} LIMIT ?`,
);

const COSTS = statements(
  (expression, order, tenant) =>
    `${costsBy(expression, ['?', '?'])}
     FROM usage u LEFT JOIN json_each(?) p ON p.key = u.base
     WHERE ${tenant} u.hour >= ? AND u.hour < ?
     GROUP BY grouped ORDER BY ${order} LIMIT ?`,
);

/** Like rows of `usage_days`. */
const hoursBetween = (from: string, to: string): string =>
  `SELECT u.hour, u.tenant, u.base, u.requests, u.errors, u.prompt_tokens, u.completion_tokens,
     u.hour AS last_hour
   FROM usage u WHERE u.hour >= ${from} AND u.hour < ${to}`;

/**
 * Of all tenants between the hours ?1 and ?2, for those groups that the sums of days know: the whole days, from the hour
 * ?3 to ?4, and the hours before and behind them.
 */
const OF_ALL = `(
  SELECT day * ${DAY_H} AS hour, tenant, base, requests, errors, prompt_tokens, completion_tokens, last_hour
    FROM usage_days WHERE day >= ?3 / ${DAY_H} AND day < ?4 / ${DAY_H}
  UNION ALL ${hoursBetween('?1', 'MIN(?2, ?3)')}
  UNION ALL ${hoursBetween('?4', '?2')})`;

/** @returns the first hour of the first whole day in this time, and the hour behind the last one. */
const wholeDays = (from: number, to: number): [from: number, to: number] => {
  const first = Math.ceil(from / DAY_H) * DAY_H;
  return [first, Math.max(first, Math.floor(to / DAY_H) * DAY_H)];
};

const byDays = (by: UsageGroup): { sums: string; costs: string } => {
  const { expression, order } = GROUPS[by];
  const rest = `GROUP BY grouped ORDER BY ${order} LIMIT ?5`;
  return {
    sums: `${sumsBy(expression, 'u.last_hour')} FROM ${OF_ALL} u ${rest}`,
    costs: `${costsBy(expression, ['?6', '?7'])} FROM ${OF_ALL} u LEFT JOIN json_each(?8) p ON p.key = u.base ${rest}`,
  };
};
/** Rows of the tenant ?1: all of them where ?2 is NULL, else those of the names in that JSON list. */
const OF_TENANT = `FROM usage WHERE tenant = ?1
  AND (?2 IS NULL OR name IN (SELECT value FROM json_each(?2)))`;

/** The sums of days know no other groups. */
const BY_DAYS: Partial<Record<UsageGroup, { sums: string; costs: string }>> = {
  tenant: byDays('tenant'),
  day: byDays('day'),
};

interface SumRow {
  grouped: string;
  requests: number;
  errors: number;
  prompt_tokens: number;
  completion_tokens: number;
  last_hour: number;
}

/** @param memoryMs how long a batch's id is remembered, so that it is not added twice. */
export function createD1Usage(db: SqlDatabase, memoryMs: number): UsageLedger {
  return {
    async add({ id, at, rows }) {
      try {
        await db.batch([
          db.prepare('INSERT INTO usage_batches (id, at) VALUES (?, ?)').bind(id, at),
          ...jsonLists(rows.map(usageValues)).flatMap((list) =>
            ADDING_USAGE.map((sql) => db.prepare(sql).bind(list)),
          ),
          db.prepare('DELETE FROM usage_batches WHERE at < ?').bind(at - memoryMs),
        ]);
      } catch (error) {
        // Only the batch's id can exist already: it was added, but the response was lost.
        if (!isUniqueViolation(error)) throw error;
      }
    },
    async sum({ by, tenant, name = null, from, to, limit }) {
      const { one, all } = SUMS[by];
      const days = tenant === null && name === null ? BY_DAYS[by] : undefined;
      const statement =
        days !== undefined
          ? db.prepare(days.sums).bind(from, to, ...wholeDays(from, to), limit)
          : tenant === null
            ? db.prepare(all).bind(from, to, name, limit)
            : db.prepare(one).bind(tenant, from, to, name, limit);
      const { results } = await statement.all<SumRow>();
      return results.map((row) => ({
        group: row.grouped,
        requests: row.requests,
        errors: row.errors,
        promptTokens: row.prompt_tokens,
        completionTokens: row.completion_tokens,
        lastHour: row.last_hour,
      }));
    },
    async costs({ by, tenant, from, to, limit, prices }) {
      const { one, all } = COSTS[by];
      const priced = [prices.prompt, prices.completion, JSON.stringify(prices.bases)];
      const days = tenant === null ? BY_DAYS[by] : undefined;
      const statement =
        days !== undefined
          ? db.prepare(days.costs).bind(from, to, ...wholeDays(from, to), limit, ...priced)
          : tenant === null
            ? db.prepare(all).bind(...priced, from, to, limit)
            : db.prepare(one).bind(...priced, tenant, from, to, limit);
      const { results } = await statement.all<{ grouped: string; cost: number }>();
      return new Map(results.map((row) => [row.grouped, row.cost]));
    },
    async rows({ tenant, names }) {
      const found = await db
        .prepare(`SELECT COUNT(*) AS count ${OF_TENANT}`)
        .bind(tenant, names === null ? null : JSON.stringify(names))
        .first<{ count: number }>();
      return found?.count ?? 0;
    },
    async forget({ tenant, names, until, limit }) {
      const { results } = await db
        .prepare(
          `SELECT hour, key_id, name, version, base ${OF_TENANT} AND hour <= ?3 ORDER BY hour LIMIT ?4`,
        )
        .bind(tenant, names === null ? null : JSON.stringify(names), until, limit)
        .all<{ hour: number }>();
      if (results.length === 0) return 0;
      const days = [...new Set(results.map(({ hour }) => Math.floor(hour / DAY_H)))];
      await db.batch([
        db
          .prepare(
            `DELETE FROM usage WHERE (tenant, hour, key_id, name, version, base) IN (
               SELECT ?2, value ->> 'hour', value ->> 'key_id', value ->> 'name', value ->> 'version', value ->> 'base'
               FROM json_each(?1))`,
          )
          .bind(JSON.stringify(results), tenant),
        ...SUMMING_DAYS_ANEW.map((sql) => db.prepare(sql).bind(JSON.stringify(days), tenant)),
      ]);
      return results.length;
    },
  };
}
