import { USAGE_GROUPS, type UsageGroup } from '../../protocol/admin-api/tenants.ts';
import { isUniqueViolation, jsonLists, type SqlDatabase } from '../platform/d1-database.ts';
import { ADDING_USAGE, DAY_H, SUMMING_DAYS_ANEW, usageValues } from './d1-usage-rows.ts';
import { USAGE_PAGE_DAYS, USAGE_PAGE_HOURS, USAGE_PAGE_TENANTS } from './limits.ts';
import type { UsageLedger, UsagePlace, UsageSum } from './ports.ts';

/** SQL of each grouping. */
const GROUPS: Record<UsageGroup, string> = {
  key: 'u.key_id',
  tenant: 'u.tenant',
  name: 'u.name',
  version: "CASE u.version WHEN 0 THEN u.name ELSE u.name || '@' || u.version END",
  day: "strftime('%Y-%m-%d', u.hour * 3600, 'unixepoch')",
  hour: "strftime('%Y-%m-%dT%H', u.hour * 3600, 'unixepoch')",
};
/** The sums of days know no others. */
const GROUPS_OF_DAYS: readonly UsageGroup[] = ['tenant', 'day'];

/**
 * Statements that sum one page of a table, made of constants only. ?1: tenant, NULL = all. ?2, ?3: time, exclusive. ?4:
 * the row behind which the page begins, a JSON list of the primary key, or NULL. ?5, ?6: rows and tenants at most.
 */
interface PageStatements {
  sums: Partial<Record<UsageGroup, string>>;
  /** Its last row, if it has as many as it may, and its last tenant, likewise. */
  end: string;
}

/**
 * Tenants are walked by their first row, and of each only the hours or days asked for: an index by time would cost
 * another written row for each hour, key and name.
 *
 * @param table.time its column of time.
 * @param table.key its primary key.
 * @param table.grouped SQL: columns that its groups need.
 */
function pageStatements(
  table: { name: string; time: string; key: readonly string[]; grouped: string },
  groups: readonly UsageGroup[],
): PageStatements {
  const { name, time, key, grouped } = table;
  const tenants = `WITH RECURSIVE tenants (tenant, since) AS (
      SELECT COALESCE(?1, ?4 ->> 0, (SELECT MIN(tenant) FROM ${name})), COALESCE(?4 ->> 1, ?2)
      UNION ALL
      SELECT (SELECT MIN(tenant) FROM ${name} WHERE tenant > t.tenant), ?2
        FROM tenants t WHERE ?1 IS NULL AND t.tenant IS NOT NULL
      LIMIT ?6)`;
  const rows = (columns: string): string =>
    `SELECT ${columns} FROM tenants t
       CROSS JOIN ${name} r ON r.tenant = t.tenant AND r.${time} >= t.since AND r.${time} < ?3
     WHERE ?4 IS NULL
       OR (${key.map((column) => `r.${column}`).join(', ')}) > (${key.map((_, i) => `?4 ->> ${i}`).join(', ')})`;
  const summed = rows(
    `r.tenant, r.base, ${grouped}, r.requests, r.errors, r.prompt_tokens, r.completion_tokens`,
  );
  const sums = groups.map((by) => [
    by,
    `${tenants}
     SELECT ${GROUPS[by]} AS grouped, u.base, SUM(u.requests) AS requests, SUM(u.errors) AS errors,
       SUM(u.prompt_tokens) AS prompt_tokens, SUM(u.completion_tokens) AS completion_tokens,
       MAX(u.last_hour) AS last_hour
     FROM (${summed} LIMIT ?5) u GROUP BY 1, 2`,
  ]);
  return {
    sums: Object.fromEntries(sums) as PageStatements['sums'],
    end: `${tenants}
      SELECT (${rows(`json_array(${key.map((column) => `r.${column}`).join(', ')})`)} LIMIT 1 OFFSET ?5 - 1) AS row,
        (SELECT tenant FROM tenants LIMIT 1 OFFSET ?6 - 1) AS tenant`,
  };
}

const STATEMENTS: Record<Source['of'], PageStatements> = {
  hours: pageStatements(
    {
      name: 'usage',
      time: 'hour',
      key: ['tenant', 'hour', 'key_id', 'name', 'version', 'base'],
      grouped: 'r.key_id, r.name, r.version, r.hour, r.hour AS last_hour',
    },
    USAGE_GROUPS,
  ),
  days: pageStatements(
    {
      name: 'usage_days',
      time: 'day',
      key: ['tenant', 'day', 'base'],
      grouped: `r.day * ${DAY_H} AS hour, r.last_hour`,
    },
    GROUPS_OF_DAYS,
  ),
};

