/**
 * Intervals that may be looked at as often as one likes: an asymptotic confidence sequence covers the truth at all times
 * together with probability 1 - alpha (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv 2103.06476v7), as
 * gbstats uses them. Numbers of equations are those of the paper.
 */
import { type Effect, type Interval, contrast } from './effect.ts';
import {
  guardrailLimits,
  type ExperimentGuardrail,
  type GuardrailLimit,
} from '../../../protocol/experiment.ts';
import { armOf, cautiousProportion, type Arm, type MetricKind, type Moments } from './moments.ts';

/** Units at which the interval is narrowest, compared with a single look; gbstats' default. */
export const TUNING_UNITS = 5_000;

/**
 * What bounds are computed for so that they are wrong in at most `alpha`: a unit is the mean over its requests so far, and
 * with users who come back that swings more often than the theory's new units do, 1.4 times as often called something in
 * simulations (docs/internals/statistics.md).
 */
export const cautiousLevel = (alpha: number): number => 0.75 * alpha;

/** Equation 161. @param tuning N*, units. */
export function sequentialRho(alpha: number, tuning = TUNING_UNITS): number {
  return Math.sqrt((-2 * Math.log(alpha) + Math.log(-2 * Math.log(alpha) + 1)) / tuning);
}

/** Equation 9: standard errors on each side, at n units. The 1.96 of a single look is 3.0 here at its least. */
export function sequentialMultiplier(n: number, alpha: number, tuning = TUNING_UNITS): number {
  const spread = n * sequentialRho(alpha, tuning) ** 2;
  return Math.sqrt((2 * (spread + 1) * Math.log(Math.sqrt(spread + 1) / alpha)) / spread);
}

/** Equation 134: the same for a bound on one side only. */
export function oneSidedMultiplier(n: number, alpha: number, tuning = TUNING_UNITS): number {
  const spread = n * sequentialRho(2 * alpha, tuning) ** 2;
  return Math.sqrt((2 * (spread + 1) * Math.log(1 + Math.sqrt(spread + 1) / (2 * alpha))) / spread);
}

export function sequentialInterval(effect: Effect, alpha: number, tuning = TUNING_UNITS): Interval {
  const half = effect.standardError * sequentialMultiplier(effect.n, alpha, tuning);
  return { low: effect.estimate - half, high: effect.estimate + half };
}

/** What the effect is at least, at all times together with probability 1 - alpha. */
export function sequentialLowerBound(effect: Effect, alpha: number, tuning = TUNING_UNITS): number {
  return effect.estimate - effect.standardError * oneSidedMultiplier(effect.n, alpha, tuning);
}

/** Equation 155: one over the evidence against "no effect"; below alpha at some look has probability alpha at most. */
export function sequentialPValue(effect: Effect, alpha: number, tuning = TUNING_UNITS): number {
  const { estimate, standardError, n } = effect;
  const spread = n * sequentialRho(alpha, tuning) ** 2;
  const logEvidence =
    (spread * (estimate / standardError) ** 2) / (2 * (spread + 1)) - Math.log(spread + 1) / 2;
  return Math.min(1, Math.exp(-logEvidence));
}

/** How often one of two answers to the same request is preferred, with an interval that holds at every look. */

export interface WinRate {
  /** Mean of the pairs' scores: 1 a win, 0.5 a tie, 0 a loss. */
  estimate: number;
  interval: Interval;
  pValue: number;
}

/**
 * A pair's score lies between 0 and 1, so that its distance from 0.5 is sub-Gaussian with a variance of 1/4 (Hoeffding),
 * and the normal mixture of 2103.06476 (equation 9) is no approximation: where wins and losses are equally likely, the
 * interval leaves 0.5 out at some look with probability `alpha` at most, from the first pair on. Ties say nothing of who
 * is better and count only as distance: the interval is that of the decided pairs, drawn together by their share.
 * @param tuning N*, decided pairs. @returns null before anybody won.
 */
