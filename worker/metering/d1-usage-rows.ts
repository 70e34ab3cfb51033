/** How rows of usage are added in D1, and the sums of their days with them. */
import type { UsageRow } from './ports.ts';

/** For a conflict: the counts of the new row are added to those that are there. */
const ADDED = `requests = requests + excluded.requests, errors = errors + excluded.errors,
     prompt_tokens = prompt_tokens + excluded.prompt_tokens,
     completion_tokens = completion_tokens + excluded.completion_tokens`;

export const DAY_H = 24;

/** @param rows SQL: rows of usage. @returns a statement that adds them to the sums of their days. */
const addingDays = (rows: string): string =>
  `INSERT INTO usage_days (day, tenant, base, requests, errors, prompt_tokens, completion_tokens, last_hour)
   SELECT u.hour / ${DAY_H}, u.tenant, u.base, SUM(u.requests), SUM(u.errors), SUM(u.prompt_tokens),
     SUM(u.completion_tokens), MAX(u.hour)
   FROM ${rows} u
   WHERE true GROUP BY 1, 2, 3
   ON CONFLICT DO UPDATE SET ${ADDED}, last_hour = MAX(last_hour, excluded.last_hour)`;

/** Statements that add the rows in the JSON list ?: to the hours, and to the days. */
export const ADDING_USAGE: readonly string[] = [
  `INSERT INTO usage (tenant, hour, key_id, name, version, base, requests, errors, prompt_tokens, completion_tokens)
   SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
     value ->> 6, value ->> 7, value ->> 8, value ->> 9
   FROM json_each(?) WHERE true
   ON CONFLICT DO UPDATE SET ${ADDED}`,
  addingDays(
    `(SELECT value ->> 0 AS tenant, value ->> 1 AS hour, value ->> 5 AS base, value ->> 6 AS requests,
        value ->> 7 AS errors, value ->> 8 AS prompt_tokens, value ->> 9 AS completion_tokens
      FROM json_each(?))`,
  ),
];

/** Statements that sum the days in the JSON list ?1 of the tenant ?2 anew, after hours of theirs were deleted. */
export const SUMMING_DAYS_ANEW: readonly string[] = [
  'DELETE FROM usage_days WHERE tenant = ?2 AND day IN (SELECT value FROM json_each(?1))',
  addingDays(
    `(SELECT h.* FROM json_each(?1) d
        CROSS JOIN usage h ON h.tenant = ?2 AND h.hour >= d.value * ${DAY_H} AND h.hour < (d.value + 1) * ${DAY_H})`,
  ),
];

export type UsageValues = [
  ...[tenant: string, hour: number, keyId: string, name: string, version: number, base: string],
  ...[requests: number, errors: number, promptTokens: number, completionTokens: number],
];

export const usageValues = (row: UsageRow): UsageValues => [
  ...([row.tenant, row.hour, row.keyId, row.name, row.version, row.base] as const),
  ...([row.requests, row.errors, row.promptTokens, row.completionTokens] as const),
];
