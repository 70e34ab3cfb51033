import { z } from 'zod';
import { Digest } from './identity.ts';
import { MAX_CHAIN, MAX_PINNED_NAMES } from './limits.ts';

/** `POST /adapters/pins` of an origin: one chain to keep in memory. */
export const PinRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_CHAIN) });
export type PinRequest = z.infer<typeof PinRequest>;

export const PinAnswer = z.object({
  results: z.array(
    z.object({
      digest: Digest,
      ok: z.boolean(),
      error: z.object({ code: z.string(), message: z.string() }).optional(),
    }),
  ),
});
export type PinAnswer = z.infer<typeof PinAnswer>;

/** `PUT /adapters/pins` of an origin: all that stays pinned. */
export const KeepPinsRequest = z.strictObject({
  digests: z.array(Digest).max(MAX_PINNED_NAMES * MAX_CHAIN),
});
export type KeepPinsRequest = z.infer<typeof KeepPinsRequest>;
