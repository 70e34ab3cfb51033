import type { ExperimentGuardrail } from '../../../protocol/index.ts';
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
  /** Means of the units. */
  control: number;
  treatment: number;
  /** The limit that was lost, and how much it allows. */
  lost: { limit: 'relative' | 'absolute'; allowed: number } | null;
}

/**
 * A guardrail is lost when the increase over control is beyond a limit with certainty: treatment less what the limit
 * allows is above control by its one-sided sequential bound. An estimate beyond the limit is not enough.
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
    lost: null,
  };
  if (Math.min(control.n, treatment.n) < GUARDRAIL_MIN_UNITS) return { ...result, state: 'too_few_units' };
  const arm = (moments: Moments): Arm =>
    kind === 'proportion' ? cautiousProportion(moments) : armOf(moments, kind);
  const [a, b] = [arm(control), arm(treatment)];
  if (a.variance === 0 && b.variance === 0) return { ...result, state: 'unknown' };
  const { max_absolute_increase: absolute, max_relative_increase: relative } = rail;
  if (absolute !== undefined && leastExcess(a, b, 1) > absolute)
    return { ...result, state: 'lost', lost: { limit: 'absolute', allowed: absolute } };
  // A share of a negative mean is less of it.
  if (relative !== undefined && leastExcess(a, b, 1 + Math.sign(a.mean) * relative) > 0)
    return { ...result, state: 'lost', lost: { limit: 'relative', allowed: relative } };
  return { ...result, state: 'kept' };
}

const leastExcess = (control: Arm, treatment: Arm, factor: number): number =>
  sequentialLowerBound(
    contrast(control, treatment, factor),
    cautiousLevel(GUARDRAIL_ALPHA),
    GUARDRAIL_TUNING_UNITS,
  );
