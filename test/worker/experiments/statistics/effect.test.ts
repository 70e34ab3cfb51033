import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  absoluteEffect,
  cautiousArms,
  contrast,
  differenceOf,
  effectiveUnits,
  liftEffect,
  liftInterval,
} from '../../../../worker/experiments/statistics/effect.ts';

fc.configureGlobal({ seed: 10 });

const arm = fc.record({
  n: fc.integer({ min: 2, max: 100_000 }),
  mean: fc.double({ min: -100, max: 100, noNaN: true }).filter((mean) => Math.abs(mean) > 1e-3),
  variance: fc.double({ min: 1e-3, max: 1e3, noNaN: true }),
});
const differenceBetween = (a: Parameters<typeof differenceOf>[0], b: typeof a) => {
  const difference = differenceOf(a, b);
  if (!difference.ok) throw new Error(difference.error);
  return difference.value;
};

describe('differenceOf', () => {
  const good = { n: 10, mean: 1, variance: 1 };
  it('returns why there is none', () => {
    expect(differenceOf(good, { ...good, n: 1 })).toEqual({ ok: false, error: 'too_few_values' });
    expect(differenceOf({ ...good, variance: 0 }, good)).toEqual({ ok: false, error: 'no_variance' });
  });

  it('has no lift relative to zero', () => {
    const difference = differenceBetween({ ...good, mean: 0 }, good);
    expect(liftEffect(difference)).toBeNull();
    expect(liftInterval(difference, 2)).toBeNull();
  });
});

describe('liftInterval', () => {
  const multiplier = fc.double({ min: 0.5, max: 5, noNaN: true });

  it('excludes 0 exactly if the interval of the difference does', () => {
    fc.assert(
      fc.property(arm, arm, multiplier, (a, b, times) => {
        const difference = differenceBetween(a, b);
        const lift = liftInterval(difference, times);
        if (lift === null) return;
        const { estimate, standardError } = absoluteEffect(difference);
        // Up to rounding: skips cases with 0 at the border.
        fc.pre(Math.abs(Math.abs(estimate) / standardError / times - 1) > 1e-6);
        expect(lift.low > 0 || lift.high < 0).toBe(Math.abs(estimate) > times * standardError);
        expect(lift.low).toBeLessThanOrEqual(lift.high);
      }),
    );
  });

  it('equals the delta method if control’s mean is certain', () => {
    const difference = differenceBetween(
      { n: 1_000_000, mean: 10, variance: 4 },
      { n: 1_000, mean: 11, variance: 4 },
    );
    const lift = liftEffect(difference)!;
    const interval = liftInterval(difference, 1.96)!;
    expect(interval.low).toBeCloseTo(lift.estimate - 1.96 * lift.standardError, 5);
    expect(interval.high).toBeCloseTo(lift.estimate + 1.96 * lift.standardError, 5);
  });

  it('contains exactly the lifts that the contrast does not exclude, for equal arms', () => {
    const [a, b] = [
      { n: 500, mean: 0.1, variance: 0.09 },
      { n: 500, mean: 0.15, variance: 0.1275 },
    ];
    const { low, high } = liftInterval(differenceBetween(a, b), 3)!;
    for (const [lift, inside] of [
      [low - 0.01, false],
      [low + 0.01, true],
      [high - 0.01, true],
      [high + 0.01, false],
    ] as const) {
      const { estimate, standardError } = contrast(a, b, 1 + lift);
      expect(Math.abs(estimate) <= 3 * standardError).toBe(inside);
    }
  });
});

describe('unequal arms', () => {
  const [small, large] = [
    { n: 50, mean: 0.02, variance: 0.0196 },
    { n: 950, mean: 0.1, variance: 0.09 },
  ];
  const own = (a: typeof small, b: typeof small) => a.variance / a.n + b.variance / b.n;
  const varianceOf = (a: typeof small, b: typeof small) => differenceBetween(...cautiousArms(a, b)).variance;

  it('count as many units as equally precise equal arms', () => {
    expect(effectiveUnits(500, 500)).toBe(1_000);
    expect(effectiveUnits(950, 50)).toBe(190);
    expect(effectiveUnits(0, 0)).toBe(0);
  });

  it('use the larger of the separate and the pooled variance, whichever arm is control', () => {
    const shared = (50 * small.variance + 950 * large.variance) / 1_000;
    const pooled = shared / 50 + shared / 950;
    expect(varianceOf(small, large)).toBeCloseTo(pooled, 12);
    expect(varianceOf(large, small)).toBeCloseTo(pooled, 12);
    const [varied, steady] = [
      { ...small, variance: 0.2 },
      { ...large, variance: 0.01 },
    ];
    expect(varianceOf(varied, steady)).toBe(own(varied, steady));
    expect(varianceOf(steady, varied)).toBe(own(varied, steady));
    // The large arm keeps its own variance.
    expect(cautiousArms(large, small)[0]).toEqual(large);
  });

  it('change nothing if they are equal', () => {
    fc.assert(
      fc.property(arm, arm, (a, b) => {
        const equal = { ...b, n: a.n };
        expect(cautiousArms(a, equal)).toEqual([a, equal]);
        expect(effectiveUnits(a.n, a.n)).toBe(2 * a.n);
      }),
    );
  });

  it('give the same result in any unit', () => {
    fc.assert(
      fc.property(arm, arm, fc.double({ min: 0.01, max: 100, noNaN: true }), (a, b, unit) => {
        const scaled = (one: typeof a) => ({
          n: one.n,
          mean: one.mean * unit,
          variance: one.variance * unit ** 2,
        });
        const [mine, its] = [varianceOf(a, b), varianceOf(scaled(a), scaled(b))];
        expect(its / mine / unit ** 2).toBeCloseTo(1, 9);
        expect(mine).toBeGreaterThanOrEqual(own(a, b) * (1 - 1e-12));
      }),
    );
  });
});
