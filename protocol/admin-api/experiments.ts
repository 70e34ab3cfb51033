/** Experiments: what the admin API takes and answers, what a plan says before one is made, and ratings of answers; docs/experiments.md explains the words. */
import { z } from 'zod';
import {
  JudgeSecret,
  KeptPairList,
  ExperimentGuardrail,
  Experiment,
  ExperimentShape,
  EXPERIMENT_STATUSES,
  ExperimentSegments,
  ExperimentSpread,
  ExperimentPairs,
} from '../experiment.ts';
import {
  EXPERIMENTS_SHOWN,
  MAX_EXPERIMENT_BODY_BYTES,
  MAX_EXPERIMENTS_SHOWN,
  type AdminOperationTable,
} from './operation.ts';
import { Why as WhyText } from './names.ts';
import { MAX_EXPERIMENT_METRICS } from '../limits.ts';
import { AdapterName } from '../identity.ts';

/** Lifts that are told of, as a share of control's mean, the way that is better. */
export const PLANNED_LIFTS = [0.5, 0.2, 0.1, 0.05] as const;

/** What lift is found, in four of five experiments that have it, and when. */
export const ExperimentFinding = z.object({
  /** Always above 0, whichever way is better. */
  lift: z.number(),
  /** Units in both arms that are compared, with a value or not; null: it cannot be found, or nobody would wait so long. */
  units: z.int().min(0).nullable(),
  /** From the start (of a plan) or from now (while it runs); null where nobody knows how many units come. */
  days: z.number().nullable(),
});
export type ExperimentFinding = z.infer<typeof ExperimentFinding>;

/** Shares of the judged pairs that a treatment wins, of which a plan tells. */
export const PLANNED_WIN_RATES = [0.65, 0.6, 0.55] as const;

/** What a judge will be able to tell, and when. */
export const PairsPlan = z.object({
  /** Share of the requests that the challenger answers too. */
  sample: z.number(),
  /** Pairs, as many as requests and tokens allow; null: nobody has asked for the name. */
  per_day: z.number().nullable(),
  /** Of challenger and judge together, estimated by the name's own requests; null: there were none. */
  tokens_per_pair: z.number().nullable(),
  /** Of challenger and judge together, at most. */
  tokens_per_day: z.int(),
  /** Pairs with a winner until the treatment is called better in four of five experiments; ties come on top. */
  finds: z.array(z.object({ win_rate: z.number(), pairs: z.int(), days: z.number().nullable() })),
});
export type PairsPlan = z.infer<typeof PairsPlan>;

/** `POST /admin/experiments/plan`. */
export const ExperimentPlan = z.object({
  name: z.string(),
  /** A day, of the owner's keys, over so many of the last seven days. */
  requests: z.object({ per_day: z.number(), days: z.int() }),
  /** New units a day, all of the name's. `null`: nobody knows; the edge keeps no list of users. */
  units: z.object({
    per_day: z.number().nullable(),
    from: z.enum(['expected', 'experiment', 'unknown']),
  }),
  /** Share of the units that have a value of the metric that decides. */
  values: z.object({ share: z.number(), from: z.enum(['experiment', 'edge', 'assumed']) }),
  /** Of that metric, before; null: nobody knows. */
  baseline: z.object({ mean: z.number(), from: z.enum(['experiment', 'assumed']) }).nullable(),
  /** Share of the name's units that are in the experiment at last. */
  coverage: z.number(),
  /** Level of one comparison. */
  alpha: z.number(),
  finds: z.array(ExperimentFinding),
  /** Where answers are judged. With a coverage of 0 it is all that the plan has to say: nobody rates. */
  pairs: PairsPlan.optional(),
});
export type ExperimentPlan = z.infer<typeof ExperimentPlan>;

/** How far one that runs has come, by the metric that decides and the treatment with the fewest values. */
export const ExperimentProgress = z.object({
  variant: z.string(),
  /** The least lift that would have been found by now, above 0; null: none yet. */
  lift_now: z.number().nullable(),
  /** New units a day in both arms since the start; null in the first minutes. */
  units_per_day: z.number().nullable(),
  /** What is still to come; 0 units: it would have been found. */
  finds: z.array(ExperimentFinding),
});
export type ExperimentProgress = z.infer<typeof ExperimentProgress>;

