/** An A/B test of adapters as it is stored and as the admin API takes it; docs/guides/ab-test.md explains the fields. */
import { z } from 'zod';
import { ClassLabel } from './classes.ts';
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

/** Syntax of variant and metric keys. */
export const ExperimentKey = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be 1 to 32 of a-z, 0-9, "_" or "-", starting with a letter');

const Limit = z.number().min(0).optional();
/** A mean can fall by at most all of control's. */
const LimitOfLess = z.number().min(0).max(1).optional();

/** How much worse than control a metric may get. Exceeding any limit fails the guardrail. */
export const ExperimentGuardrail = z
  .strictObject({
    metric: ExperimentKey,
    /** 0.5 = 50 % more. */
    max_relative_increase: Limit,
    /** In the metric's own unit. */
    max_absolute_increase: Limit,
    /** If higher is better: 0.1 = a tenth less. */
    max_relative_decrease: LimitOfLess,
    max_absolute_decrease: Limit,
    /** `rollback`: the variant is removed automatically; `hold`: nothing continues until a person has looked. */
    action: z.enum(['rollback', 'hold']),
  })
  .refine(
    (rail) => guardrailLimits(rail).length > 0,
    'needs max_relative_increase or max_absolute_increase or, if higher is better, ' +
      'max_relative_decrease or max_absolute_decrease',
  );
export type ExperimentGuardrail = z.infer<typeof ExperimentGuardrail>;

export interface GuardrailLimit {
  /** `relative`: a share of control's mean; `absolute`: in the metric's unit. */
  limit: 'relative' | 'absolute';
  direction: 'increase' | 'decrease';
  allowed: number;
}

/** The limits that it has, in the order in which they are checked. */
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
 * Guardrails of an experiment whose document names none; `[]` disables them. Failing answers and disconnecting
 * users are clearly harmful. A slower first token may be the price of a better answer: a person decides.
 */
export const DEFAULT_GUARDRAILS: readonly ExperimentGuardrail[] = [
  { metric: 'error_rate', max_relative_increase: 0.5, max_absolute_increase: 0.02, action: 'rollback' },
  { metric: 'left_rate', max_relative_increase: 0.5, max_absolute_increase: 0.05, action: 'rollback' },
  { metric: 'ttft_ms', max_relative_increase: 0.5, action: 'hold' },
];

/**
 * What is wrong with a guardrail, given the better direction of its metric; null = nothing. A limit on
 * improvement would roll back the better variant.
 */
export function guardrailContradiction(rail: ExperimentGuardrail, better: 'up' | 'down'): string | null {
  const wrong = better === 'up' ? 'increase' : 'decrease';
  const found = guardrailLimits(rail).find(({ direction }) => direction === wrong);
  if (found === undefined) return null;
  const [is, instead] = better === 'up' ? ['more', 'decrease'] : ['less', 'increase'];
  return (
    `of "${rail.metric}" ${is} is better: use max_${found.limit}_${instead} instead of ` +
    `max_${found.limit}_${wrong}`
  );
}

/** The base without adapter, as a judge. */
export const BASE_JUDGE = 'base';

/** Either `model` or `url`. */
export const ExperimentJudge = z
  .strictObject({
    /** `name@version`, or `base`: asked in both orders; different verdicts are a tie. */
    model: z.union([z.literal(BASE_JUDGE), PinnedAdapter]).optional(),
    /** The application: gets prompt and answers in a signed POST, and returns which is better. */
    url: z
      .url({ protocol: /^https?$/ })
      .max(1_000)
      .optional(),
    /** Daily token limit of judge and shadow together (UTC). */
    tokens_per_day: z.int().positive().max(MAX_JUDGE_TOKENS).default(DEFAULT_JUDGE_TOKENS),
    /** How many pairs are kept for their owner to read, for at most 30 days; 0 = none. */
    keep_pairs: z.int().min(0).max(MAX_KEPT_PAIRS).default(0),
  })
  .refine(({ model, url }) => (model === undefined) !== (url === undefined), 'needs either model or url');
export type ExperimentJudge = z.infer<typeof ExperimentJudge>;

/** Why a pair was not judged. */
export const PAIR_FAILURES = [
  /** The challenger did not answer. */
  'challenger',
  /** The user's answer failed, was abandoned, or took too long. */
  'answer',
  /** Prompt or answer is too long, or not a single text. */
  'form',
  /** The judge could not be asked, or took too long. */
  'judge',
  /** Its reply did not say which answer is better. */
  'unclear',
] as const;
export type PairFailure = (typeof PAIR_FAILURES)[number];

