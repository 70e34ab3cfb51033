import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  NO_RUNNING_MOMENTS,
  addMoments,
  addValue,
  armOf,
  cautiousProportion,
  isPaired,
  NO_MOMENTS,
  replaceValue,
  variedArm,
} from '../../../../worker/experiments/statistics/moments.ts';

fc.configureGlobal({ seed: 9 });

const values = fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { minLength: 2, maxLength: 50 });
const collect = (all: readonly number[]) => all.reduce(addValue, NO_MOMENTS);

describe('moments', () => {
  it('are those of the values', () => {
    fc.assert(
      fc.property(values, (all) => {
        const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
        const squares = all.reduce((sum, value) => sum + (value - mean) ** 2, 0);
        const arm = armOf(collect(all), 'mean');
        expect(arm.mean).toBeCloseTo(mean, 8);
        expect(arm.variance / (squares / (all.length - 1) + 1)).toBeLessThan(1 + 1e-6);
        expect(arm.variance - squares / (all.length - 1)).toBeCloseTo(0, 3);
      }),
    );
  });

  it('of two parts add up to those of the whole, and a value can be replaced exactly', () => {
    fc.assert(
      fc.property(values, values, fc.integer({ min: -1_000, max: 1_000 }), (a, b, other) => {
        const parts = addMoments(collect(a), collect(b));
        const whole = collect([...a, ...b]);
        expect(parts.n).toBe(whole.n);
        expect(parts.sumSquares).toBeCloseTo(whole.sumSquares, 5);
        const [first = 0, ...rest] = a;
        const replaced = replaceValue(collect(a), first, other);
        expect(replaced.sum).toBeCloseTo(collect([other, ...rest]).sum, 6);
        expect(replaced.sumSquares).toBeCloseTo(collect([other, ...rest]).sumSquares, 4);
      }),
    );
  });

  it('never have a negative variance, despite rounding', () => {
    const far = Array.from({ length: 10 }, () => 1e8 + 0.1);
    expect(armOf(collect(far), 'mean').variance).toBeGreaterThanOrEqual(0);
    expect(armOf(NO_MOMENTS, 'mean')).toEqual({ n: 0, mean: 0, variance: 0 });
    expect(armOf(collect([3]), 'mean').variance).toBe(0);
  });

  it('report whether there is a pre-period', () => {
    expect(isPaired(NO_MOMENTS)).toBe(false);
    expect(isPaired(NO_RUNNING_MOMENTS)).toBe(true);
  });
});

describe('a proportion of zero or one', () => {
  it('keeps its mean and gets a variance', () => {
    const sure = collect([1, 1, 1, 1]);
    expect(cautiousProportion(sure)).toEqual({ n: 6, mean: 5 / 6, variance: (5 / 6) * (1 - 5 / 6) });
    expect(variedArm(sure, 'proportion')).toEqual({ n: 4, mean: 1, variance: (5 / 6) * (1 - 5 / 6) });
    expect(variedArm(sure, 'mean').variance).toBe(0);
    expect(variedArm(collect([0, 1]), 'proportion').variance).toBe(0.25);
  });
});
