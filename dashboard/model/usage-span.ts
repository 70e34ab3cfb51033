/** Which time a report of usage is of, in whole days UTC. */
const DAY_MS = 86_400_000;

export const SPANS = [
  ['1', '24 hours'],
  ['7', '7 days'],
  ['30', '30 days'],
  ['month', 'This month'],
  ['last', 'Last month'],
] as const;
export type Span = (typeof SPANS)[number][0];

/** @param now unix ms. @returns as the admin API takes it; `to` is the first moment that does not count. */
export function rangeOf(span: Span, now: number): { from: string; to?: string } {
  const date = new Date(now);
  const monthFrom = (months: number): string =>
    new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - months)).toISOString();
  if (span === 'month') return { from: monthFrom(0) };
  if (span === 'last') return { from: monthFrom(1), to: monthFrom(0) };
  return { from: new Date(now - Number(span) * DAY_MS).toISOString() };
}
