/** What stands below the time axis of the chart. */
import { moment } from './words.ts';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Steps that ticks may have, seconds: none below one, which two ticks would be called the same for. */
export const TICK_SECONDS: readonly number[] = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
  ...[1, 2, 3, 6, 12].map((count) => count * HOUR),
  ...[1, 2, 5, 10, 30, 100].map((count) => count * DAY),
];

/**
 * @param ticks unix seconds, growing.
 * @returns times of day in the reader's time zone, as fine as the step between them; in a second line the day, where it
 * begins. Days alone when the step is a day or more.
 */
export function tickWords(ticks: readonly number[]): string[] {
  const step = ticks.length < 2 ? 1 : ticks[1]! - ticks[0]!;
  let shownDay = '';
  return ticks.map((tick) => {
    const [day = '', time = ''] = moment(1000 * tick).split(' ');
    // An hour less where clocks are put forward.
    if (step > DAY - 2 * HOUR) return day;
    const seconds = step < MINUTE ? `:${String(new Date(1000 * tick).getSeconds()).padStart(2, '0')}` : '';
    const begins = day !== shownDay;
    shownDay = day;
    return time + seconds + (begins ? `\n${day}` : '');
  });
}

/** @returns what the axis shows, unix seconds: an hour around a single look, where a plot would choose years. */
export const timeRange = (first: number, last: number): [number, number] =>
  last > first ? [first, last] : [first - HOUR / 2, first + HOUR / 2];