/** `exp_` and 16 of a-z and 0-9; made when the experiment is, and never used again. */
export const ExperimentId = z.string().regex(/^exp_[a-z0-9]{16}$/);
export type ExperimentId = z.infer<typeof ExperimentId>;

/** For the history. */
const Why = WhyText.nullish();

/**
 * `POST /admin/experiments`: a draft. What is left out gets the value that most want: guardrails those of
 * `DEFAULT_GUARDRAILS`, the seed the experiment's id.
 */
export const CreateExperiment = ExperimentShape.omit({
  version: true,
  status: true,
  winner: true,
  dropped: true,
})
  .partial({ seed: true, unit: true, coverage: true, metrics: true })
  .extend({
    guardrails: z.array(ExperimentGuardrail).max(MAX_EXPERIMENT_METRICS).optional(),
    why: Why,
  });
export type CreateExperiment = z.input<typeof CreateExperiment>;

/** `POST /admin/experiments/plan`: as `create`, and nothing is made. */
export const PlanExperiment = CreateExperiment.extend({
  /** Units a day that are expected, where the edge does not know of any. */
  expect_units: z.number().positive().max(1e9).nullish(),
});
export type PlanExperiment = z.input<typeof PlanExperiment>;

/** `PUT /admin/experiments/<id>`: the whole document, its version one higher than the one that was read. */
export const ChangeExperiment = z.strictObject({
  document: Experiment,
  why: Why,
  dry_run: z.boolean().nullish(),
});
export type ChangeExperiment = z.input<typeof ChangeExperiment>;

/** Body of `POST /admin/experiments/<id>/<step>`; all of it may be left out. */
export const ExperimentStepRequest = z.strictObject({
  /** Version of the document that the caller knows of; another one is a conflict. */
  expect: z.int().positive().nullish(),
  why: Why,
});
/** `start`: a draft goes live: ramping, at the first step, when it has a ramp; else running. */
export const StartExperiment = ExperimentStepRequest;
/** `ramp`: more coverage, now: the next step, or this one. Of an experiment without a ramp `coverage` is needed. */
export const RampExperiment = ExperimentStepRequest.extend({ coverage: z.number().gt(0).max(1).nullish() });
/** `stop`: decided, and nobody won: everybody gets the name's live version. */
export const StopExperiment = ExperimentStepRequest;
/** `kill`: the kill switch; `killed: false` takes it back. */
export const KillExperiment = ExperimentStepRequest.extend({ killed: z.boolean() });
/** `promote`: decided; the variant's version becomes the name's live version. The one proposed unless given. */
export const PromoteExperiment = ExperimentStepRequest.extend({
  variant: z.string().min(1).max(32).nullish(),
  /**
   * The version that is live now and is to be replaced. Needed where it is neither control nor the variant: it was
   * published meanwhile, and nobody has compared it. 409, `param: "over"`, names it.
   */
  over: z.int().positive().nullish(),
});
/** `archive`: a draft or a decided experiment is put away; its name is free for another. */
export const ArchiveExperiment = ExperimentStepRequest;

/** `POST /v1/feedback`. */
export const FeedbackRequest = z.strictObject({
  /** Of the answer that is rated. */
  id: z.string().min(1),
  metric: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/),
  /** 0 to 1 for a proportion. */
  value: z.number(),
  /** The same metric of this user from before the experiment, where it is known: it makes results surer (CUPED). */
  before: z.number().nullish(),
});
export type FeedbackRequest = z.infer<typeof FeedbackRequest>;
/** Its answer. `repeated`: this answer had been rated with this metric; the first value stays. */
export const FeedbackAnswer = z.object({
  object: z.literal('graft.feedback'),
  status: z.enum(['counted', 'repeated']),
});
export type FeedbackAnswer = z.infer<typeof FeedbackAnswer>;

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
  /** Empty = nothing is lacking. */
  health: z.array(ExperimentHealth),
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
   * results are hidden.
   */
  spread: z.record(z.string(), z.record(z.string(), ExperimentSpread)).optional(),
  /** Where the document says `segment_by`; of the latest look alone, and not while results are hidden. */
  segments: ExperimentSegments.optional(),
  /** Judged pairs; none without a judge. */
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

const shared = { tag: 'experiments', rights: 'admin' } as const;
const one = { ...shared, ids: { id: ExperimentId }, query: null } as const;
const view = (description: string): { description: string; schema: typeof ExperimentView } => ({
  description,
  schema: ExperimentView,
});

