import { csv } from './csv.ts';
import type { UsageReport } from './admin-api/usage.ts';

export const USAGE_COUNTS = [
  'requests',
  'errors',
  'prompt_tokens',
  'completion_tokens',
  'total_tokens',
] as const;

/** The same for a terminal and the dashboard. @param labels of keys, by their id. */
export function usageCsv({ by, rows, currency }: UsageReport, labels: ReadonlyMap<string, string>): string {
  const withLabel = by === 'key';
  return csv(
    [
      by,
      ...(withLabel ? ['label'] : []),
      ...USAGE_COUNTS,
      ...(currency === undefined ? [] : ['cost', 'currency']),
    ],
    rows.map((row) => [
      row.group,
      ...(withLabel ? [labels.get(row.group) ?? ''] : []),
      ...USAGE_COUNTS.map((count) => row[count]),
      ...(currency === undefined ? [] : [row.cost ?? 0, currency]),
    ]),
  );
}
