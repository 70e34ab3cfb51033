/** Decisions and proposals of an evaluation, and what an experiment can find with a number of units. */
import {
  type ExperimentDecision,
  type ExperimentHealth,
  type ExperimentProposal,
  PLANNED_LIFTS,
  type ExperimentFinding,
  type ExperimentProgress,
} from '../../protocol/admin-api/experiments.ts';
import { activeTreatments, type Experiment, type ExperimentPairs } from '../../protocol/experiment.ts';
import { type Analysis, type Comparison, ALPHA, MIN_VALUES, type Tallies } from './analyze.ts';
import type { GuardrailResult } from './statistics/sequential.ts';
import { armOf, NO_MOMENTS } from './statistics/moments.ts';
import { liftToFind, unitsToFind, type ArmWeights, type Baseline } from './statistics/power.ts';

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
/** Units, in all variants, before a winner is proposed, without a ramp's setting. */
export const MIN_UNITS = 200;
/** An experiment without a unit for this long since its start does not reach its users. */
export const NO_TRAFFIC_MS = 60 * MINUTE;

/** Input of an evaluation. */
export interface Situation {
  experiment: Experiment;
  analysis: Analysis;
  /** Judged pairs; there are none without a judge. */
  pairs?: ExperimentPairs | null;
  /** Health problems; a winner is not proposed meanwhile. */
  health?: readonly ExperimentHealth[];
  /** When the current seed went live, unix ms. */
  startedAt: number;
  /** When the current coverage was set, unix ms, and the units at that time. */
  stepStartedAt: number;
  stepUnits: number;
  /** An earlier proposal under this seed, which stands. */
  proposal: ExperimentProposal | null;
  now: number;
}

/**
 * The decision of an evaluation, which the caller carries out and records. Pure: the same state at the same
 * time gives the same decision. The first that applies is used.
 */
export function decide(situation: Situation): ExperimentDecision {
  const { experiment } = situation;
  if (experiment.status !== 'running' && experiment.status !== 'ramping')
    return { action: 'wait', reason: 'not_running' };
  if (experiment.killed) return { action: 'wait', reason: 'killed' };
  return (
    lostGuardrail(situation) ??
    judgedDecision(experiment, situation.pairs ?? null) ??
    unhealthy(situation) ??
    worse(situation) ??
    nextStep(situation) ??
    standingProposal(situation) ??
    tooEarly(situation) ??
    heard(situation, winner(situation)) ??
    waiting(situation)
  );
}

/** A treatment is removed alone while others are left; with the last one the experiment ends. */
function takenOut(
  { experiment }: Situation,
  loss: { reason: 'guardrail' | 'worse'; metric: string; variant: string },
): ExperimentDecision {
  return { action: activeTreatments(experiment).length > 1 ? 'drop' : 'rollback', ...loss };
}

const activeGuardrails = ({ experiment, analysis }: Situation): GuardrailResult[] => {
  const active = activeTreatments(experiment);
  return analysis.guardrails.filter(({ variant }) => active.includes(variant));
};

function lostGuardrail(situation: Situation): ExperimentDecision | null {
  const lost = activeGuardrails(situation).filter(({ state }) => state === 'lost');
  const guardrail = lost.find(({ action }) => action === 'rollback') ?? lost[0];
  if (guardrail === undefined) return null;
  const { metric, variant } = guardrail;
  return guardrail.action === 'rollback'
    ? takenOut(situation, { reason: 'guardrail', metric, variant })
    : { action: 'hold', reason: 'guardrail', metric, variant };
}

function unhealthy({ analysis, startedAt, now }: Situation): ExperimentDecision | null {
  const { sampleRatio, units } = analysis;
  if (sampleRatio.state === 'alarm')
    return { action: 'hold', reason: 'sample_ratio', p_value: sampleRatio.pValue };
  return units === 0 && now - startedAt >= NO_TRAFFIC_MS ? { action: 'hold', reason: 'no_traffic' } : null;
}

/** By the deciding metric, of the remaining treatments, best first. */
function ranked({ experiment, analysis }: Pick<Situation, 'experiment' | 'analysis'>): Comparison[] {
  const active = activeTreatments(experiment);
  const first = experiment.metrics[0]?.key;
  return analysis.comparisons
    .filter(({ metric, variant }) => metric.key === first && active.includes(variant))
    .sort((a, b) => gain(b) - gain(a));
}