/** The same, as text for every client. */
export const PAIR_FAILURE_WORDS: Readonly<Record<PairFailure, string>> = {
  challenger: 'the challenger did not answer',
  answer: 'the answer failed, was abandoned or took too long',
  form: 'the texts are too long, or either side is not a single text',
  judge: 'the judge did not answer',
  unclear: "the judge's reply was not understood",
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
  /** Of the ties: identical answers, which were not sent to the judge. */
  same: Count,
  /** A tie is half a win; the interval is valid at every look. null until there is a verdict. */
  win_rate: z.object({ estimate: Rate, low: Rate, high: Rate }).nullable(),
  p_value: z.number(),
  verdict: z.enum(['better', 'worse', 'open']),
  /** Share of all verdicts for the answer shown first; null = no verdicts. */
  first_chosen: Rate.nullable(),
  /** Share of pairs in which a model judge agreed with itself in both orders; null = no pair was judged twice. */
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
  /** Texts are truncated to this many characters. */
  cut: z.boolean(),
});
export type KeptPair = z.infer<typeof KeptPair>;

/** `GET /admin/experiments/<id>/pairs`: newest first. */
export const KeptPairList = z.object({ pairs: z.array(KeptPair) }).meta({ id: 'KeptPairList' });
export type KeptPairList = z.infer<typeof KeptPairList>;

/** `GET /admin/experiments/<id>/judge-secret`: the secret that verifies the judge's calls. */
export const JudgeSecret = z
  .object({
    /** `whsec_` and base64, as in Standard Webhooks. Another URL has another secret. */
    secret: z.string(),
  })
  .meta({ id: 'JudgeSecret' });
export type JudgeSecret = z.infer<typeof JudgeSecret>;

/** Spread of values; decides nothing. */
export const ExperimentSpread = z.object({
  /** Number of single values (answers or ratings) behind the percentiles. */
  values: z.int().min(0),
  /** Of the units, each the mean of its own values, as everywhere. */
  mean: z.number(),
  /** Half of the values are at most this; within 2 %. */
  p50: z.number(),
  /** 95 % of the values are at most this; within 2 %. */
  p95: z.number(),
});
export type ExperimentSpread = z.infer<typeof ExperimentSpread>;

/** Credentials must not become dimensions of results. */
const SECRET = ['authorization', 'cookie', 'proxy-authorization'];

/** `tenant`, `name` (what is below the experiment's), or a request header. */
export const SegmentBy = z
  .string()
  .regex(/^(tenant|name|header:[a-z0-9-]{1,64})$/, 'must be tenant, name, or header:<name in lower case>')
  .refine((text) => !SECRET.some((name) => text === `header:${name}`), 'must not be a credential');

/** Results by one declared dimension; they decide nothing. */
export const ExperimentSegments = z.object({
  by: z.string(),
  /** At most 20 rows with the most units, and one for the rest. */
  rows: z.array(
    z.object({
      /** null: the request has none; of `name`: the experiment's own name; see `other`. */
      segment: z.string().nullable(),
      /** The remaining segments together. */
      other: z.boolean().optional(),
      /** By variant's key. */
      units: z.record(z.string(), z.int().min(0)),
      /** Of the document's metrics, by key, by variant's key; not capped. */
      means: z.record(z.string(), z.record(z.string(), z.object({ n: z.int().min(0), mean: z.number() }))),
      /**
       * By treatment's key: lift over control of the deciding metric. The intervals of the whole table are
       * jointly valid in 95 % of experiments. null: fewer than 50 values in an arm, or control may be 0.
       */
      lifts: z.record(
        z.string(),
        z.object({ low: z.number(), estimate: z.number(), high: z.number() }).nullable(),
      ),
    }),
  ),
});
export type ExperimentSegments = z.infer<typeof ExperimentSegments>;

/** @returns a row's label. */
export function segmentWords(
  by: string,
  { segment, other }: { segment: string | null; other?: boolean | undefined },
): string {
  if (other === true) return 'all others';
  return segment ?? (by === 'name' ? 'the name itself' : 'none given');
}

const Share = z.number().min(0).max(1);
/** Text that buckets are derived from. Seeds of namespaces and holdouts start with two underscores. */
const Seed = z
  .string()
  .min(1)
  .max(MAX_UNIT_CHARACTERS)
  .refine((text) => !text.startsWith('__'), 'must not start with "__"');

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
  /**
   * Non-inferiority: a treatment is good enough if its lift, in the better direction, is above this; -0.02 = -2
   * %.
   */
  at_least: z.number().gt(-1).lt(0).optional(),
  /**
   * Of a `mean`: units' values above control's 99th percentile are capped there, so that a few units cannot
   * decide.
   */
  cap: z.literal('p99').optional(),
  /**
   * A class of the variants' classification heads: the edge records the share of the texts in `/v1/classify` that get this
   * label. Absent = the application reports it.
   */
  class: ClassLabel.optional(),
});
export type ExperimentMetric = z.infer<typeof ExperimentMetric>;

