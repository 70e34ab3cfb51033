/**
 * Values that GrowthBook publishes in the tests of its statistics engine (MIT): growthbook at 8f1db44,
 * `packages/stats/tests`, rounded there to five places, and `packages/back-end/test/stats.test.ts`. Each test
 * names its source. Values after `run with` were computed by gbstats from our input.
 */
import { describe, expect, it } from 'vitest';
import {
  cupedDifference,
  cupedTheta,
  absoluteEffect as absoluteOf,
  differenceOf,
  liftEffect,
  type Difference,
} from '../../../../worker/experiments/statistics/effect.ts';
import {
  armOf,
  type Moments,
  type PairedMoments,
} from '../../../../worker/experiments/statistics/moments.ts';
import {
  oneSidedMultiplier,
  sequentialInterval,
  sequentialLowerBound,
  sequentialPValue,
} from '../../../../worker/experiments/statistics/sequential.ts';

const ALPHA = 0.05;
const meanOf = (n: number, sum: number, sumSquares: number) => armOf({ n, sum, sumSquares }, 'mean');
const proportionOf = (n: number, sum: number) => armOf({ n, sum, sumSquares: sum }, 'proportion');
const valueOf = <T>(result: { ok: true; value: T } | { ok: false; error: string }): T => {
  if (!result.ok) throw new Error(result.error);
  return result.value;
};
type Arm = Parameters<typeof differenceOf>[0];
const liftOf = (difference: Difference) => {
  const effect = liftEffect(difference);
  if (effect === null) throw new Error('control is nought');
  return effect;
};
/** gbstats counts all units; decisions use `effectiveUnits`, which is the same for equal arms. */
const plainly = (difference: ReturnType<typeof differenceOf>, a: { n: number }, b: { n: number }) => ({
  ...valueOf(difference),
  n: a.n + b.n,
});
const relativeEffect = (a: Arm, b: Arm) => liftOf(plainly(differenceOf(a, b), a, b));
const absoluteEffect = (a: Arm, b: Arm) => absoluteOf(plainly(differenceOf(a, b), a, b));
const nothing = () => ({ control: 0, treatment: 0 });
const five = (value: number): number => Math.round(value * 1e5) / 1e5;
const interval = ({ low, high }: { low: number; high: number }) => [five(low), five(high)];

const A = meanOf(3407, 1396.87, 52377.9767);
const A3000 = meanOf(3000, 1396.87, 52377.9767);
const B = meanOf(3461, 2422.7, 134698.29);

describe('frequentist/test_tests.py', () => {
  it('TestTwoSidedTTest, relative', () => {
    const effect = relativeEffect(A, B);
    expect([five(effect.estimate), five(effect.standardError)]).toEqual([0.70732, 0.37879]);
  });

  it('TestTwoSidedTTest, absolute', () => {
    const effect = absoluteEffect(A, B);
    expect([five(effect.estimate), five(effect.standardError)]).toEqual([0.29, 0.12478]);
  });

  it('TestTwoSidedTTest, binom', () => {
    const [a, b] = [proportionOf(28, 14), proportionOf(30, 16)];
    const effect = relativeEffect(a, b);
    expect([five(effect.estimate), five(effect.standardError)]).toEqual([0.06667, 0.2717]);
  });

  it('TestTwoSidedTTest, missing_variance: impossible sums', () => {
    expect(differenceOf(meanOf(2, 1396.87, 52377.9767), B)).toEqual({ ok: false, error: 'no_variance' });
  });

  it('TestSequentialTTest, runs', () => {
    const effect = relativeEffect(A3000, B);
    expect([five(effect.estimate), five(effect.standardError)]).toEqual([0.50336, 0.33341]);
    expect(interval(sequentialInterval(effect, ALPHA, 1_000))).toEqual([-0.55844, 1.56516]);
    expect(sequentialPValue(effect, ALPHA, 1_000)).toBe(1);
  });

  it('TestSequentialTTest, runs_prop', () => {
    const effect = relativeEffect(proportionOf(3000, 1396), proportionOf(3461, 2422));
    expect([five(effect.estimate), five(effect.standardError)]).toEqual([0.50386, 0.03386]);
    expect(interval(sequentialInterval(effect, ALPHA))).toEqual([0.40098, 0.60675]);
    expect(five(sequentialPValue(effect, ALPHA))).toBe(0);
  });

  it('TestSequentialTTest, runs_ra', () => {
    const a = {
      n: 3000,
      sum: 1396.87,
      sumSquares: 52377.9767,
      preSum: 16.87,
      preSumSquares: 527.9767,
      products: 1,
    };
    const b = {
      n: 3461,
      sum: 2422.7,
      sumSquares: 134698.29,
      preSum: 22.7,
      preSumSquares: 1348.29,
      products: 1,
    };
    const effect = liftOf(plainly(cupedDifference(a, b, 'mean', nothing), a, b));
    expect([five(effect.estimate), five(effect.standardError)]).toEqual([0.50338, 0.33341]);
    expect(interval(sequentialInterval(effect, ALPHA))).toEqual([-0.50969, 1.51646]);
  });

  it('TestSequentialTTest, tuning_as_expected: narrowest near N*', () => {
    const effect = relativeEffect(A3000, B);
    const width = (tuning: number) => {
      const { low, high } = sequentialInterval(effect, ALPHA, tuning);
      return high - low;
    };
    expect(width(10)).toBeGreaterThan(width(10_000));
    expect(width(10_000)).toBeGreaterThan(width(6_461));
  });

  it('TestSequentialOneSidedGreaterTTest, relative and absolute', () => {
    expect(five(sequentialLowerBound(relativeEffect(A3000, B), ALPHA))).toBe(-0.42356);
    expect(five(sequentialLowerBound(absoluteEffect(A3000, B), ALPHA))).toBe(-0.12657);
  });

  it('TestSequentialOneSidedLesserTTest: the same width on the other side', () => {
    const effect = relativeEffect(A3000, B);
    const half = effect.standardError * oneSidedMultiplier(effect.n, ALPHA);
    expect(five(effect.estimate + half)).toBe(1.43029);
  });

  it('a p-value between zero and one, run with 300 and 380 of 1,000', () => {
    const effect = relativeEffect(proportionOf(1000, 300), proportionOf(1000, 380));
    expect(sequentialPValue(effect, ALPHA)).toBeCloseTo(0.02913544632978948, 12);
    expect(interval(sequentialInterval(effect, ALPHA))).toEqual([0.01752, 0.51582]);
  });
});

