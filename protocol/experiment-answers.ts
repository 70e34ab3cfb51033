/** What the admin API answers of experiments; docs/experiments.md explains the words. */
import { z } from 'zod';
import { ExperimentId, ExperimentProgress } from './experiment-api.ts';
import { Experiment, EXPERIMENT_STATUSES } from './experiment.ts';
import { ExperimentPairs } from './experiment-judge.ts';
import { ExperimentSegments, ExperimentSpread } from './experiment-breakdown.ts';
import { AdapterName } from './identity.ts';

const Estimate = z.object({ low: z.number(), estimate: z.number(), high: z.number() });
const Arm = z.object({ n: z.int().min(0), mean: z.number() });
const ShadowArm = Arm.extend(ExperimentSpread.pick({ p50: true, p95: true }).partial().shape);

/** One treatment against control on one metric. */
export const ExperimentComparison = z.object({
  metric: z.string(),
  kind: z.enum(['proportion', 'mean']),
  better: z.enum(['up', 'down']),
  variant: z.string(),
  control: Arm,
  treatment: Arm,
  /** `not_worse`: by the metric's `at_least`. `open` also when there are too few values or no result. */
  verdict: z.enum(['better', 'not_worse', 'worse', 'open']),
  /** Why nothing is called, if so. */
  reason: z.enum(['too_few_values', 'no_variance']).nullable(),
  /** Treatment's mean less control's, in the metric's unit, with the interval that holds at every look. */
  difference: Estimate.nullable(),
  /** The same as a share of control's mean; null while that may be 0. */
  lift: Estimate.nullable(),
  p_value: z.number().nullable(),
  /** Of a metric with `cap`: units' values above this count as this; null: not known yet, and nothing is called. */
  cap: z.number().nullish(),
  /** CUPED was applied … */
  adjusted: z.boolean(),
  /** … and of this share of the units a value from before is known; the others are taken as it is on average. */
  adjusted_share: z.number().nullish(),
});
export type ExperimentComparison = z.infer<typeof ExperimentComparison>;

export const ExperimentDecision = z.discriminatedUnion('action', [
  /** The last treatment that was left is taken out: the experiment ends, and nobody won. */
  z.object({
    action: z.literal('rollback'),
    reason: z.enum(['guardrail', 'worse']),
    metric: z.string(),
    variant: z.string(),
  }),
  /** One of several treatments is taken out; the others go on. */
  z.object({
    action: z.literal('drop'),
    reason: z.enum(['guardrail', 'worse']),
    metric: z.string(),
    variant: z.string(),
  }),
  z.object({
    action: z.literal('hold'),
    /** `health`: a winner would be proposed, but {@link ExperimentHealth} says why it may be none. */
    reason: z.enum(['guardrail', 'sample_ratio', 'no_traffic', 'health']),
    metric: z.string().optional(),
    variant: z.string().optional(),
    p_value: z.number().optional(),
  }),
  z.object({
    action: z.literal('wait'),
    reason: z.enum([
      'not_running',
      'killed',
      'not_significant',
      'units',
      'units_in_step',
      'hold_time',
      'no_values',
      'days',
      'pairs',
    ]),
    /** Of `no_values`: which guardrail, of which variant. */
    metric: z.string().optional(),
    variant: z.string().optional(),
    units: z.int().optional(),
    needed: z.int().optional(),
    /** Unix ms. */
    until: z.int().optional(),
  }),
  z.object({ action: z.literal('advance'), coverage: z.number(), last: z.boolean() }),
  z.object({ action: z.literal('propose_winner'), variant: z.string() }),
]);
export type ExperimentDecision = z.infer<typeof ExperimentDecision>;

/** Something that an experiment lacks without anybody having said so. While there is one, no winner is proposed. */
export const ExperimentHealth = z.object({
  issue: z.enum([
    /** Answers, and no value of any metric that the application reports. */
    'no_feedback',
    /** Answers, and no value of one metric. */
    'metric_missing',
    /** Feedback that was refused: the experiment has no metric that is called so. */
    'unknown_metric',
    'one_unit',
    /** Requests that name no user, though that is what the experiment deals. */
    'no_user',
    /** Those who rate are not dealt as all units are. */
    'raters_unequal',
    /** Units of a variant that the experiment does not have. */
    'unknown_variant',
  ]),
  metric: z.string().optional(),
  variant: z.string().optional(),
  /** What is so and what to do, a sentence. */
  message: z.string(),
});
export type ExperimentHealth = z.infer<typeof ExperimentHealth>;

