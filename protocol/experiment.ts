/** An A/B test of adapters as it is stored and as the admin API takes it; docs/experiments.md explains the fields. */
import { z } from 'zod';
import { ExperimentGuardrail, ExperimentKey as Key, guardrailContradiction } from './experiment-guardrail.ts';
import {
  MAX_EXPERIMENT_LIST,
  MAX_EXPERIMENT_METRICS,
  MAX_HOLD_MINUTES,
  MAX_MIN_DAYS,
  MAX_RAMP_STEPS,
  MAX_UNIT_CHARACTERS,
  MAX_VARIANTS,
  MIN_VARIANT_WEIGHT,
  WEIGHT_TOLERANCE,
} from './limits.ts';
import { BASE_JUDGE, ExperimentJudge } from './experiment-judge.ts';
import { SegmentBy } from './experiment-breakdown.ts';
import { AdapterName, PinnedAdapter } from './identity.ts';

const Share = z.number().min(0).max(1);
/** Text that buckets are made from. Seeds of namespaces and holdouts begin with two underscores. */
const Seed = z
  .string()
  .min(1)
  .max(MAX_UNIT_CHARACTERS)
  .refine((text) => !text.startsWith('__'), 'must not begin with "__"');

export const ExperimentVariant = z.strictObject({
  key: Key,
  adapter: PinnedAdapter,
  weight: z.number().min(MIN_VARIANT_WEIGHT).max(1),
});
export type ExperimentVariant = z.infer<typeof ExperimentVariant>;

export const ExperimentMetric = z.strictObject({
  key: Key,
  /** `proportion`: a unit's value is between 0 and 1; `mean`: any number. */
  kind: z.enum(['proportion', 'mean']),
  better: z.enum(['up', 'down']),
  /** Non-inferiority: a treatment is good enough when its lift, the way that is better, is above this; -0.02 = -2 %. */
  at_least: z.number().gt(-1).lt(0).optional(),
  /** Of a `mean`: units' values above control's 99th percentile count as that, so that a few cannot decide. */
  cap: z.literal('p99').optional(),
});
export type ExperimentMetric = z.infer<typeof ExperimentMetric>;

/** Metrics that the edge records by itself, each the mean over a unit's requests. */
export const AUTOMATIC_METRICS: readonly ExperimentMetric[] = [
  { key: 'ttft_ms', kind: 'mean', better: 'down' },
  { key: 'latency_ms', kind: 'mean', better: 'down' },
  { key: 'output_tokens', kind: 'mean', better: 'down' },
  { key: 'error_rate', kind: 'proportion', better: 'down' },
  /** Answers that their client left before the end, and streams that stalled. */
  { key: 'left_rate', kind: 'proportion', better: 'down' },
  /** Answers that ended because they were too long. */
  { key: 'length_rate', kind: 'proportion', better: 'down' },
  { key: 'cost', kind: 'mean', better: 'down' },
];

/** Metrics of a shadow's requests, each by itself; nobody can leave it, and `disagreement` is 0 or 1. */
export const SHADOW_METRICS: readonly ExperimentMetric[] = [
  ...AUTOMATIC_METRICS.filter(({ key }) => key !== 'left_rate'),
  { key: 'disagreement', kind: 'proportion', better: 'down' },
];

/** Coverage grows step by step, each held for a time and until enough units have been seen. */
export const ExperimentRamp = z.strictObject({
  steps: z
    .array(z.number().gt(0).max(1))
    .min(1)
    .max(MAX_RAMP_STEPS)
    .refine((steps) => steps.every((step, i) => i === 0 || step > steps[i - 1]!), 'must grow'),
  hold_minutes: z.int().min(0).max(MAX_HOLD_MINUTES),
  /**
   * Units in all variants together: new ones of a step, before the next is taken although guardrails are not certain to
   * be kept; and since the seed's beginning, before a winner is proposed.
   */
  min_units: z.int().min(0),
});
export type ExperimentRamp = z.infer<typeof ExperimentRamp>;

/** Who may be in the experiment at all; everything that is given must hold. */
export const ExperimentTargeting = z.strictObject({
  tenants: z.array(z.string().min(1)).min(1).max(MAX_EXPERIMENT_LIST).optional(),
  /** The name that was asked for: this name and all below it. */
  name_prefix: AdapterName.optional(),
  headers: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[a-z0-9-]{1,64}$/, 'must be a header name in lower case'),
        values: z.array(z.string().max(256)).min(1).max(MAX_EXPERIMENT_LIST),
      }),
    )
    .min(1)
    .max(8)
    .optional(),
});
export type ExperimentTargeting = z.infer<typeof ExperimentTargeting>;