const gain = ({ metric, result }: Comparison): number =>
  result === null ? -Infinity : result.difference.estimate * (metric.better === 'up' ? 1 : -1);

/** Worse than control, and than the non-inferiority margin if that is lower. */
function isWorse({ verdict, metric: { better, at_least: least }, result }: Comparison): boolean {
  if (verdict !== 'worse' || least === undefined) return verdict === 'worse';
  if (result?.lift == null) return false;
  const { low, high } = result.lift.interval;
  return (better === 'up' ? high : -low) < least;
}

/** The worst of them goes first. */
function worse(situation: Situation): ExperimentDecision | null {
  const loser = ranked(situation).findLast(isWorse);
  return loser === undefined
    ? null
    : takenOut(situation, { reason: 'worse', metric: loser.metric.key, variant: loser.variant });
}

/** The ramp step after the current coverage; null when there is none, or it is not ramping. */
function stepAhead({ status, ramp, coverage }: Experiment): { coverage: number; last: boolean } | null {
  if (status !== 'ramping' || ramp === undefined) return null;
  const place = ramp.steps.findIndex((step) => step > coverage);
  const step = ramp.steps[place];
  return step === undefined ? null : { coverage: step, last: place === ramp.steps.length - 1 };
}

const heldUntil = ({ experiment: { ramp }, stepStartedAt }: Situation): number =>
  stepStartedAt + (ramp?.hold_minutes ?? 0) * MINUTE;

/** A guardrail without a verdict: no more users are added while failures cannot be seen. */
const silentGuardrail = (situation: Situation): GuardrailResult | undefined =>
  activeGuardrails(situation).find(({ state }) => state === 'too_few_units');

/** A lost tally (backups contain none) started over within the step. */
const unitsInStep = ({ analysis, stepUnits }: Situation): number =>
  analysis.units < stepUnits ? analysis.units : analysis.units - stepUnits;

/** Either the guardrails pass with certainty, or this step has had its units and none failed. */
function hasEvidence(situation: Situation): boolean {
  const guardrails = activeGuardrails(situation);
  const certain = guardrails.length > 0 && guardrails.every(({ inside }) => inside);
  return certain || unitsInStep(situation) >= (situation.experiment.ramp?.min_units ?? 0);
}

function nextStep(situation: Situation): ExperimentDecision | null {
  const step = stepAhead(situation.experiment);
  if (step === null || situation.now < heldUntil(situation)) return null;
  return silentGuardrail(situation) === undefined && hasEvidence(situation)
    ? { action: 'advance', ...step }
    : null;
}

function standingProposal({ proposal }: Situation): ExperimentDecision | null {
  return proposal === null ? null : { action: 'propose_winner', variant: proposal.variant };
}

function tooEarly({ experiment, analysis, startedAt, now }: Situation): ExperimentDecision | null {
  const needed = experiment.ramp?.min_units ?? MIN_UNITS;
  if (analysis.units < needed) return { action: 'wait', reason: 'units', units: analysis.units, needed };
  const until = startedAt + (experiment.min_days ?? 0) * DAY;
  const significant = ranked({ experiment, analysis }).some(isGood);
  return significant && now < until ? { action: 'wait', reason: 'days', until } : null;
}

const isGood = ({ verdict }: Comparison): boolean => verdict === 'better' || verdict === 'not_worse';

/** A treatment that is better than control, or good enough, the best by its estimate. */
function winner(situation: Situation): ExperimentDecision | null {
  const best = ranked(situation).find(isGood);
  return best === undefined ? null : { action: 'propose_winner', variant: best.variant };
}

/** A winner with an unnoticed health problem is not proposed. */
const heard = (
  { health = [] }: Pick<Situation, 'health'>,
  found: ExperimentDecision | null,
): ExperimentDecision | null =>
  found === null || health.length === 0 ? found : { action: 'hold', reason: 'health' };

function waiting(situation: Situation): ExperimentDecision {
  if (stepAhead(situation.experiment) === null) return { action: 'wait', reason: 'not_significant' };
  const until = heldUntil(situation);
  if (situation.now < until) return { action: 'wait', reason: 'hold_time', until };
  const silent = silentGuardrail(situation);
  return silent !== undefined
    ? { action: 'wait', reason: 'no_values', metric: silent.metric, variant: silent.variant }
    : {
        action: 'wait',
        reason: 'units_in_step',
        units: unitsInStep(situation),
        needed: situation.experiment.ramp?.min_units ?? 0,
      };
}

