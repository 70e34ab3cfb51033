import { describe, expect, it } from 'vitest';
import { chiSquareTail, lnGamma, normalCdf } from '../../../../worker/experiments/statistics/gamma.ts';

const closeTo = (actual: number, expected: number, relative = 1e-11): void => {
  expect(Math.abs(actual - expected)).toBeLessThanOrEqual(Math.abs(expected) * relative);
};

/** Expected values: scipy 1.x, `chi2.sf`, `norm.cdf`. */
describe('gamma', () => {
  it('equals the factorials', () => {
    let factorial = 1;
    for (let n = 1; n <= 20; n++) {
      expect(Math.exp(lnGamma(n)) / factorial).toBeCloseTo(1, 11);
      factorial *= n;
    }
    closeTo(lnGamma(0.5), Math.log(Math.PI) / 2);
  });

  it.each([
    [0.5, 1, 0.47950012218695337],
    [3.84, 1, 0.05004352124870519],
    [13.8, 1, 0.0002033362298949219],
    [4.6, 2, 0.10025884372280373],
    [18.3, 10, 0.050109061411462506],
    [200, 9, 3.312992393909567e-38],
  ])('knows how rarely chi-square exceeds %d with %d degrees', (x, degrees, tail) => {
    closeTo(chiSquareTail(x, degrees), tail);
  });

  it.each([
    [-8, 6.22096057427174e-16],
    [-3, 0.0013498980316300933],
    [-1, 0.15865525393145707],
    [0, 0.5],
    [0.3, 0.6179114221889526],
    [2, 0.9772498680518208],
    [6, 0.9999999990134123],
  ])('knows the normal distribution at %d', (z, p) => {
    closeTo(normalCdf(z), p);
  });

  it('ends at zero and one', () => {
    expect(normalCdf(-40)).toBeLessThan(1e-300);
    expect(normalCdf(40)).toBe(1);
    expect(normalCdf(-Infinity)).toBe(0);
    expect(chiSquareTail(0, 3)).toBe(1);
  });
});
