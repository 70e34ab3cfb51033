/** Time series for charts: one value per step, including empty steps, and the ticks of the axis. */
import type { UsageReport } from '../../protocol/admin-api/tenants.ts';
import type { TrafficReport } from '../../protocol/admin-api/traffic.ts';
import { moment } from './words.ts';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Possible tick steps, seconds: not below one second, or two ticks would have the same label. */
export const TICK_SECONDS: readonly number[] = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
  ...[1, 2, 3, 6, 8, 12].map((count) => count * HOUR),
  ...[1, 2, 5, 7, 10, 30, 100].map((count) => count * DAY),
];

/**
 * @param ticks unix seconds, increasing. @param alone step that a single tick stands for, seconds.
 * @returns times of day in the reader's time zone, as fine as the step between them; a second line has the date
 * where a day begins. Only dates when the step is a day or more.
 */
export function tickWords(ticks: readonly number[], alone = 1): string[] {
  const step = ticks.length < 2 ? alone : ticks[1]! - ticks[0]!;
  let shownDay = '';
  return ticks.map((tick) => {
    const [day = '', time = ''] = moment(1000 * tick).split(' ');
    // An hour less when clocks are put forward.
    if (step > DAY - 2 * HOUR) return day;
    const seconds = step < MINUTE ? `:${String(new Date(1000 * tick).getSeconds()).padStart(2, '0')}` : '';
    const begins = day !== shownDay;
    shownDay = day;
    return time + seconds + (begins ? `\n${day}` : '');
  });
}

/**
 * @returns the range of the axis, unix seconds: an hour around a single look, for which a plot would choose
 * years.
 */
export const timeRange = (first: number, last: number): [number, number] =>
  last > first ? [first, last] : [first - HOUR / 2, first + HOUR / 2];

export interface Grid {
  /** Where each step begins, unix ms, growing. */
  readonly times: readonly number[];
  /** ms */
  readonly step: number;
}

export type Point = TrafficReport['points'][number];

export const gridOf = ({ from, to, step }: Pick<TrafficReport, 'from' | 'to' | 'step'>): Grid => {
  const [begin, end, ms] = [Date.parse(from), Date.parse(to), 1000 * step];
  return {
    times: Array.from({ length: Math.round((end - begin) / ms) }, (_, i) => begin + i * ms),
    step: ms,
  };
};

type UsageRow = UsageReport['rows'][number];

/** @param report by day or by hour. @returns its grid, in UTC, and a point per row. */
export function usageSeries({ by, from, to, rows }: Pick<UsageReport, 'by' | 'from' | 'to' | 'rows'>): {
  grid: Grid;
  points: (UsageRow & { readonly at: number })[];
} {
  const step = 1000 * (by === 'day' ? DAY : HOUR);
  const begin = Math.floor(Date.parse(from) / step) * step;
  const count = Math.ceil((Date.parse(to) - begin) / step);
  return {
    grid: { times: Array.from({ length: count }, (_, i) => begin + i * step), step },
    points: rows.map((row) => ({
      ...row,
      at: Date.parse(by === 'day' ? `${row.group}T00:00:00Z` : `${row.group}:00:00Z`),
    })),
  };
}

/** Minimum steps of a chart: fewer would be wide blocks. */
const FEWEST_STEPS = 24;

/**
 * @returns the grid without the steps before the first point, if they are most of it: otherwise a new edge's
 * first hour would be a line at the right end of an empty day.
 */
export function fromFirst({ times, step }: Grid, points: readonly { readonly at: number }[]): Grid {
  const begins = Math.min(...points.map(({ at }) => at));
  const empty = times.findIndex((time) => time >= begins);
  if (empty <= times.length / 2) return { times, step };
  return { times: times.slice(Math.min(empty, Math.max(0, times.length - FEWEST_STEPS))), step };
}

/** @returns one per time of the grid. @param nothing for times without a point. */
export function valuesOf<T, P extends { readonly at: number }>(
  grid: Grid,
  points: readonly P[],
  read: (point: P) => number | null,
  nothing: T,
): (number | null | T)[] {
  const at = new Map(points.map((point) => [point.at, point]));
  return grid.times.map((time) => {
    const point = at.get(time);
    return point === undefined ? nothing : read(point);
  });
}

/** @returns a round number at or above `most` with a round half; 1 for nothing. */
export function roundedUp(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  const factors = [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8];
  const factor = factors.find((each) => each * power >= most * (1 - 1e-9)) ?? 10;
  // Removes binary fractions.
  return Number((factor * power).toPrecision(12));
}

/**
 * @returns the labelled times of the axis, at most `most`: at whole steps of the reader's clock, even across
 * clock changes.
 */
export function timeTicks({ times, step }: Grid, most: number): number[] {
  const [first, last] = [times[0] ?? 0, times.at(-1) ?? 0];
  const fits = (seconds: number): boolean =>
    1000 * seconds >= step && (last + step - first) / (1000 * seconds) <= most;
  const every = 1000 * (TICK_SECONDS.find(fits) ?? TICK_SECONDS.at(-1)!);
  const ticks: number[] = [];
  // The clock's local time, as if there were no zones.
  for (let clock = Math.ceil((first - zoneAt(first)) / every) * every; ; clock += every) {
    const at = clock + zoneAt(clock + zoneAt(clock));
    if (at > last) return ticks;
    // A skipped hour means the one after it.
    if (at >= first && at > (ticks.at(-1) ?? -Infinity)) ticks.push(at);
  }
}

/** What is added to the reader's clock to get UTC, ms. */
const zoneAt = (at: number): number => MINUTE * 1000 * new Date(at).getTimezoneOffset();
