/** Experiments: what the admin API takes and answers, what a plan says before one is made, and ratings of answers; docs/guides/ab-test.md explains the words. */
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

/** Lifts for which a plan gives the time, as a share of control's mean, in the better direction. */
export const PLANNED_LIFTS = [0.5, 0.2, 0.1, 0.05] as const;

/** When a lift is found, in four of five experiments that have it. */
export const ExperimentFinding = z.object({
  /** Always above 0, whichever direction is better. */
  lift: z.number(),
  /** Units in both compared arms, with or without a value; null: it cannot be found in a reasonable time. */
  units: z.int().min(0).nullable(),
  /** From the start (in a plan) or from now (while it runs); null: the number of units per day is unknown. */
  days: z.number().nullable(),
});
export type ExperimentFinding = z.infer<typeof ExperimentFinding>;

/** Shares of judged pairs won by a treatment for which a plan gives the time. */
export const PLANNED_WIN_RATES = [0.65, 0.6, 0.55] as const;

/** What a judge will be able to show, and when. */
export const PairsPlan = z.object({
  /** Share of the requests that the challenger also answers. */
  sample: z.number(),
  /** Pairs per day that requests and tokens allow; null: the name had no requests. */
  per_day: z.number().nullable(),
  /** Of challenger and judge together, estimated from the name's own requests; null: there were none. */
  tokens_per_pair: z.number().nullable(),
  /** Limit for challenger and judge together. */
  tokens_per_day: z.int(),
  /**
   * Pairs with a winner until the treatment is called better in four of five experiments; ties are not
   * included.
   */
  finds: z.array(z.object({ win_rate: z.number(), pairs: z.int(), days: z.number().nullable() })),
});
export type PairsPlan = z.infer<typeof PairsPlan>;

/** `POST /admin/experiments/plan`. */
export const ExperimentPlan = z
  .object({
    name: z.string(),
    /** Per day, of the owner's keys, over this many of the last seven days. */
    requests: z.object({ per_day: z.number(), days: z.int() }),
    /** New units a day of the whole name. `null`: unknown, as the edge keeps no list of users. */
    units: z.object({
      per_day: z.number().nullable(),
      from: z.enum(['expected', 'experiment', 'unknown']),
    }),
    /** Share of units with a value of the deciding metric. */
    values: z.object({ share: z.number(), from: z.enum(['experiment', 'edge', 'assumed']) }),
    /** Of that metric, from earlier data; null: unknown. */
    baseline: z.object({ mean: z.number(), from: z.enum(['experiment', 'assumed']) }).nullable(),
    /** Final share of the name's units in the experiment. */
    coverage: z.number(),
    /** Level of one comparison. */
    alpha: z.number(),
    finds: z.array(ExperimentFinding),
    /** If answers are judged. With a coverage of 0 the plan has nothing else, as nobody rates. */
    pairs: PairsPlan.optional(),
  })
  .meta({ id: 'ExperimentPlan' });
export type ExperimentPlan = z.infer<typeof ExperimentPlan>;

/** Progress of a running experiment, by the deciding metric and the treatment with the fewest values. */
export const ExperimentProgress = z.object({
  variant: z.string(),
  /** The smallest lift that would have been found so far, above 0; null: none yet. */
  lift_now: z.number().nullable(),
  /** New units a day in both arms since the start; null in the first minutes. */
  units_per_day: z.number().nullable(),
  /** What is still needed; 0 units: it would have been found. */
  finds: z.array(ExperimentFinding),
});
export type ExperimentProgress = z.infer<typeof ExperimentProgress>;

/** `exp_` and 16 of a-z and 0-9; assigned at creation and never reused. */
export const ExperimentId = z.string().regex(/^exp_[a-z0-9]{16}$/);
export type ExperimentId = z.infer<typeof ExperimentId>;

/** For the history. */
const Why = WhyText.nullish();

/**
 * `POST /admin/experiments`: a draft. Omitted fields get defaults: guardrails `DEFAULT_GUARDRAILS`, the seed
 * the experiment's id.
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
  })
  .meta({ id: 'CreateExperiment' });
export type CreateExperiment = z.input<typeof CreateExperiment>;

/** `POST /admin/experiments/plan`: like `create`, but creates nothing. */
export const PlanExperiment = CreateExperiment.extend({
  /** Units a day that are expected, if the edge does not know. */
  expect_units: z.number().positive().max(1e9).nullish(),
});
export type PlanExperiment = z.input<typeof PlanExperiment>;

/** `PUT /admin/experiments/<id>`: the whole document, with the next version number. */
export const ChangeExperiment = z
  .strictObject({
    /** Under a name of its own: in a request, unlike an answer, what has a default may be left out. */
    document: Experiment.clone(Experiment.def).meta({ id: 'ExperimentDocument' }),
    why: Why,
    dry_run: z.boolean().nullish(),
  })
  .meta({ id: 'ChangeExperiment' });
