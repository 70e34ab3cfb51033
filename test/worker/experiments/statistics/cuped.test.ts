import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  absoluteEffect,
  differenceOf,
  adjustedArm,
  cupedDifference,
  cupedTheta,
  imputed,
} from '../../../../worker/experiments/statistics/effect.ts';
import {
  armOf,
  type GappedMoments,
  moveUnit,
  NO_RUNNING_MOMENTS,
} from '../../../../worker/experiments/statistics/moments.ts';
import {
  sequentialInterval,
  sequentialMultiplier,
} from '../../../../worker/experiments/statistics/sequential.ts';

fc.configureGlobal({ seed: 11 });

const differenceBetween = (a: Parameters<typeof differenceOf>[0], b: typeof a) => {
  const difference = differenceOf(a, b);
  if (!difference.ok) throw new Error(difference.error);
  return difference.value;
};

describe('CUPED', () => {
  it('changes nothing without a correlation, and narrows with one', () => {
    const paired = (n: number, mean: number, correlation: number) => ({
      n,
      sum: n * mean,
      sumSquares: n * (mean ** 2 + 1),
      preSum: n * 2,
      preSumSquares: n * 5,
      products: n * (2 * mean + correlation),
    });
    const plain = differenceBetween(armOf(paired(500, 1, 0), 'mean'), armOf(paired(500, 1.1, 0), 'mean'));
    const width = (correlation: number) => {
      const difference = cupedDifference(paired(500, 1, correlation), paired(500, 1.1, correlation), 'mean');
      if (!difference.ok) throw new Error(difference.error);
      const { low, high } = sequentialInterval(absoluteEffect(difference.value), 0.05);
      return high - low;
    };
    const half = absoluteEffect(plain).standardError * sequentialMultiplier(1_000, 0.05);
    expect(width(0)).toBeCloseTo(2 * half, 12);
    // The remaining variance is 1 - correlation^2.
    expect(width(0.8) / width(0)).toBeCloseTo(0.6, 2);
  });

  describe('with missing values', () => {
    const units = fc.array(
      fc.record({
        value: fc.double({ min: -100, max: 100, noNaN: true }),
        before: fc.option(fc.double({ min: -100, max: 100, noNaN: true })),
      }),
      { minLength: 3, maxLength: 40 },
    );
    const known = ({ before }: { before: number | null }): boolean => before !== null;
    const momentsOf = (all: readonly { value: number; before: number | null }[]): GappedMoments =>
      all.reduce(
        (moments, { value, before }) => moveUnit(moments, null, { n: 1, sum: value, before }),
        NO_RUNNING_MOMENTS,
      );

    it('equals imputation with both arms’ common mean', () => {
      fc.assert(
        fc.property(units, units, (a, b) => {
          const there = [...a, ...b].filter(known);
          fc.pre(there.length > 0);
          const mean = there.reduce((sum, { before }) => sum + before!, 0) / there.length;
          const filled = (all: typeof a) => all.map((one) => ({ ...one, before: one.before ?? mean }));
          const found = imputed(momentsOf(a), momentsOf(b));
          for (const [arm, all] of [a, b].entries()) {
            const expected = momentsOf(filled(all));
            for (const key of ['n', 'sum', 'sumSquares', 'preSum', 'preSumSquares', 'products'] as const)
              expect(found[arm]![key]).toBeCloseTo(expected[key], 5);
          }
        }),
      );
    });

    it('is estimated only from units that have a value', () => {
      const unit = (value: number, before: number | null) => ({ value, before });
      const control = momentsOf([unit(1, 1), unit(3, 3), unit(5, null), unit(2, 2)]);
      const treatment = momentsOf([unit(2, 2), unit(4, 4), unit(9, null), unit(1, 1)]);
      const [a, b] = imputed(control, treatment);
      const theta = cupedTheta(a, b, 'mean');
      expect(theta).toBeGreaterThan(0);
      // Known earlier values: 1, 3, 2 and 2, 4, 1; 13/6 on average.
      const off = (befores: number[]) => befores.reduce((sum, one) => sum + theta * (one - 13 / 6), 0);
      const adjusted = [11 - off([1, 3, 2]), 16 - off([2, 4, 1])].map((sum) => sum / 4 - theta * (13 / 6));
      expect(adjustedArm(a, theta, 'mean').mean).toBeCloseTo(adjusted[0]!, 12);
      expect(adjustedArm(b, theta, 'mean').mean).toBeCloseTo(adjusted[1]!, 12);
    });

    it('follows a unit whose mean changes, and whose earlier value is reported late', () => {
      const one = { n: 1, sum: 1, before: null };
      const two = { n: 2, sum: 1, before: 3 };
      const three = { n: 3, sum: 3, before: 3 };
      let moments = moveUnit(NO_RUNNING_MOMENTS, null, one);
      expect(moments).toMatchObject({ paired: 0, pairedSum: 0, products: 0 });
      moments = moveUnit(moments, one, two);
      expect(moments).toMatchObject({ n: 1, sum: 0.5, paired: 1, pairedSum: 0.5, products: 1.5 });
      moments = moveUnit(moments, two, three);
      expect(moments).toMatchObject({ n: 1, sum: 1, paired: 1, pairedSum: 1, products: 3 });
    });
  });
});
