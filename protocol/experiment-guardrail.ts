/** How much worse than control's a metric may get before somebody does something about it. */
import { z } from 'zod';

/** What variants and metrics are called. */
export const ExperimentKey = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be a-z, 0-9, "_" or "-", at most 32, a letter first');

const Limit = z.number().min(0).optional();
/** By how much less control's mean can be at most: all of it. */
const LimitOfLess = z.number().min(0).max(1).optional();

/** A metric may not get more than this much worse than control's. Any limit that is passed is enough to lose. */
export const ExperimentGuardrail = z
  .strictObject({
    metric: ExperimentKey,
    /** 0.5 = half as much again. */
    max_relative_increase: Limit,
    /** In the metric's own unit. */
    max_absolute_increase: Limit,
    /** Where less is worse: 0.1 = a tenth less. */
    max_relative_decrease: LimitOfLess,
    max_absolute_decrease: Limit,
    /** `rollback`: the variant is taken out by itself; `hold`: nothing goes on before a person has looked. */
    action: z.enum(['rollback', 'hold']),
  })
  .refine(
    (rail) => guardrailLimits(rail).length > 0,
    'needs max_relative_increase or max_absolute_increase, or, where less is worse, max_relative_decrease or max_absolute_decrease',
  );
export type ExperimentGuardrail = z.infer<typeof ExperimentGuardrail>;

export interface GuardrailLimit {
  /** `relative`: a share of control's mean; `absolute`: in the metric's unit. */
  limit: 'relative' | 'absolute';
  direction: 'increase' | 'decrease';
  allowed: number;
}

/** The limits that it has, in the order in which they are asked. */
export function guardrailLimits(rail: {
  max_relative_increase?: number | undefined;
  max_absolute_increase?: number | undefined;
  max_relative_decrease?: number | undefined;
  max_absolute_decrease?: number | undefined;
}): readonly GuardrailLimit[] {
  const of = (
    limit: GuardrailLimit['limit'],
    direction: GuardrailLimit['direction'],
    allowed: number | undefined,
  ): GuardrailLimit[] => (allowed === undefined ? [] : [{ limit, direction, allowed }]);
  return [
    ...of('absolute', 'increase', rail.max_absolute_increase),
    ...of('relative', 'increase', rail.max_relative_increase),
    ...of('absolute', 'decrease', rail.max_absolute_decrease),
    ...of('relative', 'decrease', rail.max_relative_decrease),
  ];
}

/**
 * What an experiment is guarded by unless its document says otherwise; `[]` is nothing. That answers fail and that users
 * hang up is harm without doubt. A slower first token may be what a better answer costs: a person decides.
 */
export const DEFAULT_GUARDRAILS: readonly ExperimentGuardrail[] = [
  { metric: 'error_rate', max_relative_increase: 0.5, max_absolute_increase: 0.02, action: 'rollback' },
  { metric: 'left_rate', max_relative_increase: 0.5, max_absolute_increase: 0.05, action: 'rollback' },
  { metric: 'ttft_ms', max_relative_increase: 0.5, action: 'hold' },
];

/**
 * What is wrong with a guardrail of a metric of which `better` is better; null = nothing. A limit on what is an
 * improvement would roll back the better variant.
 */
export function guardrailContradiction(rail: ExperimentGuardrail, better: 'up' | 'down'): string | null {
  const wrong = better === 'up' ? 'increase' : 'decrease';
  const found = guardrailLimits(rail).find(({ direction }) => direction === wrong);
  if (found === undefined) return null;
  const [is, instead] = better === 'up' ? ['more', 'decrease'] : ['less', 'increase'];
  return `of "${rail.metric}" ${is} is better: give max_${found.limit}_${instead} in the place of max_${found.limit}_${wrong}`;
}
