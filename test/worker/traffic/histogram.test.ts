import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addHistogram,
  BOUNDS_MS,
  BUCKETS,
  bucketOf,
  emptyHistogram,
  quantile,
} from '../../../worker/traffic/sum-traffic.ts';

const of = (values: readonly number[]): number[] => {
  const counts = emptyHistogram();
  for (const value of values) counts[bucketOf(value)]! += 1;
  return counts;
};

describe('histograms of times', () => {
  it('have increasing bounds, none two thirds above the one before until 30 s', () => {
    for (const [i, bound] of BOUNDS_MS.entries()) {
      if (i === 0) continue;
      expect(bound).toBeGreaterThan(BOUNDS_MS[i - 1]!);
      if (bound <= 30_000) expect(bound / BOUNDS_MS[i - 1]!).toBeLessThanOrEqual(5 / 3);
    }
  });

  it('count a value equal to a bound below it, and values beyond all bounds in the last bucket', () => {
    expect(bucketOf(0)).toBe(0);
    expect(bucketOf(5)).toBe(0);
    expect(bucketOf(5.1)).toBe(1);
    expect(bucketOf(1e9)).toBe(BUCKETS - 1);
  });

  it('have no percentile without values, and none beyond the last bound', () => {
    expect(quantile(emptyHistogram(), 0.5)).toBeNull();
    expect(quantile(of([1e9]), 0.95)).toBe(600_000);
    expect(quantile(of([1, 2, 3, 4]), 0.5)).toBe(2.5);
  });

  it('return, for the sum of two, a percentile in the bucket of the true one', () => {
    const values = fc.array(fc.integer({ min: 0, max: 599_999 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(values, values, fc.constantFrom(0.5, 0.95), (a, b, share) => {
        const both = of(a);
        addHistogram(both, of(b));
        expect(both).toEqual(of([...a, ...b]));
        const sorted = [...a, ...b].sort((x, y) => x - y);
        const exact = sorted[Math.ceil(share * sorted.length) - 1]!;
        const bucket = bucketOf(exact);
        const found = quantile(both, share)!;
        expect(found).toBeLessThanOrEqual(BOUNDS_MS[bucket]!);
        expect(found).toBeGreaterThanOrEqual(bucket === 0 ? 0 : BOUNDS_MS[bucket - 1]!);
      }),
      { seed: 1 },
    );
  });
});
