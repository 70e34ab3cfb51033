/** An A/B test of adapters as it is stored and as the admin API takes it; docs/experiments.md explains the fields. */
import { z } from 'zod';
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
  DEFAULT_JUDGE_TOKENS,
  MAX_JUDGE_TOKENS,
  MAX_KEPT_PAIRS,
} from './limits.ts';
import { AdapterName, PinnedAdapter } from './identity.ts';

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

/** The base without an adapter, as a judge. */
export const BASE_JUDGE = 'base';

/** Either `model` or `url`. */
export const ExperimentJudge = z
  .strictObject({
    /** `name@version`, or `base`: asked in both orders; where they disagree it is a tie. */
    model: z.union([z.literal(BASE_JUDGE), PinnedAdapter]).optional(),
    /** The application: gets prompt and answers by a signed POST, and says which is better. */
    url: z
      .url({ protocol: /^https?$/ })
      .max(1_000)
      .optional(),
    /** What judge and shadow together may use on one day (UTC), tokens. */
    tokens_per_day: z.int().positive().max(MAX_JUDGE_TOKENS).default(DEFAULT_JUDGE_TOKENS),
    /** The last ones are kept for their owner to read, for 30 days at most; 0 = none. */
    keep_pairs: z.int().min(0).max(MAX_KEPT_PAIRS).default(0),
  })
  .refine(({ model, url }) => (model === undefined) !== (url === undefined), 'needs either model or url');
export type ExperimentJudge = z.infer<typeof ExperimentJudge>;

/** Why a pair that was begun came to nothing. */
export const PAIR_FAILURES = [
  /** The challenger did not answer. */
  'challenger',
  /** The user's answer broke off, was left, or lasted too long. */
  'answer',
  /** What was asked, or answered, is too long, or not one text. */
  'form',
  /** The judge could not be asked, or took too long. */
  'judge',
  /** It said something else than which one is better. */
  'unclear',
] as const;
export type PairFailure = (typeof PAIR_FAILURES)[number];

/** The same in the words of every client. */
export const PAIR_FAILURE_WORDS: Readonly<Record<PairFailure, string>> = {
  challenger: 'the challenger did not answer',
  answer: 'the answer broke off, was left, or took too long',
  form: 'too long, or not one text to one answer',
  judge: 'the judge did not answer',
  unclear: 'the judge said something else',
};

const Count = z.int().min(0);
const Rate = z.number().min(0).max(1);

/** Judged pairs at one look. Wins are the treatment's. */
export const ExperimentPairs = z.object({
  /** Key of the variant whose answers are compared with control's. */
  variant: z.string(),
  wins: Count,
  ties: Count,
  losses: Count,
  /** Of the ties: the same to the letter, so that nobody was asked. */
  same: Count,
  /** Ties are half a win; the interval holds at every look. null before anybody won. */
  win_rate: z.object({ estimate: Rate, low: Rate, high: Rate }).nullable(),
  p_value: z.number(),
  verdict: z.enum(['better', 'worse', 'open']),
  /** Share of all choices of one answer that were for the one shown first; null = there was no choice. */
  first_chosen: Rate.nullable(),
  /** Share of the pairs in which a model judge said the same in both orders; null = nobody was asked twice. */
  agreement: Rate.nullable(),
  failures: z.partialRecord(z.enum(PAIR_FAILURES), Count),
  /** Of judge and shadow, today (UTC), tokens. */
  tokens_today: Count,
});
export type ExperimentPairs = z.infer<typeof ExperimentPairs>;

/** One of the last pairs, as its owner reads it. */
export const KeptPair = z.object({
  /** Unix ms. */
  at: z.int(),
  prompt: z.array(z.object({ role: z.string(), content: z.string() })),
  control: z.string(),
  treatment: z.string(),
  result: z.enum(['win', 'tie', 'loss']),
  /** Texts are cut at so many characters. */
  cut: z.boolean(),
});
export type KeptPair = z.infer<typeof KeptPair>;

/** `GET /admin/experiments/<id>/pairs`: the newest first. */
export const KeptPairList = z.object({ pairs: z.array(KeptPair) }).meta({ id: 'KeptPairList' });
export type KeptPairList = z.infer<typeof KeptPairList>;

