import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  barRange,
  effectText,
  intervalColumns,
  pointedAt,
  scaleFor,
  valueRange,
} from '../../dashboard/model/interval-series.ts';
import type { ExperimentComparison, ExperimentEvaluation } from '../../protocol/admin-api/experiments.ts';

type Estimate = ExperimentComparison['difference'];

const estimate = (low: number, middle: number, high: number): Estimate => ({ low, estimate: middle, high });

const comparison = (
  variant: string,
  { lift = null, difference = null }: { lift?: Estimate; difference?: Estimate },
  metric = 'thumbs',
): ExperimentComparison => ({
  ...{ metric, variant, lift, difference, kind: 'mean', better: 'up', verdict: 'open', reason: null },
  control: { n: 100, mean: 0.5 },
  treatment: { n: 100, mean: 0.5 },
  ...{ p_value: null, adjusted: false },
});

const look = (
  at: number,
  comparisons: ExperimentComparison[],
  state: ExperimentEvaluation['sample_ratio']['state'] = 'ok',
): ExperimentEvaluation => ({
  ...{
    at,
    seed: 's',
    coverage: 1,
    units: {},
    alpha: 0.05,
    comparisons,
    guardrails: [],
    progress: null,
    shadow: {},
  },
  ...{ health: [], arms: {} },
  sample_ratio: { state, p_value: 1 },
  decision: { action: 'wait', reason: 'not_significant' },
});

it('limits differences of proportions to what is possible, in points', () => {
  const of = (variant: string, low: number): ExperimentComparison => ({
    ...comparison(variant, { difference: estimate(low, 0.12, 2.67) }),
    kind: 'proportion',
  });
  const [wide, half] = [of('a', -2.43), of('b', -0.4)];
  expect(intervalColumns([look(1_000, [wide])], 'thumbs', 'difference').series).toEqual([
    { variant: 'a', low: [-1], estimate: [0.12], high: [1] },
  ]);
  const mean = intervalColumns([look(1_000, [{ ...wide, kind: 'mean' }])], 'thumbs', 'difference');
  expect(mean.series[0]).toMatchObject({ low: [-2.43], high: [2.67] });
  // Of the one that is too early there is no bar.
  const [from, to] = barRange([wide, half]);
  expect([from < -0.4 && from > -1, to > 1 && to < 1.2]).toEqual([true, true]);
  expect(effectText(-0.4, 'difference', 'proportion')).toBe('−40 pp');
  expect(effectText(2.67, 'difference', 'mean')).toBe('+2.67');
  expect(effectText(0.1, 'lift', 'proportion')).toBe('+10 %');
});

describe('columns', () => {
  it('have one value per look, null if unknown', () => {
    const looks = [
      look(1_000, [comparison('a', { lift: estimate(-1, 0, 1) })], 'too_few_units'),
      look(2_000, [
        comparison('a', {}),
        comparison('b', { lift: estimate(2, 3, 4) }),
        comparison('c', { lift: estimate(9, 9, 9) }, 'cost'),
      ]),
      look(3_500, [comparison('b', { lift: estimate(2.5, 3, 3.5), difference: estimate(5, 6, 7) })]),
    ];
    expect(intervalColumns(looks, 'thumbs', 'lift')).toEqual({
      times: [1, 2, 3.5],
      series: [
        { variant: 'a', low: [-1, null, null], estimate: [0, null, null], high: [1, null, null] },
        { variant: 'b', low: [null, 2, 2.5], estimate: [null, 3, 3], high: [null, 4, 3.5] },
      ],
    });
    expect(intervalColumns(looks, 'thumbs', 'difference')).toEqual({
      times: [3.5],
      series: [{ variant: 'b', low: [5], estimate: [6], high: [7] }],
    });
    expect(intervalColumns(looks, 'latency_ms', 'lift')).toEqual({ times: [1, 2, 3.5], series: [] });
  });

  it('start with the first known value, and keep later gaps', () => {
    const known = [comparison('a', { lift: estimate(-1, 0, 1) })];
    const looks = [look(1_000, []), look(2_000, [comparison('a', {})]), look(3_000, known), look(4_000, [])];
    expect(intervalColumns(looks, 'thumbs', 'lift').times).toEqual([3, 4]);
    expect(intervalColumns(looks, 'thumbs', 'difference').times).toEqual([1, 2, 3, 4]);
  });

  it('return the known values under the pointer', () => {
    const looks = [
      look(1_000, [comparison('a', { lift: estimate(-1, 0, 1) })]),
      look(2_000, [comparison('a', {}), comparison('b', { lift: estimate(2, 3, 4) })]),
    ];
    const columns = intervalColumns(looks, 'thumbs', 'lift');
    expect(pointedAt(columns, 0)).toEqual([{ variant: 'a', low: -1, estimate: 0, high: 1 }]);
    expect(pointedAt(columns, 1)).toEqual([{ variant: 'b', low: 2, estimate: 3, high: 4 }]);
    expect(pointedAt(columns, 2)).toEqual([]);
  });

  it('leave out looks hidden by an alarm', () => {
    const hidden = look(2_000, [comparison('b', { lift: estimate(2, 3, 4) })], 'alarm');
    expect(intervalColumns([look(1_000, []), hidden], 'thumbs', 'lift')).toEqual({ times: [1], series: [] });
  });
});

