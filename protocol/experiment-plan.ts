/** What an experiment will be able to tell, and when: before it is made, and while it runs. */
import { z } from 'zod';

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
