/** How the values of one variant on one metric are spread. */
import { z } from 'zod';

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