export type ChangeExperiment = z.input<typeof ChangeExperiment>;

/** Optional body of `POST /admin/experiments/<id>/<step>`. */
export const ExperimentStepRequest = z
  .strictObject({
    /** Version of the document that the caller knows; any other is a conflict. */
    expect: z.int().positive().nullish(),
    why: Why,
  })
  .meta({ id: 'ExperimentStepRequest' });
/** `start`: starts a draft: ramping at the first step if it has a ramp, otherwise running. */
export const StartExperiment = ExperimentStepRequest.extend({
  /**
   * Start only if every variant has a complete score on each kept evaluation of the name, and none has fewer
   * rows right than control. It scores nothing by itself.
   */
  require_scores: z.boolean().nullish(),
}).meta({ id: 'StartExperiment' });
/** `ramp`: raises the coverage now, to the next step or to this value. Required without a ramp. */
export const RampExperiment = ExperimentStepRequest.extend({
  coverage: z.number().gt(0).max(1).nullish(),
}).meta({ id: 'RampExperiment' });
/** `stop`: ends it without a winner; everybody gets the name's live version. */
export const StopExperiment = ExperimentStepRequest;
/** `kill`: the kill switch; `killed: false` turns it off. */
export const KillExperiment = ExperimentStepRequest.extend({ killed: z.boolean() }).meta({
  id: 'KillExperiment',
});
/** `promote`: ends it; the variant's version becomes the name's live version. Default: the proposed one. */
export const PromoteExperiment = ExperimentStepRequest.extend({
  variant: z.string().min(1).max(32).nullish(),
  /**
   * The live version to replace. Required if it is neither control nor the variant: it was published in the
   * meantime, and was never compared. The 409 with `param: "over"` names it.
   */
  over: z.int().positive().nullish(),
}).meta({ id: 'PromoteExperiment' });
/** `archive`: archives a draft or a decided experiment; its name is free for another. */
export const ArchiveExperiment = ExperimentStepRequest;

/** `POST /v1/feedback`. */
export const FeedbackRequest = z
  .strictObject({
    /** The `id` of the rated answer. */
    id: z.string().min(1),
    metric: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/),
    /** 0 to 1 for a proportion. */
    value: z.number(),
    /** The same metric of this user from before the experiment, if known: it makes results more precise (CUPED). */
    before: z.number().nullish(),
  })
  .meta({ id: 'FeedbackRequest' });
export type FeedbackRequest = z.infer<typeof FeedbackRequest>;
/** `repeated`: this answer was rated with this metric before; the first value stays. */
export const FeedbackAnswer = z
  .object({
    object: z.literal('graft.feedback'),
    status: z.enum(['counted', 'repeated']),
  })
  .meta({ id: 'FeedbackAnswer' });
export type FeedbackAnswer = z.infer<typeof FeedbackAnswer>;

const Estimate = z.object({ low: z.number(), estimate: z.number(), high: z.number() });
const Arm = z.object({ n: z.int().min(0), mean: z.number() });
const ShadowArm = Arm.extend(ExperimentSpread.pick({ p50: true, p95: true }).partial().shape);

/** One treatment compared with control on one metric. */
export const ExperimentComparison = z.object({
  metric: z.string(),
  kind: z.enum(['proportion', 'mean']),
  better: z.enum(['up', 'down']),
  variant: z.string(),
  control: Arm,
  treatment: Arm,
  /** `not_worse`: by the metric's `at_least`. `open` also if there are too few values or no result. */
  verdict: z.enum(['better', 'not_worse', 'worse', 'open']),
  /** Why there is no verdict. */
  reason: z.enum(['too_few_values', 'no_variance']).nullable(),
  /** Treatment's mean minus control's, in the metric's unit, with an interval that is valid at every look. */
  difference: Estimate.nullable(),
  /** The same as a share of control's mean; null while that may be 0. */
  lift: Estimate.nullable(),
  p_value: z.number().nullable(),
  /**
   * Of a metric with `cap`: units' values above this count as this; null: not known yet, so there is no
   * verdict.
   */
  cap: z.number().nullish(),
  /** Whether CUPED was applied … */
  adjusted: z.boolean(),
  /** … and the share of units whose earlier value is known; the others count as average. */
  adjusted_share: z.number().nullish(),
});
export type ExperimentComparison = z.infer<typeof ExperimentComparison>;