export const EXPERIMENT_STATUSES = ['draft', 'running', 'ramping', 'decided', 'archived'] as const;
export type ExperimentStatus = (typeof EXPERIMENT_STATUSES)[number];

/** The document's fields, each checked for itself; {@link Experiment} checks them together. */
export const ExperimentShape = z.strictObject({
  /** The name that applications call. */
  name: AdapterName,
  /** Grows by one with every change of this document. */
  version: z.int().positive(),
  status: z.enum(EXPERIMENT_STATUSES),
  /** Who gets what depends on this and the unit; a new one deals anew, and results begin at nothing. */
  seed: Seed,
  /** `user`: the end user that the request names, else the API key; `key`: always the API key. */
  unit: z.enum(['user', 'key']),
  /** The first is control. */
  variants: z.array(ExperimentVariant).min(2).max(MAX_VARIANTS),
  /** Share of the units that are in the experiment; the others get the name's live version. */
  coverage: Share,
  shadow: z
    .strictObject({
      adapter: PinnedAdapter,
      sample: Share,
      /** Records `disagreement` with the answer that was sent, where chance has no part in it. */
      compare: z.boolean().optional(),
    })
    .optional(),
  /** Days from its start before which no winner is proposed: a weekend is not like a week. */
  min_days: z.int().min(0).max(MAX_MIN_DAYS).optional(),
  /** Treatments that were taken out: their units get the name's live version, and are not counted any more. */
  dropped: z.array(Key).max(MAX_VARIANTS).optional(),
  /** Where it is told that a winner is proposed, a variant was taken out, or something is wrong. */
  webhook: z
    .url({ protocol: /^https?$/ })
    .max(1_000)
    .optional(),
  /** What results are told by besides; it decides nothing. */
  segment_by: SegmentBy.optional(),
  /** Compares control's answers with the shadow's, one request at a time; the shadow is one of the variants then. */
  judge: ExperimentJudge.optional(),
  /** The first one decides. */
  metrics: z.array(ExperimentMetric).min(1).max(MAX_EXPERIMENT_METRICS),
  guardrails: z.array(ExperimentGuardrail).max(MAX_EXPERIMENT_METRICS).default([]),
  ramp: ExperimentRamp.optional(),
  /** Experiments in one namespace with ranges that do not overlap never share a unit. */
  namespace: z
    .strictObject({ name: Seed, range: z.tuple([Share, Share]) })
    .refine(({ range: [from, to] }) => from < to, 'the range must not be empty')
    .optional(),
  /** Units that are in none of the experiments that name this holdout. */
  holdout: z.strictObject({ name: Seed, share: Share }).optional(),
  /** Testers: they get this variant, whatever targeting and coverage say, and are not counted. */
  overrides: z
    .array(z.strictObject({ unit: z.string().min(1).max(MAX_UNIT_CHARACTERS), variant: Key }))
    .max(MAX_EXPERIMENT_LIST)
    .default([]),
  targeting: ExperimentTargeting.optional(),
  /** The kill switch: everybody gets the name's live version, testers too. */
  killed: z.boolean().default(false),
  /** Of a decided experiment: the variant that was made the name's version; null when none was. */
  winner: Key.nullable().default(null),
});

const firstRepeated = (words: readonly string[]): number =>
  words.findIndex((word, i) => words.indexOf(word) !== i);

