/** The incomplete gamma function, and tails of the normal and the chi-square distribution. */

/** Lanczos' series with g = 7 and nine terms (Godfrey 2001): 15 digits for positive arguments. */
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];
const LANCZOS_G = 7;

/** Terms of a series or fraction; for arguments in practice they converge far earlier. */
const MAX_TERMS = 10_000;
const PRECISION = 1e-16;
/** Replaces zero in Lentz' method. */
const TINY = 1e-300;

/**
 * Natural logarithm of the gamma function.
 * @param x > 0.
 */
export function lnGamma(x: number): number {
  const z = x - 1;
  const base = z + LANCZOS_G + 0.5;
  let sum = LANCZOS[0]!;
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i]! / (z + i);
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(base) - base + Math.log(sum);
}

/**
 * Q(a, x), the regularized upper incomplete gamma function: its series below a + 1, above that Legendre's
 * continued fraction, evaluated with Lentz' method (Abramowitz and Stegun 6.5.29, 6.5.31).
 * @param a > 0.
 * @param x >= 0.
 */
export function upperGamma(a: number, x: number): number {
  if (x <= 0) return 1;
  if (x === Infinity) return 0;
  const front = Math.exp(a * Math.log(x) - x - lnGamma(a));
  if (x < a + 1) {
    let term = 1 / a;
    let sum = term;
    for (let i = 1; i < MAX_TERMS && term > sum * PRECISION; i++) {
      term *= x / (a + i);
      sum += term;
    }
    return Math.max(0, 1 - front * sum);
  }
  let b = x + 1 - a;
  let c = 1 / TINY;
  let d = 1 / b;
  let fraction = d;
  for (let i = 1; i < MAX_TERMS; i++) {
    const an = -i * (i - a);
    b += 2;
    d = 1 / nonZero(an * d + b);
    c = nonZero(b + an / c);
    const step = d * c;
    fraction *= step;
    if (Math.abs(step - 1) < PRECISION) break;
  }
  return front * fraction;
}

const nonZero = (value: number): number => (Math.abs(value) < TINY ? TINY : value);

/** Probability that a chi-square variable with this many degrees of freedom exceeds `x`. */
export function chiSquareTail(x: number, degrees: number): number {
  return upperGamma(degrees / 2, x / 2);
}

/** Probability that a standard normal variable is at most `z`. */
export function normalCdf(z: number): number {
  const tail = upperGamma(0.5, (z * z) / 2) / 2;
  return z < 0 ? tail : 1 - tail;
}