/** @returns the first hour of the first whole day in this time, and the hour behind the last one. */
const wholeDays = (from: number, to: number): [from: number, to: number] => {
  const first = Math.ceil(from / DAY_H) * DAY_H;
  return [first, Math.max(first, Math.floor(to / DAY_H) * DAY_H)];
};

/** A time in one table. */
interface Source {
  of: 'hours' | 'days';
  /** In hours or days since 1970; `to` exclusive. */
  from: number;
  to: number;
}

/** What a report is summed from, one after the other: whole days where their sums are enough, and hours. */
function sourcesOf(by: UsageGroup, from: number, to: number): Source[] {
  const hours = (since: number, until: number): Source => ({ of: 'hours', from: since, to: until });
  if (!GROUPS_OF_DAYS.includes(by)) return [hours(from, to)];
  const [first, behind] = wholeDays(from, to);
  const days: Source = { of: 'days', from: first / DAY_H, to: behind / DAY_H };
  return [days, hours(from, Math.min(to, first)), hours(behind, to)];
}

/** Rows of the tenant ?1: all of them where ?2 is NULL, else those of the names in that JSON list. */
const OF_TENANT = `FROM usage WHERE tenant = ?1
  AND (?2 IS NULL OR name IN (SELECT value FROM json_each(?2)))`;

interface SumRow {
  grouped: string;
  base: string;
  requests: number;
  errors: number;
  prompt_tokens: number;
  completion_tokens: number;
  last_hour: number;
}

/** The most that one page reads. */
interface PageSize {
  hours: number;
  days: number;
  /** At least two: a page begins with the last tenant of the page before. */
  tenants: number;
}
const PAGE: PageSize = { hours: USAGE_PAGE_HOURS, days: USAGE_PAGE_DAYS, tenants: USAGE_PAGE_TENANTS };

/** @param memoryMs how long a batch's id is remembered, so that it is not added twice. */
export function createD1Usage(db: SqlDatabase, memoryMs: number, size: PageSize = PAGE): UsageLedger {
  /** One page of one source. @returns its sums, and the row or tenant that it ends at, if it is full. */
  async function page(
    { of, from, to }: Source,
    { by, tenant, after }: { by: UsageGroup; tenant: string | null; after: UsagePlace['after'] },
  ): Promise<{ sums: UsageSum[]; end: UsagePlace['after'] }> {
    const place = after === null ? null : JSON.stringify(after);
    const statements = STATEMENTS[of];
    const bound = [tenant, from, to, place, size[of], size.tenants];
    const [summed, ended] = await db.batch([
      db.prepare(statements.sums[by]!).bind(...bound),
      db.prepare(statements.end).bind(...bound),
    ]);
    const [end] = ended!.results as { row: string | null; tenant: string | null }[];
    const last = end?.row ?? null;
    return {
      sums: (summed!.results as SumRow[]).map((row) => ({
        group: row.grouped,
        base: row.base,
        requests: row.requests,
        errors: row.errors,
        promptTokens: row.prompt_tokens,
        completionTokens: row.completion_tokens,
        lastHour: row.last_hour,
      })),
      end:
        last !== null
          ? (JSON.parse(last) as UsagePlace['after'])
          : end?.tenant != null
            ? [end.tenant, to]
            : null,
    };
  }

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
    async sum({ by, tenant, from, to, place }) {
      const sources = sourcesOf(by, from, to);
      const sums: UsageSum[] = [];
      let { source, after } = place ?? { source: 0, after: null };
      for (; source < sources.length; source += 1) {
        const read = await page(sources[source]!, { by, tenant, after });
        sums.push(...read.sums);
        if (read.end !== null) return { sums, next: { source, after: read.end } };
        after = null;
      }
      return { sums, next: null };
    },
    async ofName({ tenant, name, from, to }) {
      const found = await db
        .prepare(
          `SELECT MIN(hour) AS since, SUM(requests) AS requests, SUM(prompt_tokens) AS prompt_tokens,
             SUM(completion_tokens) AS completion_tokens
           FROM usage WHERE tenant = ? AND hour >= ? AND hour < ? AND name = ?`,
        )
        .bind(tenant, from, to, name)
        .first<{ since: number | null } & Omit<SumRow, 'grouped' | 'base' | 'errors' | 'last_hour'>>();
      if (found === null || found.since === null) return null;
      return {
        since: found.since,
        requests: found.requests,
        promptTokens: found.prompt_tokens,
        completionTokens: found.completion_tokens,
      };
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