const step = <Request extends z.ZodType>(id: string, request: Request, summary: string) =>
  ({
    ...one,
    id,
    summary,
    description:
      '409 `version_conflict` when it has changed since (`expect`) or its state forbids this; 503 `registry_unavailable` when the change is recorded and the edge was not told yet.',
    request,
    mayBeEmpty: true,
    answers: { 200: view('The experiment as it is now.') },
  }) as const;

export const EXPERIMENT_OPERATIONS = {
  'POST /admin/experiments': {
    ...shared,
    id: 'createExperiment',
    summary: 'Makes a draft.',
    query: null,
    request: CreateExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 201: view('The draft.') },
  },
  'POST /admin/experiments/plan': {
    ...shared,
    id: 'planExperiment',
    summary: 'What an experiment would be able to tell, and when, by the traffic of its name. Makes nothing.',
    query: null,
    request: PlanExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 200: { description: 'The plan.', schema: ExperimentPlan } },
  },
  'GET /admin/experiments': {
    ...shared,
    id: 'listExperiments',
    summary: "The tenant's experiments, the newest first.",
    query: ExperimentFilter.extend({
      cursor: z.string().max(64).nullable().default(null),
      limit: z
        .string()
        .regex(/^[1-9]\d{0,3}$/, 'must be a positive whole number')
        .transform(Number)
        .pipe(z.int().max(MAX_EXPERIMENTS_SHOWN))
        .default(EXPERIMENTS_SHOWN),
    }),
    request: null,
    answers: { 200: { description: 'A page of them.', schema: ExperimentList } },
  },
  'GET /admin/experiments/:id': {
    ...one,
    id: 'readExperiment',
    summary: 'One experiment, with its latest look.',
    request: null,
    answers: { 200: view('The experiment.') },
  },
  'PUT /admin/experiments/:id': {
    ...one,
    id: 'changeExperiment',
    summary: 'Puts the whole document, its version one higher than the one that was read.',
    description: '409 `version_conflict`, the field in `param`, when its state forbids the change.',
    request: ChangeExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 200: view('The experiment as it is now, or would be (`dry_run`).') },
  },
  'POST /admin/experiments/:id/start': step('startExperiment', StartExperiment, 'A draft goes live.'),
  'POST /admin/experiments/:id/ramp': step(
    'rampExperiment',
    RampExperiment,
    'More coverage, now: the next step of the ramp, or the one given.',
  ),
  'POST /admin/experiments/:id/stop': step(
    'stopExperiment',
    StopExperiment,
    'Decided, and nobody won: everybody gets the name’s live version.',
  ),
  'POST /admin/experiments/:id/kill': step('killExperiment', KillExperiment, 'The kill switch, on or off.'),
  'POST /admin/experiments/:id/promote': step(
    'promoteExperiment',
    PromoteExperiment,
    'Decided: the variant’s version becomes the live one of the name.',
  ),
  'POST /admin/experiments/:id/archive': step(
    'archiveExperiment',
    ArchiveExperiment,
    'Puts a draft or a decided experiment away.',
  ),
  'POST /admin/experiments/:id/evaluate': {
    ...one,
    id: 'evaluateExperiment',
    summary: 'Takes a look now, as the schedule does every minute, and carries out what it comes to.',
    request: null,
    answers: { 200: view('The experiment with the fresh look.') },
  },
  'GET /admin/experiments/:id/pairs': {
    ...one,
    id: 'listKeptPairs',
    summary: 'The last judged pairs with their texts, where `keep_pairs` asks for that; the newest first.',
    description:
      'For the tenant that owns the name alone, not for the bootstrap key of another. 404 for everybody else.',
    request: null,
    answers: { 200: { description: 'The pairs.', schema: KeptPairList } },
  },
  'GET /admin/experiments/:id/judge-secret': {
    ...one,
    id: 'readJudgeSecret',
    summary: 'What the application checks the calls of `judge.url` with.',
    description: 'For the tenant that owns the name alone. 404 where nothing is called.',
    request: null,
    answers: { 200: { description: 'The secret.', schema: JudgeSecret } },
  },
  'GET /admin/experiments/:id/looks': {
    ...one,
    id: 'listExperimentLooks',
    summary: 'Looks at the present seed, the oldest first.',
    request: null,
    answers: { 200: { description: 'The looks.', schema: ExperimentLooks } },
  },
} as const satisfies AdminOperationTable;
