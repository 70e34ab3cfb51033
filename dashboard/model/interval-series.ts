/** An experiment's looks as columns for the chart. */
import type { ExperimentComparison, ExperimentEvaluation } from '../../protocol/admin-api/experiments.ts';
import { effectOf, possibleDifference } from '../../protocol/state-words.ts';
import { number, percent, signed } from './words.ts';

export type Scale = 'lift' | 'difference';

export interface IntervalSeries {
  readonly variant: string;
  /** One per item of `times`; null = not known at that look. */
  readonly low: (number | null)[];
  readonly estimate: (number | null)[];
  readonly high: (number | null)[];
}

export interface IntervalColumns {
  /** Unix seconds, growing. */
  readonly times: number[];
  readonly series: IntervalSeries[];
}

/**
 * @param looks oldest first, of one seed.
 * @param scale `lift`: as shares of control's mean, 0.1 = 10 %; `difference`: in the metric's own unit.
 */
export function intervalColumns(
  looks: readonly ExperimentEvaluation[],
  metric: string,
  scale: Scale,
): IntervalColumns {
  // An alarm hides a look, and does not validate an earlier one that it contradicts.
  const unhidden = looks.filter((look) => look.sample_ratio.state !== 'alarm');
  // Before the first interval there is nothing to show, and empty time would use the space.
  const first = unhidden.findIndex((look) => of(look, metric).some((one) => one[scale] !== null));
  const shown = first < 0 ? unhidden : unhidden.slice(first);
  const variants = [...new Set(shown.flatMap((look) => of(look, metric).map(({ variant }) => variant)))];
  return {
    times: shown.map(({ at }) => at / 1000),
    series: variants.map((variant) => {
      const values = shown.map((look) => {
        const one = of(look, metric).find((each) => each.variant === variant);
        if (one === undefined) return null;
        return scale === 'lift' ? one.lift : possibleDifference(one.difference, one.kind);
      });
      return {
        variant,
        low: values.map((value) => value?.low ?? null),
        estimate: values.map((value) => value?.estimate ?? null),
        high: values.map((value) => value?.high ?? null),
      };
    }),
  };
}

const of = (look: ExperimentEvaluation, metric: string): ExperimentComparison[] =>
  look.comparisons.filter((comparison) => comparison.metric === metric);

/** A variant's values at one look, shown under the pointer. */
export interface PointedAt {
  readonly variant: string;
  readonly low: number;
  readonly estimate: number;
  readonly high: number;
}

/** @param index of the look in `times`. @returns the known ones. */
export const pointedAt = ({ series }: IntervalColumns, index: number): PointedAt[] =>
  series.flatMap(({ variant, low, estimate, high }) => {
    const [from, value, to] = [low[index], estimate[index], high[index]];
    return from == null || value == null || to == null
      ? []
      : [{ variant, low: from, estimate: value, high: to }];
  });

/** The lift, unless no look has one: there is none while control's mean may be 0. */
export const scaleFor = (looks: readonly ExperimentEvaluation[], metric: string): Scale =>
  looks.some((look) => of(look, metric).some(({ lift }) => lift !== null)) ? 'lift' : 'difference';

/**
 * @returns lower and upper end of the axis, always including 0: what matters is whether an interval excludes
 * it. The first looks have such wide intervals that later ones would look like lines, so the axis shows three
 * times the last one.
 */
export function valueRange({ series }: IntervalColumns): [number, number] {
  const last = series
    .flatMap(({ low, high }) => [lastOf(low), lastOf(high)])
    .filter((value) => value !== null);
  if (last.length === 0) return [-1, 1];
  const bottom = Math.min(0, ...last);
  const top = Math.max(0, ...last);
  const all = series.flatMap(({ low, high }) => [...low, ...high]).filter((value) => value !== null);
  const reach = 1.2 * (top - bottom || 1);
  return [
    Math.max(bottom - reach, Math.min(bottom, ...all)) - 0.05 * reach,
    Math.min(top + reach, Math.max(top, ...all)) + 0.05 * reach,
  ];
}

const lastOf = (values: readonly (number | null)[]): number | null =>
  values.findLast((value) => value !== null) ?? null;

/** The common axis of one metric's intervals, so that variants can be compared; always includes 0. */
export function barRange(comparisons: readonly ExperimentComparison[]): [number, number] {
  const ends = comparisons.flatMap((one) => {
    const interval = effectOf(one)?.interval;
    return interval == null ? [] : [interval.low, interval.high];
  });
  const [from, to] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const room = 0.08 * (to - from || 1);
  return [from - room, to + room];
}

/** A lift, or a difference of a metric of some kind, with its sign; of proportions in percentage points. */
export const effectText = (value: number, scale: Scale, kind: ExperimentComparison['kind']): string =>
  signed(
    scale === 'lift' ? percent(value) : kind === 'proportion' ? `${number(100 * value)} pp` : number(value),
  );
