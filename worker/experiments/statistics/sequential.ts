/**
 * Intervals that remain valid at any number of looks: an asymptotic confidence sequence covers the truth at
 * all times simultaneously with probability 1 - alpha (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv
 * 2103.06476v7), as in gbstats. Numbers of equations refer to that paper.
 */
import { type Effect, type Interval, contrast } from './effect.ts';
import {
  guardrailLimits,
  type ExperimentGuardrail,
  type GuardrailLimit,
} from '../../../protocol/experiment.ts';
import { armOf, cautiousProportion, type Arm, type MetricKind, type Moments } from './moments.ts';

/** Units at which the interval is narrowest relative to a single look; gbstats' default. */
export const TUNING_UNITS = 5_000;

/**
 * The level for bounds whose actual error should be at most `alpha`. A unit's value is the mean over its
 * requests so far. With returning users it fluctuates more than the theory's independent units: simulations
 * had 1.4 times as many false positives (docs/internals/statistics.md).
 */
export const cautiousLevel = (alpha: number): number => 0.75 * alpha;

/**
 * Equation 161.
 * @param tuning N*, units.
 */
export function sequentialRho(alpha: number, tuning = TUNING_UNITS): number {
  return Math.sqrt((-2 * Math.log(alpha) + Math.log(-2 * Math.log(alpha) + 1)) / tuning);
}

/**
 * Equation 9: standard errors on each side, at n units. At its minimum it is 3.0, against 1.96 for a single
 * look.
 */
export function sequentialMultiplier(n: number, alpha: number, tuning = TUNING_UNITS): number {
  const spread = n * sequentialRho(alpha, tuning) ** 2;
  return Math.sqrt((2 * (spread + 1) * Math.log(Math.sqrt(spread + 1) / alpha)) / spread);
}

/** Equation 134: the same for a one-sided bound. */
export function oneSidedMultiplier(n: number, alpha: number, tuning = TUNING_UNITS): number {
  const spread = n * sequentialRho(2 * alpha, tuning) ** 2;
  return Math.sqrt((2 * (spread + 1) * Math.log(1 + Math.sqrt(spread + 1) / (2 * alpha))) / spread);
}

export function sequentialInterval(effect: Effect, alpha: number, tuning = TUNING_UNITS): Interval {
  const half = effect.standardError * sequentialMultiplier(effect.n, alpha, tuning);
  return { low: effect.estimate - half, high: effect.estimate + half };
}

/** Lower bound of the effect, at all times simultaneously with probability 1 - alpha. */
export function sequentialLowerBound(effect: Effect, alpha: number, tuning = TUNING_UNITS): number {
  return effect.estimate - effect.standardError * oneSidedMultiplier(effect.n, alpha, tuning);
}

/**
 * Equation 155: the inverse of the evidence against "no effect". The probability that it is below alpha at
 * any look is at most alpha.
 */
export function sequentialPValue(effect: Effect, alpha: number, tuning = TUNING_UNITS): number {
  const { estimate, standardError, n } = effect;
  const spread = n * sequentialRho(alpha, tuning) ** 2;
  const logEvidence =
    (spread * (estimate / standardError) ** 2) / (2 * (spread + 1)) - Math.log(spread + 1) / 2;
  return Math.min(1, Math.exp(-logEvidence));
}

/**
 * How often one of two answers to the same request is preferred, with an interval that is valid at every
 * look.
 */

export interface WinRate {
  /** Mean of the pairs' scores: 1 for a win, 0.5 for a tie, 0 for a loss. */
  estimate: number;
  interval: Interval;
  pValue: number;
}

/**
 * A pair's score is between 0 and 1, so its distance from 0.5 is sub-Gaussian with variance 1/4 (Hoeffding),
 * and the normal mixture of 2103.06476 (equation 9) is exact: if wins and losses are equally likely, the
 * interval excludes 0.5 at some look with probability at most `alpha`, from the first pair on. Ties say
 * nothing about which is better; they only shrink the decided pairs' interval by the share of decided pairs.
 * @param tuning N*, decided pairs.
 * @returns null without a decided pair.
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

/** Units per arm before a guardrail can be lost. */
export const GUARDRAIL_MIN_UNITS = 8;
/** N* of guardrails: a tenth of the decision's, to detect harm early. */
export const GUARDRAIL_TUNING_UNITS = 500;
/** The probability that a variant ever loses a limit by mistake is at most this, over all looks together. */
export const GUARDRAIL_ALPHA = 0.05;

export interface GuardrailResult {
  metric: string;
  variant: string;
  action: ExperimentGuardrail['action'];
  /** `unknown`: the values do not vary, so nothing is certain. */
  state: 'kept' | 'lost' | 'too_few_units' | 'unknown';
  /**
   * All limits hold with certainty, by the opposite bound; `kept` only means that none is certainly exceeded.
   */
  inside: boolean;
  /** Means of the units. */
  control: number;
  treatment: number;
  /** The lost limit, and what it allows. */
  lost: GuardrailLimit | null;
}

/**
 * A guardrail is lost when a limit is certainly exceeded: the one-sided sequential bound of how much worse
 * the treatment is, minus what the limit allows, is above 0. An estimate beyond the limit is not enough.
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

/** By how much the treatment exceeds a limit, with one-sided bounds, in the metric's unit. */
function excessOf(
  control: Arm,
  treatment: Arm,
  { limit, direction, allowed }: GuardrailLimit,
): { least: number; most: number } {
  const worse = direction === 'increase' ? 1 : -1;
  // For a negative mean, a share of it has the opposite sign.
  const factor = limit === 'relative' ? 1 + worse * Math.sign(control.mean) * allowed : 1;
  const effect = contrast(control, treatment, factor);
  const excess = worse * effect.estimate - (limit === 'absolute' ? allowed : 0);
  const least = (estimate: number): number =>
    sequentialLowerBound({ ...effect, estimate }, cautiousLevel(GUARDRAIL_ALPHA), GUARDRAIL_TUNING_UNITS);
  return { least: least(excess), most: -least(-excess) };
}
