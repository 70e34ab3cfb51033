/** Two-sided 95 %, in standard errors. */
export const Z_95 = 1.959963984540054;
/** Halvings of an interval of length 2: below what a double can tell apart. */
const HALVINGS = 60;

export interface Outcomes {
  readonly wins: number;
  readonly ties: number;
  readonly losses: number;
}

export interface Estimate {
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
}

/**
 * How often one side wins, 0 to 1, with ties as half a win, and the 95 % score interval of it: Tango's for the
 * difference of two paired proportions (Statistics in Medicine 17, 1998, 891), here wins less losses. Without
 * ties it is Wilson's. It works at the extremes too: ten wins out of ten give 72 % to 100 %.
 * @returns null when nothing was compared.
 */
export function winRate({ wins, ties, losses }: Outcomes): Estimate | null {
  const n = wins + ties + losses;
  if (n === 0) return null;
  const score = (difference: number): number => tangoScore(wins, losses, n, difference);
  const rate = (difference: number): number => (1 + difference) / 2;
  return {
    estimate: rate((wins - losses) / n),
    low: rate(losses === n ? -1 : crossing(score, Z_95)),
    high: rate(wins === n ? 1 : crossing(score, -Z_95)),
  };
}

/** Standard errors by which wins minus losses exceed the expectation under `difference`, between -1 and 1. */
function tangoScore(wins: number, losses: number, n: number, difference: number): number {
  // The most likely probability of a loss, given the difference: the positive root of a quadratic.
  const b = -wins - losses + (2 * n - wins + losses) * difference;
  const c = -losses * difference * (1 - difference);
  const loss = (Math.sqrt(b * b - 8 * n * c) - b) / (4 * n);
  const variance = n * (2 * loss + difference * (1 - difference));
  return (wins - losses - n * difference) / Math.sqrt(Math.max(variance, Number.MIN_VALUE));
}

/** @returns where the decreasing `score` crosses `level`, within [-1, 1]. */
function crossing(score: (difference: number) => number, level: number): number {
  let low = -1;
  let high = 1;
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (low + high) / 2;
    if (score(middle) > level) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