/** Metrics that the edge records itself, each the mean over a unit's requests. */
export const AUTOMATIC_METRICS: readonly ExperimentMetric[] = [
  { key: 'ttft_ms', kind: 'mean', better: 'down' },
  { key: 'latency_ms', kind: 'mean', better: 'down' },
  { key: 'output_tokens', kind: 'mean', better: 'down' },
  { key: 'error_rate', kind: 'proportion', better: 'down' },
  /** Answers that their client abandoned, and streams that stalled. */
  { key: 'left_rate', kind: 'proportion', better: 'down' },
  /** Answers that ended because of their length. */
  { key: 'length_rate', kind: 'proportion', better: 'down' },
  { key: 'cost', kind: 'mean', better: 'down' },
];

/** Whether the edge records it itself. */
export const isRecorded = ({ key, class: label }: Pick<ExperimentMetric, 'key' | 'class'>): boolean =>
  label !== undefined || AUTOMATIC_METRICS.some((metric) => metric.key === key);

/**
 * Metrics of a shadow's requests, each counted separately; nobody can abandon them, and `disagreement` is 0 or
 * 1.
 */
export const SHADOW_METRICS: readonly ExperimentMetric[] = [
  ...AUTOMATIC_METRICS.filter(({ key }) => key !== 'left_rate'),
  { key: 'disagreement', kind: 'proportion', better: 'down' },
];

/** Coverage grows step by step. Each step lasts a minimum time and until enough units were seen. */
export const ExperimentRamp = z.strictObject({
  steps: z
    .array(z.number().gt(0).max(1))
    .min(1)
    .max(MAX_RAMP_STEPS)
    .refine((steps) => steps.every((step, i) => i === 0 || step > steps[i - 1]!), 'must increase'),
  hold_minutes: z.int().min(0).max(MAX_HOLD_MINUTES),
  /**
   * Units in all variants together: new ones per step before the next step is taken without certainty that
   * guardrails pass; and in total since the seed started before a winner is proposed.
   */
  min_units: z.int().min(0),
});
export type ExperimentRamp = z.infer<typeof ExperimentRamp>;

