import { chiSquareTail } from './gamma.ts';

/** Below this the split is not the one that was asked for; GrowthBook's threshold. */
export const SAMPLE_RATIO_ALARM = 0.001;
/** Units that each arm should have before the test means something; GrowthBook's number too. */
export const SAMPLE_RATIO_MIN_UNITS = 8;

export interface SampleRatio {
  state: 'ok' | 'alarm' | 'too_few_units';
  /** Of the chi-square test with one degree less than arms. */
  pValue: number;
}

/**
 * Do the units lie in the arms as they should? An arm that nobody reaches is judged by what it should have.
 * @param units of each arm. @param weights expected shares, in any unit, each above 0.
 */
export function sampleRatio(units: readonly number[], weights: readonly number[]): SampleRatio {
  const total = units.reduce((sum, n) => sum + n, 0);
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0 || whole === 0) return { state: 'too_few_units', pValue: 1 };
  let statistic = 0;
  let fewest = Infinity;
  for (const [i, weight] of weights.entries()) {
    const expected = (total * weight) / whole;
    fewest = Math.min(fewest, expected);
    if (expected > 0) statistic += ((units[i] ?? 0) - expected) ** 2 / expected;
  }
  const pValue = chiSquareTail(statistic, weights.length - 1);
  if (fewest < SAMPLE_RATIO_MIN_UNITS) return { state: 'too_few_units', pValue };
  return { state: pValue < SAMPLE_RATIO_ALARM ? 'alarm' : 'ok', pValue };
}
