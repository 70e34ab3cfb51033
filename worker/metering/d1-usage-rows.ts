/** How rows of usage are added in D1, also together with a change of another room. */
import type { UsageRow } from './ports.ts';

/**
 * @param condition SQL.
 * @returns statements, made of constants, that add the rows in the JSON `source` if it holds: to the hours, and to the days.
 */
export const addingUsage = (source: string, condition = 'true'): [hours: string, days: string] => [
  `INSERT INTO usage (tenant, hour, key_id, name, version, requests, errors, prompt_tokens, completion_tokens)
   SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
     value ->> 5, value ->> 6, value ->> 7, value ->> 8
   FROM json_each(${source}) WHERE ${condition}
   ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, errors = errors + excluded.errors,
     prompt_tokens = prompt_tokens + excluded.prompt_tokens,
     completion_tokens = completion_tokens + excluded.completion_tokens`,
  addingDays(
    `(SELECT value ->> 0 AS tenant, value ->> 1 AS hour, value ->> 3 AS name, value ->> 4 AS version, value ->> 5 AS requests,
        value ->> 6 AS errors, value ->> 7 AS prompt_tokens, value ->> 8 AS completion_tokens
      FROM json_each(${source}))`,
    condition,
  ),
];

/** What prices the row `u` of usage, as in `usage_days`; `v` is its version, if there is one. */
export const PRICED_BY = "CASE u.version WHEN 0 THEN u.name ELSE COALESCE(v.base_id, '') END";

/** @param rows SQL: rows of usage. @returns a statement that adds them to the sums of their days. */
export const addingDays = (rows: string, condition: string): string =>
  `INSERT INTO usage_days (day, tenant, base, requests, errors, prompt_tokens, completion_tokens, last_hour)
   SELECT u.hour / 24, u.tenant, ${PRICED_BY}, SUM(u.requests), SUM(u.errors), SUM(u.prompt_tokens),
     SUM(u.completion_tokens), MAX(u.hour)
   FROM ${rows} u LEFT JOIN versions v ON v.name = u.name AND v.version = u.version
   WHERE ${condition} GROUP BY 1, 2, 3
   ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, errors = errors + excluded.errors,
     prompt_tokens = prompt_tokens + excluded.prompt_tokens,
     completion_tokens = completion_tokens + excluded.completion_tokens,
     last_hour = MAX(last_hour, excluded.last_hour)`;

/** For {@link addingUsage}: one value, so that D1's limits do not bound the number of rows. */
export const usageJson = (rows: readonly UsageRow[]): string => JSON.stringify(rows.map(usageValues));

export type UsageValues = [
  ...[tenant: string, hour: number, keyId: string, name: string, version: number],
  ...[requests: number, errors: number, promptTokens: number, completionTokens: number],
];

export const usageValues = (row: UsageRow): UsageValues => [
  ...([row.tenant, row.hour, row.keyId, row.name, row.version] as const),
  ...([row.requests, row.errors, row.promptTokens, row.completionTokens] as const),
];