/** Who can be in the experiment; all given conditions must hold. */
export const ExperimentTargeting = z.strictObject({
  tenants: z.array(z.string().min(1)).min(1).max(MAX_EXPERIMENT_LIST).optional(),
  /** The requested name: this name and everything below it. */
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

/** The document's fields, each validated separately; {@link Experiment} validates them together. */
export const ExperimentShape = z.strictObject({
  /** The name that applications call. */
  name: AdapterName,
  /** Increases by one with every change of this document. */
  version: z.int().positive(),
  status: z.enum(EXPERIMENT_STATUSES),
  /** The assignment depends on this and the unit; a new seed reassigns everybody, and results start over. */
  seed: Seed,
  /** `user`: the end user that the request names, otherwise the API key; `key`: always the API key. */
  unit: z.enum(['user', 'key']),
  /** The first is control. */
  variants: z.array(ExperimentVariant).min(2).max(MAX_VARIANTS),
  /** Share of the units that are in the experiment; the others get the name's live version. */
  coverage: Share,
  shadow: z
    .strictObject({
      adapter: PinnedAdapter,
      sample: Share,
      /** Records `disagreement` with the answer that was sent, if sampling is deterministic. */
      compare: z.boolean().optional(),
    })
    .optional(),
  /** Minimum days before a winner is proposed: weekends differ from weekdays. */
  min_days: z.int().min(0).max(MAX_MIN_DAYS).optional(),
  /** Removed treatments: their units get the name's live version, and are no longer counted. */
  dropped: z.array(ExperimentKey).max(MAX_VARIANTS).optional(),
  /** Notified when a winner is proposed, a variant is removed, or something is wrong. */
  webhook: z
    .url({ protocol: /^https?$/ })
    .max(1_000)
    .optional(),
  /** Additional dimension of results; it decides nothing. */
  segment_by: SegmentBy.optional(),
  /**
   * Compares control's answers with the shadow's, one request at a time; the shadow is then one of the
   * variants.
   */
  judge: ExperimentJudge.optional(),
  /** The first one decides. */
  metrics: z.array(ExperimentMetric).min(1).max(MAX_EXPERIMENT_METRICS),
  guardrails: z.array(ExperimentGuardrail).max(MAX_EXPERIMENT_METRICS).default([]),
  ramp: ExperimentRamp.optional(),
  /** Experiments in one namespace with disjoint ranges never share a unit. */
  namespace: z
    .strictObject({ name: Seed, range: z.tuple([Share, Share]) })
    .refine(({ range: [from, to] }) => from < to, 'the range must not be empty')
    .optional(),
  /** Units that are in none of the experiments that name this holdout. */
  holdout: z.strictObject({ name: Seed, share: Share }).optional(),
  /** Testers: they get this variant regardless of targeting and coverage, and are not counted. */
  overrides: z
    .array(z.strictObject({ unit: z.string().min(1).max(MAX_UNIT_CHARACTERS), variant: ExperimentKey }))
    .max(MAX_EXPERIMENT_LIST)
    .default([]),
  targeting: ExperimentTargeting.optional(),
  /** The kill switch: everybody, including testers, gets the name's live version. */
  killed: z.boolean().default(false),
  /** Of a decided experiment: the promoted variant; null = none. */
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
    issue(['variants'], `the weights must sum to 1, but sum to ${Number(sum.toPrecision(6))}`);
  const twice = firstRepeated(keys);
  if (twice >= 0) issue(['variants', twice, 'key'], 'another variant has this key');
  const metrics = experiment.metrics.map(({ key }) => key);
  const metricTwice = firstRepeated(metrics);
  if (metricTwice >= 0) issue(['metrics', metricTwice, 'key'], 'another metric has this key');
  for (const [i, metric] of experiment.metrics.entries()) {
    const known = AUTOMATIC_METRICS.find(({ key }) => key === metric.key);
    if (known !== undefined && known.kind !== metric.kind)
      issue(['metrics', i, 'kind'], `the edge records "${metric.key}" itself, as a ${known.kind}`);
    if (metric.class !== undefined && (known !== undefined || metric.kind !== 'proportion'))
      issue(['metrics', i, 'class'], 'needs a proportion with a key of its own');
    if (metric.cap !== undefined && metric.kind !== 'mean')
      issue(['metrics', i, 'cap'], 'a proportion is between 0 and 1: only a mean can be capped');
  }
  for (const [i, { metric }] of experiment.guardrails.entries())
    if (!metrics.includes(metric) && !AUTOMATIC_METRICS.some(({ key }) => key === metric))
      issue(
        ['guardrails', i, 'metric'],
        `"${metric}" is neither in metrics nor one of ${AUTOMATIC_METRICS.map(({ key }) => key).join(', ')}`,
      );
  for (const [i, { variant }] of experiment.overrides.entries())
    if (!keys.includes(variant)) issue(['overrides', i, 'variant'], 'no such variant');
  const dropped = experiment.dropped ?? [];
  for (const [i, key] of dropped.entries())
    if (!keys.slice(1).includes(key) || dropped.indexOf(key) !== i)
      issue(['dropped', i], 'must be a treatment, listed once');
  if (dropped.length > 0 && dropped.length >= keys.length - 1)
    issue(['dropped'], 'must leave at least one treatment; to end the experiment, stop it');
  const testerTwice = firstRepeated(experiment.overrides.map(({ unit }) => unit));
  if (testerTwice >= 0) issue(['overrides', testerTwice, 'unit'], 'another override has this unit');
  if (experiment.judge !== undefined) {
    const { judge, shadow, variants } = experiment;
    if (shadow === undefined) issue(['judge'], 'needs a shadow to compare with control');
    else if (variants.findIndex(({ adapter }) => adapter === shadow.adapter) < 1)
      issue(
        ['shadow', 'adapter'],
        "must be a treatment's version, so that the judge can say which variant wins",
      );
    if (judge.model !== undefined && experiment.variants.some(({ adapter }) => adapter === judge.model))
      issue(['judge', 'model'], 'must not be one of the judged versions');
  }
  if (experiment.status === 'ramping' && experiment.ramp === undefined)
    issue(['ramp'], 'a ramping experiment needs a ramp');
  if (experiment.winner !== null && !keys.includes(experiment.winner)) issue(['winner'], 'no such variant');
  if (experiment.winner !== null && experiment.status !== 'decided' && experiment.status !== 'archived')
    issue(['winner'], 'only a decided experiment has a winner');
}).meta({ id: 'Experiment' });
export type Experiment = z.infer<typeof Experiment>;

/**
 * The metric with this key, with the experiment's own direction. Parsed documents contain all metrics they
 * name.
 */
export function metricOf(experiment: Pick<Experiment, 'metrics'>, key: string): ExperimentMetric | undefined {
  return (
    experiment.metrics.find((metric) => metric.key === key) ??
    AUTOMATIC_METRICS.find((metric) => metric.key === key)
  );
}

/**
 * The first guardrail that contradicts its metric's direction; null = none. Checked only on creation and
 * change, so that older documents stay readable.
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

/** All adapters that it uses: those of its variants, shadow and judge. */
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