export const Experiment = ExperimentShape.superRefine((experiment, context) => {
  const issue = (path: (string | number)[], message: string): void =>
    context.addIssue({ code: 'custom', path, message });
  const keys = experiment.variants.map(({ key }) => key);
  const sum = experiment.variants.reduce((total, { weight }) => total + weight, 0);
  if (Math.abs(sum - 1) > WEIGHT_TOLERANCE)
    issue(['variants'], `the weights must sum to 1, these sum to ${Number(sum.toPrecision(6))}`);
  const twice = firstRepeated(keys);
  if (twice >= 0) issue(['variants', twice, 'key'], 'another variant has this key');
  const metrics = experiment.metrics.map(({ key }) => key);
  const metricTwice = firstRepeated(metrics);
  if (metricTwice >= 0) issue(['metrics', metricTwice, 'key'], 'another metric has this key');
  for (const [i, metric] of experiment.metrics.entries()) {
    const known = AUTOMATIC_METRICS.find(({ key }) => key === metric.key);
    if (known !== undefined && known.kind !== metric.kind)
      issue(['metrics', i, 'kind'], `"${metric.key}" is recorded by the edge as a ${known.kind}`);
    if (metric.cap !== undefined && metric.kind !== 'mean')
      issue(['metrics', i, 'cap'], 'a proportion lies between 0 and 1: only a mean can be capped');
  }
  for (const [i, { metric }] of experiment.guardrails.entries())
    if (!metrics.includes(metric) && !AUTOMATIC_METRICS.some(({ key }) => key === metric))
      issue(
        ['guardrails', i, 'metric'],
        `"${metric}" is neither in metrics nor one of ${AUTOMATIC_METRICS.map(({ key }) => key).join(', ')}`,
      );
  for (const [i, { variant }] of experiment.overrides.entries())
    if (!keys.includes(variant)) issue(['overrides', i, 'variant'], 'there is no such variant');
  const dropped = experiment.dropped ?? [];
  for (const [i, key] of dropped.entries())
    if (!keys.slice(1).includes(key) || dropped.indexOf(key) !== i)
      issue(['dropped', i], 'must be a treatment, and once');
  if (dropped.length > 0 && dropped.length >= keys.length - 1)
    issue(['dropped'], 'must leave one treatment; stop the experiment instead');
  const testerTwice = firstRepeated(experiment.overrides.map(({ unit }) => unit));
  if (testerTwice >= 0) issue(['overrides', testerTwice, 'unit'], 'another override has this unit');
  if (experiment.judge !== undefined) {
    const { judge, shadow, variants } = experiment;
    if (shadow === undefined)
      issue(['judge'], 'needs a shadow, whose answers are compared with those of control');
    else if (variants.findIndex(({ adapter }) => adapter === shadow.adapter) < 1)
      issue(['shadow', 'adapter'], 'must be that of a treatment, so that a judge can say which variant wins');
    if (judge.model !== undefined && experiment.variants.some(({ adapter }) => adapter === judge.model))
      issue(['judge', 'model'], 'is one of those that are judged');
  }
  if (experiment.status === 'ramping' && experiment.ramp === undefined)
    issue(['ramp'], 'an experiment that is ramping needs its ramp');
  if (experiment.winner !== null && !keys.includes(experiment.winner))
    issue(['winner'], 'there is no such variant');
  if (experiment.winner !== null && experiment.status !== 'decided' && experiment.status !== 'archived')
    issue(['winner'], 'only a decided experiment has a winner');
});
export type Experiment = z.infer<typeof Experiment>;

/** The metric of this key, with the direction that the experiment gives it. Parsed documents have all they name. */
export function metricOf(experiment: Pick<Experiment, 'metrics'>, key: string): ExperimentMetric | undefined {
  return (
    experiment.metrics.find((metric) => metric.key === key) ??
    AUTOMATIC_METRICS.find((metric) => metric.key === key)
  );
}

/**
 * The first guardrail that stands against the direction of its metric; null = none. Asked when a document is made or
 * changed: one that was stored before this was asked stays readable.
 */
export function contradictedGuardrail(
  experiment: Pick<Experiment, 'metrics' | 'guardrails'>,
): { index: number; message: string } | null {
  for (const [index, rail] of experiment.guardrails.entries()) {
    const better = metricOf(experiment, rail.metric)?.better;
    const message = better === undefined ? null : guardrailContradiction(rail, better);
    if (message !== null) return { index, message };
  }
  return null;
}

/** Treatments that are still compared with control. */
export const activeTreatments = ({
  variants,
  dropped = [],
}: Pick<Experiment, 'variants' | 'dropped'>): string[] =>
  variants
    .slice(1)
    .map(({ key }) => key)
    .filter((key) => !dropped.includes(key));

/** Live: requests take part in it. */
export const isLive = ({ status }: Pick<Experiment, 'status'>): boolean =>
  status === 'running' || status === 'ramping';

/** All adapters that it names: its variants', its shadow's, its judge's. */
export const adaptersOf = ({
  variants,
  shadow,
  judge,
}: Pick<Experiment, 'variants' | 'shadow'> & {
  judge?: { model?: string | undefined } | undefined;
}): string[] => [
  ...variants.map(({ adapter }) => adapter),
  ...(shadow === undefined ? [] : [shadow.adapter]),
  ...(judge?.model === undefined || judge.model === BASE_JUDGE ? [] : [judge.model]),
];
