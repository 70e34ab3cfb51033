/** Pinned names, as the admin API answers. */
import { z } from 'zod';

/** One origin's word on one chain. */
export const OriginPin = z.object({
  /** Of the origin. */
  id: z.string(),
  ok: z.boolean(),
  /** Why not. */
  reason: z.string().nullable(),
});
export type OriginPin = z.infer<typeof OriginPin>;

export const PinView = z.object({
  name: z.string(),
  /** Unix ms. */
  pinned_at: z.int(),
  /** Id of the key. */
  pinned_by: z.string(),
  /** `name@version`; null = nothing of it is live, and nothing is held. */
  live: z.string().nullable(),
  origins: z.array(OriginPin),
});
export type PinView = z.infer<typeof PinView>;

/** `GET`, `POST` and `DELETE /admin/pins`: all of them, as they are after it. */
export const PinList = z.object({ pins: z.array(PinView) });
export type PinList = z.infer<typeof PinList>;
