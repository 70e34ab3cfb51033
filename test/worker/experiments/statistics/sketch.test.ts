import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  capAt,
  cappedMoments,
  fromRows,
  isSketchOf,
  joinSketch,
  moveInSketch,
  percentile,
  SKETCH_ERROR,
  toldIn,
  toRows,
  type OpenSketch,
} from '../../../../worker/experiments/statistics/sketch.ts';
import { addValue, NO_MOMENTS } from '../../../../worker/experiments/statistics/moments.ts';

/** Positive and spread over nine powers of ten. */
const value = fc.double({ min: -2, max: 7, noNaN: true }).map((power) => 10 ** power);
const values = fc.array(value, { minLength: 1, maxLength: 200 });
const share = fc.constantFrom(0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1);

/** One value per unit. */
function sketchOf(told: readonly number[]): OpenSketch {
  const sketch: OpenSketch = new Map();
  for (const is of told) moveInSketch(sketch, { was: null, is, told: is });
  return sketch;
}
const momentsOf = (told: readonly number[]) => told.reduce(addValue, NO_MOMENTS);
/** The smallest value at or below which a share `at` of all values lies. */
const exactly = (told: readonly number[], at: number): number =>
  [...told].sort((a, b) => a - b)[Math.ceil(at * told.length - 1e-9 * told.length) - 1]!;

describe('a sketch', () => {
  it('returns percentiles within 2 %', () =>
    fc.assert(
      fc.property(values, share, (told, at) => {
        const exact = exactly(told, at);
        const off = Math.abs(percentile(sketchOf(told), at)! - exact) / exact;
        expect(off).toBeLessThanOrEqual(SKETCH_ERROR + 1e-9);
      }),
    ));

  it('merged from parts equals that of the whole', () =>
    fc.assert(
      fc.property(values, values, (some, others) => {
        const joined = sketchOf(some);
        joinSketch(joined, fromRows(toRows(sketchOf(others))));
        const all = [...some, ...others];
        expect(isSketchOf(joined, momentsOf(all))).toBe(true);
        for (const at of [0.5, 0.95]) expect(percentile(joined, at)).toBe(percentile(sketchOf(all), at));
      }),
    ));

  it('caps exactly, at most 4.1 % above the percentile', () =>
    fc.assert(
      fc.property(values, share, (told, at) => {
        const sketch = sketchOf(told);
        const cap = capAt(sketch, at)!;
        const exact = exactly(told, at);
        expect(cap.value).toBeGreaterThanOrEqual(exact * (1 - 1e-9));
        expect(cap.value).toBeLessThanOrEqual(exact * 1.0409);
        const direct = momentsOf(told.map((one) => Math.min(one, cap.value)));
        const capped = cappedMoments(sketch, cap);
        expect(capped.n).toBe(direct.n);
        expect(capped.sum / direct.sum).toBeCloseTo(1, 9);
        expect(capped.sumSquares / direct.sumSquares).toBeCloseTo(1, 9);
      }),
    ));

  it('has units at their mean, and answers at their own values', () => {
    const sketch = sketchOf([100]);
    moveInSketch(sketch, { was: 100, is: 5_050, told: 10_000 });
    expect(toldIn(sketch)).toBe(2);
    expect(percentile(sketch, 0.5)).toBeCloseTo(100, -1);
    expect(Math.abs(percentile(sketch, 1)! - 10_000)).toBeLessThan(200);
    expect(isSketchOf(sketch, { n: 1, sum: 5_050, sumSquares: 5_050 ** 2 })).toBe(true);
    const cap = capAt(sketch, 1)!;
    expect(cap.value).toBeGreaterThanOrEqual(5_050);
    expect(cap.value).toBeLessThan(5_300);
  });

  it('counts nearly 0 as 0, and returns no percentile below it', () => {
    const sketch = sketchOf([0, 0.0001, -5, 8]);
    expect(percentile(sketch, 0.75)).toBe(0);
    expect(percentile(sketch, 0.25)).toBeNull();
    expect(capAt(sketch, 0.25)).toBeNull();
    expect(cappedMoments(sketch, capAt(sketch, 1)!)).toMatchObject({ n: 4, sum: expect.closeTo(3.0001, 9) });
    expect(percentile(new Map(), 0.5)).toBeNull();
  });

  it('has at most 694 buckets, for any input', () => {
    const sketch = sketchOf(Array.from({ length: 4_000 }, (_, i) => 10 ** (i / 100 - 20)));
    expect(sketch.size).toBeLessThanOrEqual(694);
  });

  it('is rejected if it has not covered its units from the start', () => {
    const sketch = sketchOf([1, 2, 3]);
    expect(isSketchOf(sketch, momentsOf([1, 2, 3, 4]))).toBe(false);
    expect(isSketchOf(sketch, momentsOf([1, 2, 4]))).toBe(false);
    moveInSketch(sketch, { was: 900, is: 3, told: 3 });
    expect(isSketchOf(sketch, momentsOf([1, 2, 3]))).toBe(false);
  });
});
