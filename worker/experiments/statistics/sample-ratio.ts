/** Tests whether the units are distributed as intended, valid at every look. */
import { lnGamma } from './gamma.ts';

/**
 * Level of the alarm: the probability that a healthy experiment ever alarms is at most this, however many
 * looks there are.
 */
export const SAMPLE_RATIO_ALARM = 0.01;
/** Units that each arm should have before the test is meaningful; GrowthBook's number. */
export const SAMPLE_RATIO_MIN_UNITS = 8;
/**
 * Concentration of the Dirichlet prior around the expected shares, in units. 100 detects an arm that nobody
 * reaches after 36 units, and one that loses 4 % of its units after 29,000; 10,000 would take 312 and 30,000.
 */
const CONCENTRATION = 100;
/** Steps of the search in {@link logLikelihood}; between two distributions one is enough. */
const MOST_STEPS = 20;
const HALVINGS = 50;
/** Minimum share in the prior, for an arm that should be empty: any unit in it is evidence. */
const LEAST_SHARE = 1e-9;

/** A period with constant assignment. */
export interface DealtPhase {
  /** New units of each arm. */
  units: readonly number[];
  /** Shares of the arms, in any unit, not all 0. The first is expected; any mixture of them is correct. */
  dealt: readonly [readonly number[], ...(readonly number[])[]];
}

export interface SampleRatio {
  state: 'ok' | 'alarm' | 'too_few_units';
  /** Always valid: the probability that it is below alpha at any look is at most alpha. */
  pValue: number;
}

/**
 * The sequential multinomial test of Lindon and Malek (arXiv 2011.03567): the inverse Bayes factor of a
 * Dirichlet prior against the expected shares. Phases multiply. If several distributions are correct, their
 * most likely mixture is used.
 */
export function sampleRatio(phases: readonly DealtPhase[]): SampleRatio {
  let evidence = 0;
  const expected: number[] = [];
  for (const { units, dealt } of phases) {
    const total = sumOf(units);
    if (total === 0) continue;
    const shares = dealt.map(normalized);
    evidence += logMarginal(units, shares[0]!) - logLikelihood(units, shares);
    for (const [arm, share] of shares[0]!.entries()) expected[arm] = (expected[arm] ?? 0) + share * total;
  }
  const pValue = Math.min(1, Math.exp(-evidence));
  if (expected.length === 0 || Math.min(...expected) < SAMPLE_RATIO_MIN_UNITS)
    return { state: 'too_few_units', pValue };
  return { state: pValue < SAMPLE_RATIO_ALARM ? 'alarm' : 'ok', pValue };
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
const normalized = (shares: readonly number[]): number[] => {
  const whole = sumOf(shares);
  return shares.map((share) => share / whole);
};
/** 0 ln 0 = 0: no units in an arm that should be empty. */
const timesLog = (count: number, share: number): number => (count === 0 ? 0 : count * Math.log(share));

/** Of the counts, up to the number of their possible orders. */
function logMarginal(units: readonly number[], shares: readonly number[]): number {
  let sum = lnGamma(CONCENTRATION) - lnGamma(CONCENTRATION + sumOf(units));
  for (const [arm, share] of shares.entries()) {
    const prior = CONCENTRATION * Math.max(share, LEAST_SHARE);
    sum += lnGamma(prior + units[arm]!) - lnGamma(prior);
  }
  return sum;
}

/**
 * Log-likelihood of the best mixture, never underestimated: the maximum gain of further steps (by concavity)
 * is added. Uses the Frank-Wolfe algorithm: each step goes to the best point towards one corner.
 */
function logLikelihood(units: readonly number[], corners: readonly number[][]): number {
  const of = (shares: readonly number[]): number =>
    units.reduce((sum, count, arm) => sum + timesLog(count, shares[arm]!), 0);
  if (corners.length === 1) return of(corners[0]!);
  const total = sumOf(units);
  let shares = corners[0]!.map((_, arm) => sumOf(corners.map((one) => one[arm]!)) / corners.length);
  let missing = 0;
  for (let step = 0; step < MOST_STEPS; step++) {
    const slopes = corners.map((corner) =>
      corner.reduce((sum, share, arm) => sum + (share === 0 ? 0 : (units[arm]! * share) / shares[arm]!), 0),
    );
    const best = slopes.indexOf(Math.max(...slopes));
    missing = total * Math.log(slopes[best]! / total);
    if (missing < 1e-6) break;
    const towards = (part: number): number[] =>
      shares.map((share, arm) => share + part * (corners[best]![arm]! - share));
    let [low, high] = [0, 1];
    for (let halving = 0; halving < HALVINGS; halving++) {
      const [a, b] = [low + (high - low) / 3, high - (high - low) / 3];
      if (of(towards(a)) < of(towards(b))) low = a;
      else high = b;
    }
    shares = towards((low + high) / 2);
  }
  return of(shares) + Math.max(0, missing);
}
