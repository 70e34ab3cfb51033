/** What is sent of experiments, by the admin API and as ratings of answers, and what a plan says before one is made: what it will be able to tell, and when; docs/experiments.md explains the words. */
import { z } from 'zod';
import { Why as WhyText } from './admin-api/history.ts';
import { ExperimentGuardrail } from './experiment-guardrail.ts';
import { Experiment, ExperimentShape } from './experiment.ts';
import { MAX_EXPERIMENT_METRICS } from './limits.ts';

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
  /** The `id` of the answer that is rated; either this or `exposure`. */
  id: z.string().min(1).optional(),
  /** What `x-graft-exposure` said with it. */
  exposure: z.string().min(1).optional(),
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
