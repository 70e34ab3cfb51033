/** A report of usage as a file for spreadsheets. */
import type { UsageReport } from './admin-api/usage.ts';

/** What spreadsheets take for the beginning of a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** Text of others must stay text: a label `=HYPERLINK(…)` would run where the file is opened. */
const inert = (text: string): string => (FORMULA.test(text) ? `'${text}` : text);

const quoted = (cell: string): string => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** RFC 4180: CRLF after every line, quotes where they are needed. Numbers stay numbers, texts cannot be formulas. */
export const csv = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, ...rows]
    .map((row) => row.map((cell) => quoted(typeof cell === 'number' ? String(cell) : inert(cell))).join(','))
    .map((line) => `${line}\r\n`)
    .join('');

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