/** One look at an experiment. */
export const ExperimentEvaluation = z.object({
  /** Unix ms. */
  at: z.int(),
  seed: z.string(),
  /** The last one of an experiment that has ended, when no feedback comes any more. */
  last: z.boolean().optional(),
  coverage: z.number(),
  /** Units by variant's key. */
  units: z.record(z.string(), z.int().min(0)),
  /** `alarm`: something is wrong with who is counted; `comparisons` is empty then. */
  sample_ratio: z.object({
    state: z.enum(['ok', 'alarm', 'too_few_units']),
    /** Below 0.01 at some look, however many there are, in at most one of a hundred healthy experiments. */
    p_value: z.number(),
    /** New units, by variant's key, while each coverage was set, oldest first; 0 = before this was written down. */
    phases: z
      .array(z.object({ coverage: z.number(), units: z.record(z.string(), z.int().min(0)) }))
      .optional(),
  }),
  /** Empty = nothing is lacking. Edges from before do not say. */
  health: z.array(ExperimentHealth).default([]),
  /**
   * By variant's key: answers that have ended; those that waited for an adapter, and whose times are left out; units that
   * have a value of the first reported metric (null = there is none).
   */
  arms: z
    .record(
      z.string(),
      z.object({ answers: z.int().min(0), cold_starts: z.int().min(0), rated: z.int().min(0).nullable() }),
    )
    .default({}),
  /** Level of one comparison. */
  alpha: z.number(),
  comparisons: z.array(ExperimentComparison),
  guardrails: z.array(
    z.object({
      metric: z.string(),
      variant: z.string(),
      action: z.enum(['rollback', 'hold']),
      state: z.enum(['kept', 'lost', 'too_few_units', 'unknown']),
      /** All limits are kept with certainty: what a step of the ramp asks for. */
      inside: z.boolean().default(false),
      control: z.number(),
      treatment: z.number(),
      lost: z
        .object({
          limit: z.enum(['relative', 'absolute']),
          direction: z.enum(['increase', 'decrease']).default('increase'),
          allowed: z.number(),
        })
        .nullable(),
    }),
  ),
  /** How far it has come; null where nothing can be said. */
  progress: ExperimentProgress.nullable().default(null),
  /** Requests of the shadow, by metric. */
  shadow: z.record(z.string(), ShadowArm),
  /**
   * By metric's key, by variant's key, where it is known: times, and the listed metrics that are no rates. Not while
   * results are hidden; edges from before do not say.
   */
  spread: z.record(z.string(), z.record(z.string(), ExperimentSpread)).optional(),
  /** Where the document says `segment_by`; of the latest look alone, and not while results are hidden. */
  segments: ExperimentSegments.optional(),
  /** Judged pairs; without a judge, and in looks from before there were any, there are none. */
  pairs: ExperimentPairs.optional(),
  decision: ExperimentDecision,
});
export type ExperimentEvaluation = z.infer<typeof ExperimentEvaluation>;

/** A winner that was proposed. It stands until another seed begins, whatever later looks say. */
export const ExperimentProposal = z.object({
  variant: z.string(),
  /** Unix ms. */
  at: z.int(),
  /** Units in all variants then. */
  units: z.int().min(0),
});
export type ExperimentProposal = z.infer<typeof ExperimentProposal>;

/**
 * An experiment as the admin API shows it. Whoever changes it sends its whole document back: one that has fields which
 * the client does not know, and would drop, is refused.
 */
export const ExperimentView = z.object({
  id: ExperimentId,
  /** Tenant that owns the name. */
  owner: z.string(),
  document: Experiment,
  /** All seeds that it has had, the present one last. */
  seeds: z.array(z.string()),
  /** Unix ms. */
  created_at: z.int(),
  /** Id of the admin key. */
  created_by: z.string(),
  /** When the present seed went live, unix ms; null = it never did. */
  started_at: z.int().nullable(),
  /** When the present coverage was set, unix ms. */
  coverage_at: z.int().nullable(),
  /** Units of the present seed when the present coverage was set. */
  step_units: z.int().min(0).default(0),
  /** When it was decided, unix ms; feedback is taken for seven days more, and then it is looked at for the last time. */
  ended_at: z.int().nullable().default(null),
  /** The winner that was proposed, with the present seed. */
  proposal: ExperimentProposal.nullable().default(null),
  /**
   * With the answer that sets its webhook, and never again: what the receiver checks messages by (Standard Webhooks).
   */
  webhook_secret: z.string().optional(),
  /** The latest look; null before the first. */
  evaluation: ExperimentEvaluation.nullable(),
});
export type ExperimentView = z.infer<typeof ExperimentView>;

/** `GET /admin/experiments?name=&status=&cursor=&limit=`. */
export const ExperimentList = z.object({
  experiments: z.array(ExperimentView),
  cursor: z.string().nullable(),
});
export type ExperimentList = z.infer<typeof ExperimentList>;
/** `GET /admin/experiments/<id>/looks`: of the present seed, oldest first, thinned. */
export const ExperimentLooks = z.object({ looks: z.array(ExperimentEvaluation) });
export type ExperimentLooks = z.infer<typeof ExperimentLooks>;
export const ExperimentFilter = z.strictObject({
  name: AdapterName.optional(),
  status: z.enum(EXPERIMENT_STATUSES).optional(),
});
