/** Which time a report of usage is of, in whole days UTC, and as the query of the page's address. */
import { err, ok, type Result } from '../../protocol/api-error.ts';

const DAY_MS = 86_400_000;

export const SPANS = [
  ['1', '24 hours'],
  ['7', '7 days'],
  ['30', '30 days'],
  ['month', 'This month'],
  ['last', 'Last month'],
] as const;
export type Span = (typeof SPANS)[number][0];
const DEFAULT_SPAN: Span = '30';

/** First and last day as they are typed, `2026-01-31`; both count. An empty `to` = until now. */
export interface Dates {
  readonly from: string;
  readonly to: string;
}
export type UsageTime = Span | Dates;

/** What is wrong with a date, for its reader. */
export interface WrongDate {
  readonly field: keyof Dates;
  readonly message: string;
}

/** @param query of the address: `span=7`, or `from=2026-01-01&to=2026-01-31`. */
export function usageTimeOf(query: URLSearchParams): UsageTime {
  const dates = { from: query.get('from') ?? '', to: query.get('to') ?? '' };
  if (dates.from !== '' || dates.to !== '') return dates;
  return SPANS.find(([span]) => span === query.get('span'))?.[0] ?? DEFAULT_SPAN;
}

/** @returns what {@link usageTimeOf} reads; nothing for the span that is shown anyway. */
export function usageTimeQuery(time: UsageTime): Readonly<Record<string, string>> {
  if (typeof time === 'string') return time === DEFAULT_SPAN ? {} : { span: time };
  return { ...(time.from === '' ? {} : { from: time.from }), ...(time.to === '' ? {} : { to: time.to }) };
}

/** @param now unix ms. @returns as the admin API takes it; `to` is the first moment that does not count. */
export function rangeOf(time: UsageTime, now: number): Result<{ from: string; to?: string }, WrongDate> {
  if (typeof time !== 'string') return rangeOfDates(time, now);
  const date = new Date(now);
  const monthFrom = (months: number): string =>
    new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - months)).toISOString();
  if (time === 'month') return ok({ from: monthFrom(0) });
  if (time === 'last') return ok({ from: monthFrom(1), to: monthFrom(0) });
  return ok({ from: new Date(now - Number(time) * DAY_MS).toISOString() });
}

export const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10);

function rangeOfDates({ from, to }: Dates, now: number): Result<{ from: string; to?: string }, WrongDate> {
  const today = dayOf(now);
  const wrong = (field: keyof Dates, message: string) => err({ field, message });
  if (from === '') return wrong('from', 'Say the first day.');
  for (const [field, day] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (day === '') continue;
    if (!isDay(day)) return wrong(field, 'This is no date. Write it as 2026-01-31.');
    if (day > today) return wrong(field, `This day is still to come: in UTC it is ${today}.`);
  }
  if (to !== '' && to < from) return wrong('to', 'The last day is before the first.');
  if (to === '') return ok({ from });
  return ok({ from, to: dayOf(Date.parse(to) + DAY_MS) });
}

/** Not so: 2026-02-30, which `Date` reads as a day of March. */
function isDay(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false;
  const at = Date.parse(text);
  return !Number.isNaN(at) && dayOf(at) === text;
}