it('shows lifts unless there is none', () => {
  const difference = comparison('a', { difference: estimate(1, 2, 3) });
  const lift = comparison('a', { lift: estimate(1, 2, 3) });
  expect(scaleFor([look(1, [difference])], 'thumbs')).toBe('difference');
  expect(scaleFor([look(1, [difference]), look(2, [lift])], 'thumbs')).toBe('lift');
  expect(scaleFor([look(1, [lift])], 'cost')).toBe('difference');
});

describe('the range of the axis', () => {
  const rangeOf = (...intervals: [number, number][]): [number, number] =>
    valueRange({
      times: intervals.map((_, i) => i),
      series: [
        {
          variant: 'a',
          low: intervals.map(([low]) => low),
          estimate: intervals.map(([low, high]) => (low + high) / 2),
          high: intervals.map(([, high]) => high),
        },
      ],
    });

  it('exists without values', () => {
    expect(valueRange({ times: [], series: [] })).toEqual([-1, 1]);
    const unknown = { variant: 'a', low: [null], estimate: [null], high: [null] };
    expect(valueRange({ times: [1], series: [unknown] })).toEqual([-1, 1]);
  });

  it('cuts the wide intervals of the first looks', () => {
    const [bottom, top] = rangeOf([-1_000, 1_000], [-1, 1]);
    expect(bottom).toBeGreaterThan(-6);
    expect(top).toBeLessThan(6);
    // Where they are not wide, all of them is seen.
    expect(rangeOf([-2, 1.5], [-1, 1])[0]).toBeLessThan(-2);
  });

  it('contains 0 and the whole last interval', () => {
    const value = fc.double({ min: -1e6, max: 1e6, noNaN: true });
    const interval = fc.tuple(value, value).map(([a, b]): [number, number] => (a < b ? [a, b] : [b, a]));
    fc.assert(
      fc.property(fc.array(interval, { minLength: 1, maxLength: 5 }), (intervals) => {
        const [bottom, top] = rangeOf(...intervals);
        const [low, high] = intervals.at(-1)!;
        expect(bottom).toBeLessThan(Math.min(0, low) + Number.EPSILON);
        expect(top).toBeGreaterThan(Math.max(0, high) - Number.EPSILON);
        expect(bottom).toBeLessThan(top);
      }),
    );
  });
});

it('shows the bars of a metric on one line, with 0 on it and room at both ends', () => {
  const [a, b] = [
    comparison('a', { lift: estimate(1, 2, 5) }),
    comparison('b', { lift: estimate(2, 3, 10) }),
  ];
  expect(barRange([a, b])).toEqual([-0.8, 10.8]);
  expect(barRange([comparison('a', { difference: estimate(-5, -4, -3) })])).toEqual([-5.4, 0.4]);
  expect(barRange([comparison('a', {})])).toEqual([-0.08, 0.08]);
});
