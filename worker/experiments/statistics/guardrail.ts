import { guardrailLimits, type ExperimentGuardrail, type GuardrailLimit } from '../../../protocol/index.ts';
import { contrast } from './effect.ts';
import { armOf, cautiousProportion, type Arm, type MetricKind, type Moments } from './moments.ts';
import { cautiousLevel, sequentialLowerBound } from './sequential.ts';

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
