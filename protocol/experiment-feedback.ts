/** How an answer that belongs to an experiment is rated. */
import { z } from 'zod';

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
