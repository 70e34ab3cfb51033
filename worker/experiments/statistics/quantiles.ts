/** Student's distribution, and quantiles of it and of the normal: for intervals at a given level. */
import { lnGamma, normalCdf, normalDensity } from './gamma.ts';

const MAX_TERMS = 10_000;
const PRECISION = 1e-16;
const TINY = 1e-300;
/** With one degree of freedom each step doubles `t`; with ten or more a handful is enough. */
const MAX_STEPS = 200;
const STEP_PRECISION = 1e-14;

const nonZero = (value: number): number => (Math.abs(value) < TINY ? TINY : value);

/** The continued fraction of the incomplete beta function by Lentz' method (Abramowitz and Stegun 26.5.8). */
function betaFraction(x: number, a: number, b: number): number {
  let c = 1;
  let d = 1 / nonZero(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m < MAX_TERMS; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonZero(1 + even * d);
    c = nonZero(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonZero(1 + odd * d);
    c = nonZero(1 + odd / c);
    fraction *= d * c;
    if (Math.abs(d * c - 1) < PRECISION) break;
  }
  return fraction;
}

/** I_x(a, b), the incomplete beta function divided by the whole. @param x 0 … 1. */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  // The fraction converges fast on one side of the mean; the other side is its mirror.
  return x < (a + 1) / (a + b + 2)
    ? (front * betaFraction(x, a, b)) / a
    : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

/** Chance that a Student variable is further from 0 than `t`, either way. @param degrees > 0. */
export function studentTwoTails(t: number, degrees: number): number {
  const square = t * t;
  // Each side where it is not 1 less something.
  return square < 1
    ? 1 - incompleteBeta(square / (degrees + square), 0.5, degrees / 2)
    : incompleteBeta(degrees / (degrees + square), degrees / 2, 0.5);
}

/**
 * The `t` for which {@link studentTwoTails} is `level`: Newton's method from the normal quantile, which is never above
 * it; the tails are convex, so that each step stays below as well.
 * @param level 0 < level < 1.
 */
export function studentCritical(level: number, degrees: number): number {
  const peak = Math.exp(lnGamma((degrees + 1) / 2) - lnGamma(degrees / 2)) / Math.sqrt(degrees * Math.PI);
  let t = -normalQuantile(level / 2);
  for (let i = 0; i < MAX_STEPS; i++) {
    const density = peak * (1 + (t * t) / degrees) ** (-(degrees + 1) / 2);
    const step = (studentTwoTails(t, degrees) - level) / (2 * density);
    t += step;
    if (Math.abs(step) <= Math.abs(t) * STEP_PRECISION) break;
  }
  return t;
}

/** The `z` with {@link normalCdf}(z) = p, by Halley's method. @param p 0 < p < 1. */
export function normalQuantile(p: number): number {
  if (p > 0.5) return -normalQuantile(1 - p);
  // Abramowitz and Stegun 26.2.23 is right to 4.5e-4; each step after it triples the digits.
  const t = Math.sqrt(-2 * Math.log(p));
  let z =
    (2.515517 + 0.802853 * t + 0.010328 * t * t) /
      (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t) -
    t;
  for (let i = 0; i < 3; i++) {
    const step = (normalCdf(z) - p) / normalDensity(z);
    z -= step / (1 + (z * step) / 2);
  }
  return z;
}