describe('test_shared_models.py', () => {
  const METRIC_1 = [0.3, 0.5, 0.9, 22];
  const METRIC_3 = [2, 1, 5, 3];
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const squares = (values: number[]) => sum(values.map((value) => value * value));

  it('TestSampleMeanStatistic', () => {
    const arm = meanOf(4, sum(METRIC_1), squares(METRIC_1));
    expect(arm.mean).toBeCloseTo(5.925, 12);
    // numpy: var(METRIC_1, ddof=1)
    expect(arm.variance).toBeCloseTo(114.9091666666666, 10);
    expect(meanOf(1, sum(METRIC_1), squares(METRIC_1)).variance).toBe(0);
  });

  it('TestProportionStatistic', () => {
    expect(proportionOf(4, 3)).toEqual({ n: 4, mean: 0.75, variance: 0.1875 });
  });

  it('TestComputeTheta', () => {
    const paired: PairedMoments = {
      n: 4,
      sum: sum(METRIC_3),
      sumSquares: squares(METRIC_3),
      preSum: sum(METRIC_1),
      preSumSquares: squares(METRIC_1),
      products: sum(METRIC_1.map((value, i) => value * METRIC_3[i]!)),
    };
    expect(five(cupedTheta(paired, paired, 'mean'))).toBe(0.01864);
    const flat = { ...paired, preSum: 0, preSumSquares: 0, products: 0 };
    expect(cupedTheta(flat, flat, 'mean')).toBe(0);
  });

  it('CUPED with a strong pre-period, run with means and with proportions', () => {
    const [a, b] = [
      { n: 3000, sum: 3100, sumSquares: 6400, preSum: 3000, preSumSquares: 6100, products: 5600 },
      { n: 2900, sum: 3100, sumSquares: 6300, preSum: 2950, preSumSquares: 5900, products: 5500 },
    ] as const;
    const effect = liftOf(plainly(cupedDifference(a, b, 'mean', nothing), a, b));
    expect(cupedTheta(a, b, 'mean')).toBeCloseTo(0.8079666643124515, 12);
    expect(effect.estimate).toBeCloseTo(0.021001668559858824, 12);
    expect(effect.standardError).toBeCloseTo(0.015899983673373197, 12);
    const plain = relativeEffect(armOf(a, 'mean'), armOf(b, 'mean'));
    expect(effect.standardError).toBeLessThan(plain.standardError * 0.65);
    const [p, q] = [
      { n: 1000, sum: 300, sumSquares: 300, preSum: 280, preSumSquares: 280, products: 200 },
      { n: 1100, sum: 370, sumSquares: 370, preSum: 310, preSumSquares: 310, products: 230 },
    ] as const;
    const share = liftOf(plainly(cupedDifference(p, q, 'proportion', nothing), p, q));
    expect(cupedTheta(p, q, 'proportion')).toBeCloseTo(0.5698731619710405, 12);
    expect(share.estimate).toBeCloseTo(0.11775834447290283, 12);
    expect(share.standardError).toBeCloseTo(0.060137416641904855, 12);
  });
});

describe('test_utils.py', () => {
  const around = (n: number, mean: number): Moments => ({
    n,
    sum: n * mean,
    sumSquares: n * (mean * mean + 1),
  });
  it.each([
    [-10, -5, 0.5],
    [-10, -15, -0.5],
    [-2, 3, 2.5],
    [10, 5, -0.5],
  ])('TestFrequentistDiff: from %d to %d is %d', (from, to, lift) => {
    const effect = relativeEffect(armOf(around(100, from), 'mean'), armOf(around(100, to), 'mean'));
    expect(effect.estimate).toBeCloseTo(lift, 12);
  });
});
