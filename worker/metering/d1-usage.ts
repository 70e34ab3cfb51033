import type { UsageGroup } from '../../protocol/admin-api/tenants.ts';
import { isUniqueViolation, jsonLists, type SqlDatabase } from '../platform/d1-database.ts';
import { addingUsage, usageValues } from './d1-usage-rows.ts';
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

const SUMS = statements(
  (expression, order, tenant) =>
    `SELECT ${expression} AS grouped, SUM(u.requests) AS requests, SUM(u.errors) AS errors,
       SUM(u.prompt_tokens) AS prompt_tokens, SUM(u.completion_tokens) AS completion_tokens,
       MAX(u.hour) AS last_hour
     FROM usage u WHERE ${tenant} u.hour >= ? AND u.hour < ? AND COALESCE(?, u.name) = u.name
     GROUP BY grouped ORDER BY ${order} LIMIT ?`,
);

/** A version is priced by its base. Usage lists requests to a base under the base's own name. */
const COSTS = statements(
  (expression, order, tenant) =>
    `SELECT ${expression} AS grouped,
       SUM(u.prompt_tokens * COALESCE(p.value ->> 'prompt', ?)
         + u.completion_tokens * COALESCE(p.value ->> 'completion', ?)) / 1e6 AS cost
     FROM usage u LEFT JOIN versions v ON v.name = u.name AND v.version = u.version
       LEFT JOIN json_each(?) p ON p.key = COALESCE(v.base_id, u.name)
     WHERE ${tenant} u.hour >= ? AND u.hour < ?
     GROUP BY grouped ORDER BY ${order} LIMIT ?`,
);

const ADD = addingUsage('?');

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
          ...jsonLists(rows.map(usageValues)).map((list) => db.prepare(ADD).bind(list)),
          db.prepare('DELETE FROM usage_batches WHERE at < ?').bind(at - memoryMs),
        ]);
      } catch (error) {
        // Only the batch's id can exist already: it was added, but the response was lost.
        if (!isUniqueViolation(error)) throw error;
      }
    },
    async sum({ by, tenant, name = null, from, to, limit }) {
      const { one, all } = SUMS[by];
      const { results } = await (
        tenant === null
          ? db.prepare(all).bind(from, to, name, limit)
          : db.prepare(one).bind(tenant, from, to, name, limit)
      ).all<SumRow>();
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
      const { results } = await (
        tenant === null
          ? db.prepare(all).bind(...priced, from, to, limit)
          : db.prepare(one).bind(...priced, tenant, from, to, limit)
      ).all<{ grouped: string; cost: number }>();
      return new Map(results.map((row) => [row.grouped, row.cost]));
    },
  };
}
