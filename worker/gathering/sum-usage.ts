import { type UsageValues, usageValues } from '../metering/d1-usage-rows.ts';
import type { UsageRow } from '../metering/ports.ts';

/** Adds a row to the sums. @returns whether nothing was counted there before. */
export function addUsage(sums: Map<string, UsageRow>, row: UsageRow): boolean {
  const { hour, tenant, keyId, name, version, base } = row;
  // None of them can contain a space.
  const key = `${hour} ${tenant} ${keyId} ${version} ${base} ${name}`;
  const sum = sums.get(key);
  if (sum === undefined) {
    sums.set(key, { ...row });
    return true;
  }
  sum.requests += row.requests;
  sum.errors += row.errors;
  sum.promptTokens += row.promptTokens;
  sum.completionTokens += row.completionTokens;
  return false;
}

export function sumUsage(rows: Iterable<UsageRow>): UsageRow[] {
  const sums = new Map<string, UsageRow>();
  for (const row of rows) addUsage(sums, row);
  return [...sums.values()];
}

/** As gatherers keep them: little text, because there is much of it. */
export const packUsage = (rows: readonly UsageRow[]): string => JSON.stringify(rows.map(usageValues));

/** @param text of {@link packUsage}. */
export const unpackUsage = (text: string): UsageRow[] =>
  (JSON.parse(text) as UsageValues[]).map(
    ([tenant, hour, keyId, name, version, base, requests, errors, promptTokens, completionTokens]) => ({
      hour,
      tenant,
      keyId,
      name,
      version,
      base,
      requests,
      errors,
      promptTokens,
      completionTokens,
    }),
  );
