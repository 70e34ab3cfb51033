import type { Experiment, ExperimentHealth } from '../../protocol/index.ts';
import type { Analysis, Comparison } from './analyze.ts';
import type { GuardrailResult } from './statistics/guardrail.ts';

const MINUTE = 60_000;
/** Units, in all variants, before a winner is proposed when the ramp does not say how many. */
export const MIN_UNITS = 200;
/** An experiment that has had no unit for this long since its beginning does not reach its users. */
export const NO_TRAFFIC_MS = 60 * MINUTE;

/** What an evaluation comes to. Whoever evaluates carries it out and writes it down. */
export type Decision =
  /** Everybody gets the name's live version again. */
  | { action: 'rollback'; guardrail: GuardrailResult }
  /** Coverage stays; a person should look. */
  | { action: 'hold'; reason: 'guardrail'; guardrail: GuardrailResult }
  | { action: 'hold'; reason: 'sample_ratio'; pValue: number }
  | { action: 'hold'; reason: 'no_traffic' | 'health' }
  | { action: 'wait'; reason: 'not_running' | 'killed' | 'not_significant' }
  | { action: 'wait'; reason: 'units'; units: number; needed: number }
  | { action: 'wait'; reason: 'hold_time'; untilMs: number }
  /** `last`: the ramp ends with this step, and the experiment runs on. */
  | { action: 'advance'; coverage: number; last: boolean }
  /** `comparison`: what speaks for it; for control, the treatment that is the least worse. */
  | { action: 'propose_winner'; variant: string; comparison: Comparison };

/** Pure: the same state at the same time gives the same decision. The first of these that applies is it. */
export function decide(params: {
  experiment: Experiment;
  analysis: Analysis;
  /** What the experiment lacks; none unless given. */
  health?: readonly ExperimentHealth[];
  /** When the present seed went live, unix ms. */
  startedAt: number;
  /** When the present coverage was set, unix ms. */
  stepStartedAt: number;
  now: number;
}): Decision {
  const { experiment, analysis, now } = params;
  if (experiment.status !== 'running' && experiment.status !== 'ramping')
    return { action: 'wait', reason: 'not_running' };
  if (experiment.killed) return { action: 'wait', reason: 'killed' };
  return (
    lostGuardrail(analysis) ??
    unhealthy(analysis, now - params.startedAt) ??
    tooFewUnits(experiment, analysis) ??
    nextStep(experiment, params.stepStartedAt, now) ??
    heard(winner(experiment, analysis), params.health ?? []) ??
    waiting(experiment, params.stepStartedAt)
  );
}

function lostGuardrail({ guardrails }: Analysis): Decision | null {
  const lost = guardrails.filter(({ state }) => state === 'lost');
  const guardrail = lost.find(({ action }) => action === 'rollback') ?? lost[0];
  if (guardrail === undefined) return null;
  return guardrail.action === 'rollback'
    ? { action: 'rollback', guardrail }
    : { action: 'hold', reason: 'guardrail', guardrail };
}

function unhealthy({ sampleRatio, units }: Analysis, aliveMs: number): Decision | null {
  if (sampleRatio.state === 'alarm')
    return { action: 'hold', reason: 'sample_ratio', pValue: sampleRatio.pValue };
  return units === 0 && aliveMs >= NO_TRAFFIC_MS ? { action: 'hold', reason: 'no_traffic' } : null;
}

function tooFewUnits({ ramp }: Experiment, { units }: Analysis): Decision | null {
  const needed = ramp?.min_units ?? MIN_UNITS;
  return units < needed ? { action: 'wait', reason: 'units', units, needed } : null;
}

/** The step of the ramp that comes after the present coverage; null when there is none, or it is not ramping. */
function stepAhead({ status, ramp, coverage }: Experiment): { coverage: number; last: boolean } | null {
  if (status !== 'ramping' || ramp === undefined) return null;
  const place = ramp.steps.findIndex((step) => step > coverage);
  const step = ramp.steps[place];
  return step === undefined ? null : { coverage: step, last: place === ramp.steps.length - 1 };
}

const heldUntil = ({ ramp }: Experiment, stepStartedAt: number): number =>
  stepStartedAt + (ramp?.hold_minutes ?? 0) * MINUTE;

function nextStep(experiment: Experiment, stepStartedAt: number, now: number): Decision | null {
  const step = stepAhead(experiment);
  return step === null || now < heldUntil(experiment, stepStartedAt) ? null : { action: 'advance', ...step };
}

/** A treatment that is better than control, the best by its estimate; control when all of them are worse. */
function winner({ variants, metrics }: Experiment, { comparisons }: Analysis): Decision | null {
  const [control] = variants;
  const ranked = comparisons
    .filter(({ metric }) => metric.key === metrics[0]?.key)
    .sort((a, b) => gain(b) - gain(a));
  const best = ranked.find(({ verdict }) => verdict === 'better');
  if (best !== undefined) return { action: 'propose_winner', variant: best.variant, comparison: best };
  const [nearest] = ranked;
  if (control === undefined || nearest === undefined || ranked.some(({ verdict }) => verdict !== 'worse'))
    return null;
  return { action: 'propose_winner', variant: control.key, comparison: nearest };
}

/** A winner of which something is lacking that nobody has said is none to be proposed. */
const heard = (found: Decision | null, health: readonly ExperimentHealth[]): Decision | null =>
  found === null || health.length === 0 ? found : { action: 'hold', reason: 'health' };

const gain = ({ metric, result }: Comparison): number =>
  result === null ? -Infinity : result.difference.estimate * (metric.better === 'up' ? 1 : -1);

function waiting(experiment: Experiment, stepStartedAt: number): Decision {
  return stepAhead(experiment) === null
    ? { action: 'wait', reason: 'not_significant' }
    : { action: 'wait', reason: 'hold_time', untilMs: heldUntil(experiment, stepStartedAt) };
}