export function winRate(
  { wins, ties, losses }: { wins: number; ties: number; losses: number },
  alpha: number,
  tuning: number,
): WinRate | null {
  const decided = wins + losses;
  if (decided === 0) return null;
  const share = decided / (decided + ties);
  const standardError = 0.5 / Math.sqrt(decided);
  const distance = wins / decided - 0.5;
  const half = standardError * sequentialMultiplier(decided, alpha, tuning);
  const at = (of: number): number => Math.min(1, Math.max(0, 0.5 + share * of));
  return {
    estimate: at(distance),
    interval: { low: at(distance - half), high: at(distance + half) },
    pValue: sequentialPValue({ estimate: distance, standardError, n: decided }, alpha, tuning),
  };
}

/** Units of each arm before a guardrail can be lost. */
export const GUARDRAIL_MIN_UNITS = 8;
/** N* of guardrails: harm is to be seen early, a tenth of what is meant for the decision. */
export const GUARDRAIL_TUNING_UNITS = 500;
/** Each limit of each variant is lost by mistake with at most this probability, over all looks together. */
export const GUARDRAIL_ALPHA = 0.05;

export interface GuardrailResult {
  metric: string;
  variant: string;
  action: ExperimentGuardrail['action'];
  /** `unknown`: the values do not vary, so that nothing is certain. */
  state: 'kept' | 'lost' | 'too_few_units' | 'unknown';
  /** All limits are kept with certainty, by the bound on the other side; `kept` is only that none is passed. */
  inside: boolean;
  /** Means of the units. */
  control: number;
  treatment: number;
  /** The limit that was lost, and how much it allows. */
  lost: GuardrailLimit | null;
}

/**
 * A guardrail is lost when a limit is passed with certainty: what the treatment is worse by, less what the limit allows,
 * is above 0 by its one-sided sequential bound. An estimate beyond the limit is not enough.
 */
export function checkGuardrail(params: {
  rail: ExperimentGuardrail;
  variant: string;
  kind: MetricKind;
  control: Moments;
  treatment: Moments;
}): GuardrailResult {
  const { rail, variant, kind, control, treatment } = params;
  const result = {
    metric: rail.metric,
    variant,
    action: rail.action,
    control: armOf(control, kind).mean,
    treatment: armOf(treatment, kind).mean,
    inside: false,
    lost: null,
  };
  if (Math.min(control.n, treatment.n) < GUARDRAIL_MIN_UNITS) return { ...result, state: 'too_few_units' };
  const arm = (moments: Moments): Arm =>
    kind === 'proportion' ? cautiousProportion(moments) : armOf(moments, kind);
  const [a, b] = [arm(control), arm(treatment)];
  const limits = guardrailLimits(rail).map((limit) => ({ limit, ...excessOf(a, b, limit) }));
  const inside = limits.every(({ most }) => most <= 0);
  if (a.variance === 0 && b.variance === 0) return { ...result, inside, state: 'unknown' };
  const passed = limits.find(({ least }) => least > 0);
  if (passed !== undefined) return { ...result, state: 'lost', lost: passed.limit };
  return { ...result, inside, state: 'kept' };
}

/** What the treatment is worse by than the limit allows, with its bounds, each on its side; in the metric's unit. */
function excessOf(
  control: Arm,
  treatment: Arm,
  { limit, direction, allowed }: GuardrailLimit,
): { least: number; most: number } {
  const worse = direction === 'increase' ? 1 : -1;
  // A share of a negative mean is less of it.
  const factor = limit === 'relative' ? 1 + worse * Math.sign(control.mean) * allowed : 1;
  const effect = contrast(control, treatment, factor);
  const excess = worse * effect.estimate - (limit === 'absolute' ? allowed : 0);
  const least = (estimate: number): number =>
    sequentialLowerBound({ ...effect, estimate }, cautiousLevel(GUARDRAIL_ALPHA), GUARDRAIL_TUNING_UNITS);
  return { least: least(excess), most: -least(-excess) };
}
