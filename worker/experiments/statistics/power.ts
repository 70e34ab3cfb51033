/** What an experiment can find, and when: for plans and progress. Decides nothing. */
import { absoluteEffect, cautiousArms, differenceOf } from './effect.ts';
import { normalCdf } from './gamma.ts';
import type { MetricKind } from './moments.ts';
import { cautiousLevel, sequentialMultiplier } from './sequential.ts';

/** A lift counts as detectable if this share of experiments finds it. */
export const PLANNED_POWER = 0.8;
/** Search limits beyond which nobody waits: units of both arms, and lifts (a hundred times as much). */
const MOST_UNITS = 1e9;
const MOST_LIFT = 100;
const STEPS = 60;
/** Step for a numeric slope, as a share of the units. */
const NUDGE = 1e-4;

/** What is known about the metric so far. */
export interface Baseline {
  kind: MetricKind;
  mean: number;
  /** Of a unit's value; p(1 - p) if each unit is 0 or 1. */
  variance: number;
}

/** Relative weights of the two compared arms, in any unit: their shares, or units a day. */
export interface ArmWeights {
  control: number;
  treatment: number;
}

/**
 * Share of experiments with this lift whose interval excludes 0 at some look, up to this many units. The
 * interval's bound is concave in the units, so it lies below its tangent at the end: crossing the tangent
 * implies crossing the bound. The probability that a drift reaches a line is known (Bachelier and Lévy); it
 * is slightly below the true one.
 * @param params.units per arm, with a value.
 * @param params.alpha level of one comparison.
 * @param params.lift 0.1 = treatment's mean is 10 % higher; a mean keeps its variance.
 */
export function powerOf(params: {
  baseline: Baseline;
  units: ArmWeights;
  lift: number;
  alpha: number;
}): number {
  const { baseline, units, lift, alpha } = params;
  const mean = baseline.mean + Math.abs(baseline.mean) * lift;
  if (baseline.kind === 'proportion' && (mean < 0 || mean > 1)) return 0;
  // Keeps the baseline's ratio to p(1 - p), which is below 1 if units have values between 0 and 1.
  const spread = baseline.mean * (1 - baseline.mean);
  const variance =
    baseline.kind === 'proportion' && spread > 0
      ? (baseline.variance / spread) * mean * (1 - mean)
      : baseline.variance;
  const difference = differenceOf(
    ...cautiousArms(
      { n: units.control, mean: baseline.mean, variance: baseline.variance },
      { n: units.treatment, mean, variance },
    ),
  );
  if (!difference.ok) return 0;
  const { estimate, standardError, n } = absoluteEffect(difference.value);
  const bound = (at: number): number => sequentialMultiplier(at, cautiousLevel(alpha)) * Math.sqrt(at);
  return crossed(n, Math.abs(estimate) / (standardError * Math.sqrt(n)), bound);
}

/**
 * @param signal of one unit, in standard deviations.
 * @param bound of the sum.
 * @returns the probability.
 */
function crossed(n: number, signal: number, bound: (at: number) => number): number {
  const slope = (bound(n * (1 + NUDGE)) - bound(n)) / (n * NUDGE);
  const level = bound(n) - slope * n;
  const drift = signal - slope;
  const late = normalCdf((drift * n - level) / Math.sqrt(n));
  const early = normalCdf((-drift * n - level) / Math.sqrt(n));
  return Math.min(1, late + (early === 0 ? 0 : Math.exp(2 * drift * level) * early));
}

/**
 * Units with a value, in both arms together, until {@link PLANNED_POWER} of experiments find a lift.
 * @param params.least minimum per arm.
 * @returns null if no practical number of units is enough: the lift or the mean is 0, or nothing varies.
 */
export function unitsToFind(params: {
  baseline: Baseline;
  weights: ArmWeights;
  lift: number;
  alpha: number;
  least: number;
}): number | null {
  const { baseline, weights, lift, alpha, least } = params;
  const whole = weights.control + weights.treatment;
  const of = (total: number): ArmWeights => ({
    control: (total * weights.control) / whole,
    treatment: (total * weights.treatment) / whole,
  });
  const enough = (total: number): boolean =>
    powerOf({ baseline, units: of(total), lift, alpha }) >= PLANNED_POWER;
  const first = (least * whole) / Math.min(weights.control, weights.treatment);
  if (!(first < MOST_UNITS) || !enough(MOST_UNITS)) return null;
  return Math.ceil(
    enough(first)
      ? first
      : Math.exp(halve(Math.log(first), Math.log(MOST_UNITS), (at) => enough(Math.exp(at)))),
  );
}

/** The minimum for a result: this many wins in a row. */
const LEAST_PAIRS = 24;

/**
 * Judged pairs with a winner until a treatment that wins this share of them is called better in
 * {@link PLANNED_POWER} of experiments.
 * @param winRate above 0.5.
 * @param tuning as for `winRate` of sequential.ts.
 */
export function pairsToFind(winRate: number, alpha: number, tuning: number): number {
  const bound = (at: number): number => sequentialMultiplier(at, alpha, tuning) * Math.sqrt(at);
  // A pair's score has a standard deviation of at most 0.5.
  const enough = (pairs: number): boolean => crossed(pairs, (winRate - 0.5) / 0.5, bound) >= PLANNED_POWER;
  return enough(LEAST_PAIRS) ? LEAST_PAIRS : Math.ceil(halve(LEAST_PAIRS, MOST_UNITS, enough));
}

/**
 * Days until a lift is found.
 * @param params.unitsADay new units with a value, in both arms together.
 * @returns null like {@link unitsToFind}, and if there are no new units.
 */
export function daysToFind(params: Parameters<typeof unitsToFind>[0] & { unitsADay: number }): number | null {
  const units = unitsToFind(params);
  return units === null || !(params.unitsADay > 0) ? null : units / params.unitsADay;
}

/**
 * The smallest lift that {@link PLANNED_POWER} of experiments find with these units.
 * @param params.better its direction.
 * @returns above 0 for `up`, below 0 for `down`; null if there is none.
 */
export function liftToFind(params: {
  baseline: Baseline;
  units: ArmWeights;
  alpha: number;
  better: 'up' | 'down';
}): number | null {
  const { baseline, units, alpha, better } = params;
  const sign = better === 'up' ? 1 : -1;
  const { kind, mean } = baseline;
  if (mean === 0) return null;
  const room = better === 'down' && mean > 0 ? 1 : MOST_LIFT;
  const most = kind === 'proportion' && better === 'up' ? (1 - mean) / mean : room;
  const enough = (size: number): boolean =>
    powerOf({ baseline, units, lift: sign * size, alpha }) >= PLANNED_POWER;
  // At the extreme a proportion no longer varies.
  const end = most * (1 - 1e-9);
  return enough(end) ? sign * halve(0, end, enough) : null;
}

/** Binary search for the smallest sufficient value. @param high suffices. */
function halve(low: number, high: number, enough: (at: number) => boolean): number {
  let [below, above] = [low, high];
  for (let step = 0; step < STEPS; step++) {
    const middle = (below + above) / 2;
    if (enough(middle)) above = middle;
    else below = middle;
  }
  return above;
}