/**
 * If nobody is in the experiment (coverage 0), its pairs decide: nothing else does, so that no data is used
 * twice for one decision. With users in it the first metric decides, and pairs are only shown.
 * @returns null if pairs do not decide, or there is none yet.
 */
function judgedDecision(
  { coverage, judge, variants }: Experiment,
  pairs: ExperimentPairs | null,
): { action: 'propose_winner'; variant: string } | { action: 'wait'; reason: 'pairs' } | null {
  if (judge === undefined || coverage > 0 || pairs === null) return null;
  if (pairs.verdict === 'better') return { action: 'propose_winner', variant: pairs.variant };
  const [control, ...treatments] = variants;
  if (pairs.verdict === 'worse' && treatments.length === 1 && control !== undefined)
    return { action: 'propose_winner', variant: control.key };
  return pairs.wins + pairs.ties + pairs.losses > 0 ? { action: 'wait', reason: 'pairs' } : null;
}

/** A rate over less than this time is meaningless, ms. */
const SHORTEST = 10 * 60_000;

/** Level of one comparison. */
export const alphaOf = ({ variants }: Pick<Experiment, 'variants'>): number =>
  ALPHA / Math.max(1, variants.length - 1);

/**
 * @param params.share of units with a value. @param params.unitsADay in both arms; null = unknown.
 * @param params.unitsNow existing units. @param params.leastUnits, params.leastDays before any proposal.
 */
export function findings(params: {
  baseline: Baseline;
  better: 'up' | 'down';
  weights: ArmWeights;
  alpha: number;
  share: number;
  unitsADay: number | null;
  unitsNow: number;
  leastDays: number;
}): ExperimentFinding[] {
  const { baseline, better, weights, alpha, share, unitsADay, unitsNow, leastDays } = params;
  return PLANNED_LIFTS.map((lift) => {
    const signed = better === 'up' ? lift : -lift;
    const values =
      share > 0 ? unitsToFind({ baseline, weights, lift: signed, alpha, least: MIN_VALUES }) : null;
    if (values === null) return { lift, units: null, days: null };
    const units = Math.max(0, Math.max(MIN_UNITS, Math.ceil(values / share)) - unitsNow);
    const days = unitsADay === null || unitsADay <= 0 ? null : Math.max(leastDays, units / unitsADay);
    return { lift, units, days };
  });
}

/** Progress of a live experiment; null before there is a value, and if nothing varies. */
export function progressOf(params: {
  experiment: Experiment;
  tallies: Tallies;
  startedAt: number;
  now: number;
}): ExperimentProgress | null {
  const { experiment, tallies, startedAt, now } = params;
  const metric = experiment.metrics[0]!;
  const control = experiment.variants[0]!.key;
  const moments = (variant: string) => tallies.metrics[metric.key]?.[variant] ?? NO_MOMENTS;
  const [variant] = activeTreatments(experiment).sort((a, b) => moments(a).n - moments(b).n);
  if (variant === undefined || Math.min(moments(control).n, moments(variant).n) === 0) return null;
  const arm = armOf(moments(control), metric.kind);
  const values: ArmWeights = { control: arm.n, treatment: moments(variant).n };
  const unitsNow = (tallies.units[control] ?? 0) + (tallies.units[variant] ?? 0);
  if (arm.variance <= 0 || unitsNow === 0) return null;
  const baseline: Baseline = { kind: metric.kind, mean: arm.mean, variance: arm.variance };
  const alpha = alphaOf(experiment);
  const ranMs = now - startedAt;
  const unitsADay = ranMs < SHORTEST ? null : (unitsNow * DAY) / ranMs;
  const found =
    Math.min(values.control, values.treatment) < MIN_VALUES
      ? null
      : liftToFind({ baseline, units: values, alpha, better: metric.better });
  return {
    variant,
    lift_now: found === null ? null : Math.abs(found),
    units_per_day: unitsADay,
    finds: findings({
      ...{ baseline, better: metric.better, weights: values, alpha, unitsADay, unitsNow },
      share: Math.min(1, (values.control + values.treatment) / unitsNow),
      leastDays: Math.max(0, (experiment.min_days ?? 0) - ranMs / DAY),
    }),
  };
}
