import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chiSquareTail,
  lnGamma,
  normalCdf,
  normalDensity,
} from '../../../../worker/experiments/statistics/gamma.ts';
import {
  incompleteBeta,
  normalQuantile,
  studentCritical,
  studentTwoTails,
} from '../../../../worker/experiments/statistics/quantiles.ts';

fc.configureGlobal({ seed: 8 });

const closeTo = (actual: number, expected: number, relative = 1e-11): void => {
  expect(Math.abs(actual - expected)).toBeLessThanOrEqual(Math.abs(expected) * relative);
};

/** Expected values: scipy 1.x, `chi2.sf`, `2 * t.sf`, `t.ppf`, `norm.cdf`, `norm.ppf`. */
describe('gamma', () => {
  it('has the factorials', () => {
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

  it('ends in nought and one', () => {
    expect(normalCdf(-40)).toBeLessThan(1e-300);
    expect(normalCdf(40)).toBe(1);
    expect(normalCdf(-Infinity)).toBe(0);
    expect(chiSquareTail(0, 3)).toBe(1);
    expect(normalDensity(0)).toBeCloseTo(0.3989422804014327, 15);
  });
});

describe('quantiles', () => {
  it.each([
    [0.5, 1, 0.7048327646991335],
    [2, 3.7, 0.12181720190523398],
    [2.5, 28.5, 0.01843603838783962],
    [5, 10, 0.0005373336027564527],
    [1.96, 1_000_000, 0.04999606758526985],
    [40, 200, 2.2487396535202197e-97],
  ])('knows how far from 0 Student is: %d with %d degrees', (t, degrees, p) => {
    closeTo(studentTwoTails(t, degrees), p, 1e-9);
    expect(studentTwoTails(-t, degrees)).toBe(studentTwoTails(t, degrees));
  });

  it.each([
    [0.05, 1, 12.706204736174694],
    [0.05, 2.5, 3.5746548420036817],
    [0.05, 56, 2.003240718847872],
    [0.005, 3000, 2.8091122706332494],
    [0.0111112, 12, 2.9978403886270732],
  ])('finds the critical value of level %d with %d degrees', (level, degrees, t) => {
    closeTo(studentCritical(level, degrees), t, 1e-9);
  });

  it.each([
    [1e-12, -7.034483825301131],
    [0.0001, -3.7190164854556804],
    [0.025, -1.9599639845400545],
    [0.3, -0.5244005127080409],
    [0.5, 0],
    [0.975, 1.959963984540054],
    [0.999999, 4.753424308817087],
  ])('finds the normal quantile of %d', (p, z) => {
    expect(normalQuantile(p)).toBeCloseTo(z, 9);
  });

  it('turns the distributions round', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1e-6, max: 1 - 1e-6, noNaN: true }),
        fc.integer({ min: 1, max: 500 }),
        (p, n) => {
          expect(normalCdf(normalQuantile(p))).toBeCloseTo(p, 12);
          expect(studentTwoTails(studentCritical(p, n), n)).toBeCloseTo(p, 11);
          expect(incompleteBeta(p, 2.5, n) + incompleteBeta(1 - p, n, 2.5)).toBeCloseTo(1, 12);
        },
      ),
    );
  });
});
