/** Traffic over time as charts draw it: a value for each step, also for those without a request. */
import type { TrafficReport } from '../../protocol/admin-api/traffic.ts';

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

/** @returns one for each time of the grid. @param nothing where there is no point. */
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

/** @returns a round number at or above `most`, whose half is round, too; 1 for nothing. */
export function roundedUp(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  const factors = [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8];
  const factor = factors.find((each) => each * power >= most * (1 - 1e-9)) ?? 10;
  // Without what binary fractions add.
  return Number((factor * power).toPrecision(12));
}

/** @returns where the axis of time has a word, of at most `most`: steps at whole hours or days of the reader's zone. */
export function timeTicks({ times, step }: Grid, most: number): number[] {
  const [first, last] = [times[0] ?? 0, times.at(-1) ?? 0];
  const hours = [1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720].find(
    (each) => (last + step - first) / (each * 3_600_000) <= most,
  );
  const every = (hours ?? 720) * 3_600_000;
  const zone = new Date(first).getTimezoneOffset() * 60_000;
  const begin = Math.ceil((first - zone) / every) * every + zone;
  const ticks: number[] = [];
  for (let at = begin; at <= last; at += every) ticks.push(at);
  return ticks;
}
