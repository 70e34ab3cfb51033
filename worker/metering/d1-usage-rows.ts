/** How rows of usage are added in D1, also together with a change of another room. */
import type { UsageRow } from './ports.ts';

/** @param condition SQL. @returns a statement, made of constants, that adds the rows in the JSON `source` if it holds. */
export const addingUsage = (source: string, condition = 'true'): string =>
  `INSERT INTO usage (tenant, hour, key_id, name, version, requests, errors, prompt_tokens, completion_tokens)
   SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
     value ->> 5, value ->> 6, value ->> 7, value ->> 8
   FROM json_each(${source}) WHERE ${condition}
   ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, errors = errors + excluded.errors,
     prompt_tokens = prompt_tokens + excluded.prompt_tokens,
     completion_tokens = completion_tokens + excluded.completion_tokens`;

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
