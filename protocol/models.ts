/** Models of OpenAI's API. */
import { z } from 'zod';

/** `GET /v1/models/<name>`. */
export const Model = z.object({
  id: z.string(),
  object: z.literal('model'),
  /** Unix seconds. */
  created: z.int(),
  owned_by: z.string(),
  /** Ours: the base model or the parent adapter's name. */
  parent: z.string().nullable().optional(),
  /** Ours: the base model. */
  root: z.string().optional(),
});
export type Model = z.infer<typeof Model>;

/** `GET /v1/models?prefix=&after=` of the edge. */
export const ModelList = z.object({
  object: z.literal('list'),
  data: z.array(Model),
  /** Ours: there are more, or may be: the registry is asked a few times for one answer. */
  has_more: z.boolean(),
  /** Ours: pass it back as `after` to go on; a page can be empty and have more behind it. */
  after: z.string().optional(),
});
export type ModelList = z.infer<typeof ModelList>;