/** `GET /admin/experiments/<id>/judge-secret`: what the application checks the judge's calls with. */
export const JudgeSecret = z
  .object({
    /** `whsec_` and base64, as Standard Webhooks has it. Another URL has another one. */
    secret: z.string(),
  })
  .meta({ id: 'JudgeSecret' });
export type JudgeSecret = z.infer<typeof JudgeSecret>;

/** How values are spread; decides nothing. */
export const ExperimentSpread = z.object({
  /** Single values, one an answer or a rating, that the percentiles are of. */
  values: z.int().min(0),
  /** Of the units, each the mean over its own values, as everywhere. */
  mean: z.number(),
  /** Half of the values are at most this; to 2 % of it. */
  p50: z.number(),
  /** 95 of a hundred are at most this; to 2 % of it. */
  p95: z.number(),
});
export type ExperimentSpread = z.infer<typeof ExperimentSpread>;

/** Credentials are nobody's to tell results by. */
const SECRET = ['authorization', 'cookie', 'proxy-authorization'];

/** `tenant`, `name` (what is below the experiment's), or a request header. */
export const SegmentBy = z
  .string()
  .regex(/^(tenant|name|header:[a-z0-9-]{1,64})$/, 'must be tenant, name, or header:<name in lower case>')
  .refine((text) => !SECRET.some((name) => text === `header:${name}`), 'must not be a credential');

/** Results by one declared dimension; they decide nothing. */
export const ExperimentSegments = z.object({
  by: z.string(),
  /** Those with the most units first, 20 at most, and what is left. */
  rows: z.array(
    z.object({
      /** null: the request says nothing; of `name`: the experiment's own; see `other`. */
      segment: z.string().nullable(),
      /** All further ones together. */
      other: z.boolean().optional(),
      /** By variant's key. */
      units: z.record(z.string(), z.int().min(0)),
      /** Of the document's metrics, by key, by variant's key; not capped. */
      means: z.record(z.string(), z.record(z.string(), z.object({ n: z.int().min(0), mean: z.number() }))),
      /**
       * By treatment's key: over control, of the metric that decides, with intervals that are wrong anywhere in the
       * table in at most 5 % of experiments. null: with fewer than 50 values in an arm, or while control may be 0.
       */
      lifts: z.record(
        z.string(),
        z.object({ low: z.number(), estimate: z.number(), high: z.number() }).nullable(),
      ),
    }),
  ),
});
export type ExperimentSegments = z.infer<typeof ExperimentSegments>;

/** @returns what a row is called where people read it. */
export function segmentWords(
  by: string,
  { segment, other }: { segment: string | null; other?: boolean | undefined },
): string {
  if (other === true) return 'all others';
  return segment ?? (by === 'name' ? 'the name itself' : 'none given');
}

const Share = z.number().min(0).max(1);
/** Text that buckets are made from. Seeds of namespaces and holdouts begin with two underscores. */
const Seed = z
  .string()
  .min(1)
  .max(MAX_UNIT_CHARACTERS)
  .refine((text) => !text.startsWith('__'), 'must not begin with "__"');

export const ExperimentVariant = z.strictObject({
  key: ExperimentKey,
  adapter: PinnedAdapter,
  weight: z.number().min(MIN_VARIANT_WEIGHT).max(1),
});
export type ExperimentVariant = z.infer<typeof ExperimentVariant>;

export const ExperimentMetric = z.strictObject({
  key: ExperimentKey,
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
  dropped: z.array(ExperimentKey).max(MAX_VARIANTS).optional(),
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
    .array(z.strictObject({ unit: z.string().min(1).max(MAX_UNIT_CHARACTERS), variant: ExperimentKey }))
    .max(MAX_EXPERIMENT_LIST)
    .default([]),
  targeting: ExperimentTargeting.optional(),
  /** The kill switch: everybody gets the name's live version, testers too. */
  killed: z.boolean().default(false),
  /** Of a decided experiment: the variant that was made the name's version; null when none was. */
  winner: ExperimentKey.nullable().default(null),
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
}).meta({ id: 'Experiment' });
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