export const ExperimentDecision = z.discriminatedUnion('action', [
  /** The last treatment is removed: the experiment ends without a winner. */
  z.object({
    action: z.literal('rollback'),
    reason: z.enum(['guardrail', 'worse']),
    metric: z.string(),
    variant: z.string(),
  }),
  /** One of several treatments is removed; the others continue. */
  z.object({
    action: z.literal('drop'),
    reason: z.enum(['guardrail', 'worse']),
    metric: z.string(),
    variant: z.string(),
  }),
  z.object({
    action: z.literal('hold'),
    /** `health`: a winner would be proposed, but {@link ExperimentHealth} shows why it may not be one. */
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

/** A problem that would go unnoticed. While there is one, no winner is proposed. */
export const ExperimentHealth = z.object({
  issue: z.enum([
    /** Answers, but no value of any metric that the application reports. */
    'no_feedback',
    /** Answers, but no value of one metric. */
    'metric_missing',
    /** Feedback was refused: the experiment has no such metric. */
    'unknown_metric',
    'one_unit',
    /** Requests that name no user, although users are the units. */
    'no_user',
    /** The units that rate are distributed differently from all units. */
    'raters_unequal',
    /** Units of a variant that the experiment does not have. */
    'unknown_variant',
  ]),
  metric: z.string().optional(),
  variant: z.string().optional(),
  /** The problem and the remedy, in a sentence. */
  message: z.string(),
});
export type ExperimentHealth = z.infer<typeof ExperimentHealth>;

/** One look at an experiment. */
export const ExperimentEvaluation = z
  .object({
    /** Unix ms. */
    at: z.int(),
    seed: z.string(),
    /** The last look at an ended experiment, when feedback has closed. */
    last: z.boolean().optional(),
    coverage: z.number(),
    /** Units by variant's key. */
    units: z.record(z.string(), z.int().min(0)),
    /** `alarm`: the counts are wrong; `comparisons` is empty then. */
    sample_ratio: z.object({
      state: z.enum(['ok', 'alarm', 'too_few_units']),
      /** Below 0.01 at any look, however many there are, in at most one of a hundred healthy experiments. */
      p_value: z.number(),
      /** New units by variant's key at each coverage, oldest first; 0 = before this was recorded. */
      phases: z
        .array(z.object({ coverage: z.number(), units: z.record(z.string(), z.int().min(0)) }))
        .optional(),
    }),
    /** Empty = no problem. */
    health: z.array(ExperimentHealth),
    /**
     * By variant's key: finished answers; answers that waited for an adapter, whose times are left out; units
     * with a value of the first reported metric (null = there is no such metric).
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
        /** Whether all limits are kept with certainty, which the next ramp step requires. */
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
    /** Progress; null if nothing can be computed. */
    progress: ExperimentProgress.nullable().default(null),
    /** Requests of the shadow, by metric. */
    shadow: z.record(z.string(), ShadowArm),
    /**
     * By metric's key, by variant's key, if known: times, and the listed metrics that are not rates. Hidden along
     * with results.
     */
    spread: z.record(z.string(), z.record(z.string(), ExperimentSpread)).optional(),
    /** If the document has `segment_by`; of the latest look only, and hidden along with results. */
    segments: ExperimentSegments.optional(),
    /** Judged pairs; none without a judge. */
    pairs: ExperimentPairs.optional(),
    decision: ExperimentDecision,
  })
  .meta({ id: 'ExperimentEvaluation' });
export type ExperimentEvaluation = z.infer<typeof ExperimentEvaluation>;

/** A proposed winner. It stands until another seed starts, whatever later looks show. */
export const ExperimentProposal = z.object({
  variant: z.string(),
  /** Unix ms. */
  at: z.int(),
  /** Units in all variants then. */
  units: z.int().min(0),
});
export type ExperimentProposal = z.infer<typeof ExperimentProposal>;

/**
 * An experiment as the admin API shows it. A change sends the whole document back, so a client refuses
 * documents with fields that it does not know and would drop.
 */
export const ExperimentView = z
  .object({
    id: ExperimentId,
    /** Tenant that owns the name. */
    owner: z.string(),
    document: Experiment,
    /** All its seeds, the current one last. */
    seeds: z.array(z.string()),
    /** Unix ms. */
    created_at: z.int(),
    /** Id of the admin key. */
    created_by: z.string(),
    /** When the current seed went live, unix ms; null = never. */
    started_at: z.int().nullable(),
    /** When the current coverage was set, unix ms. */
    coverage_at: z.int().nullable(),
    /** Units of the current seed when the current coverage was set. */
    step_units: z.int().min(0).default(0),
    /** When it was decided, unix ms; feedback is accepted for seven more days, followed by a last look. */
    ended_at: z.int().nullable().default(null),
    /** The proposed winner of the current seed. */
    proposal: ExperimentProposal.nullable().default(null),
    /** Only in the answer that sets its webhook: the secret that verifies messages (Standard Webhooks). */
    webhook_secret: z.string().optional(),
    /** The latest look; null before the first. */
    evaluation: ExperimentEvaluation.nullable(),
  })
  .meta({ id: 'ExperimentView' });
export type ExperimentView = z.infer<typeof ExperimentView>;

/** `GET /admin/experiments?name=&status=&cursor=&limit=`. */
export const ExperimentList = z
  .object({
    experiments: z.array(ExperimentView),
    cursor: z.string().nullable(),
  })
  .meta({ id: 'ExperimentList' });
export type ExperimentList = z.infer<typeof ExperimentList>;
/** `GET /admin/experiments/<id>/looks`: of the current seed, oldest first, thinned out. */
export const ExperimentLooks = z
  .object({ looks: z.array(ExperimentEvaluation) })
  .meta({ id: 'ExperimentLooks' });
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
      '409 `version_conflict` when the experiment has changed (`expect`) or its state forbids ' +
      'this; 503 `registry_unavailable` when the change is recorded but the edge does not know it ' +
      'yet.',
    request,
    mayBeEmpty: true,
    answers: { 200: view('The experiment after the change.') },
  }) as const;

export const EXPERIMENT_OPERATIONS = {
  'POST /admin/experiments': {
    ...shared,
    id: 'createExperiment',
    summary: 'Creates a draft.',
    query: null,
    request: CreateExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 201: view('The draft.') },
  },
  'POST /admin/experiments/plan': {
    ...shared,
    id: 'planExperiment',
    summary:
      'Estimates what an experiment could find, and when, from the traffic of its name. Creates nothing.',
    query: null,
    request: PlanExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 200: { description: 'The plan.', schema: ExperimentPlan } },
  },
  'GET /admin/experiments': {
    ...shared,
    id: 'listExperiments',
    summary: "Lists the tenant's experiments, newest first.",
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
    answers: { 200: { description: 'A page of experiments.', schema: ExperimentList } },
  },
  'GET /admin/experiments/:id': {
    ...one,
    id: 'readExperiment',
    summary: 'Shows one experiment with its latest look.',
    request: null,
    answers: { 200: view('The experiment.') },
  },
  'PUT /admin/experiments/:id': {
    ...one,
    id: 'changeExperiment',
    summary: 'Replaces the whole document; its version must be one above the one that was read.',
    description:
      "409 `version_conflict`, with the field in `param`, when the experiment's state forbids the change.",
    request: ChangeExperiment,
    maxBytes: MAX_EXPERIMENT_BODY_BYTES,
    answers: { 200: view('The experiment after the change, or as it would be (`dry_run`).') },
  },
  'POST /admin/experiments/:id/start': step('startExperiment', StartExperiment, 'Starts a draft.'),
  'POST /admin/experiments/:id/ramp': step(
    'rampExperiment',
    RampExperiment,
    'Raises the coverage now: to the next step of the ramp, or to the given value.',
  ),
  'POST /admin/experiments/:id/stop': step(
    'stopExperiment',
    StopExperiment,
    'Ends the experiment without a winner: everybody gets the name’s live version.',
  ),
  'POST /admin/experiments/:id/kill': step(
    'killExperiment',
    KillExperiment,
    'Turns the kill switch on or off.',
  ),
  'POST /admin/experiments/:id/promote': step(
    'promoteExperiment',
    PromoteExperiment,
    "Ends the experiment: the variant’s version becomes the name's live version.",
  ),
  'POST /admin/experiments/:id/archive': step(
    'archiveExperiment',
    ArchiveExperiment,
    'Archives a draft or a decided experiment.',
  ),
  'POST /admin/experiments/:id/evaluate': {
    ...one,
    id: 'evaluateExperiment',
    summary: 'Evaluates the experiment now, as the schedule does every minute, and acts on the decision.',
    request: null,
    answers: { 200: view('The experiment with the new look.') },
  },
  'GET /admin/experiments/:id/pairs': {
    ...one,
    id: 'listKeptPairs',
    summary: 'Lists the last judged pairs with their texts, newest first, if `keep_pairs` is set.',
    description:
      "Only for the tenant that owns the name; not even the bootstrap key reads another tenant's " +
      'pairs. Everybody else gets a 404.',
    request: null,
    answers: { 200: { description: 'The pairs.', schema: KeptPairList } },
  },
  'GET /admin/experiments/:id/judge-secret': {
    ...one,
    id: 'readJudgeSecret',
    summary: 'Shows the secret that verifies calls to `judge.url`.',
    description: 'Only for the tenant that owns the name. 404 when the experiment has no `judge.url`.',
    request: null,
    answers: { 200: { description: 'The secret.', schema: JudgeSecret } },
  },
  'GET /admin/experiments/:id/looks': {
    ...one,
    id: 'listExperimentLooks',
    summary: 'Lists the looks of the current seed, oldest first.',
    request: null,
    answers: { 200: { description: 'The looks.', schema: ExperimentLooks } },
  },
} as const satisfies AdminOperationTable;
