import type { UsageRow } from '../metering/ports.ts';

/** Adds a row to the sums. @returns whether nothing was counted there before. */
export function addUsage(sums: Map<string, UsageRow>, row: UsageRow): boolean {
  const { hour, tenant, keyId, name, version } = row;
  // None of them can contain a space.
  const key = `${hour} ${tenant} ${keyId} ${version} ${name}`;
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
