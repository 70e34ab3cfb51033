import { z } from 'zod';
import { Digest } from './identity.ts';
import { MAX_CHAIN, MAX_PINNED_NAMES } from './limits.ts';

/** `POST /adapters/pins` of an origin: one chain to keep in memory. */
export const PinRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_CHAIN) });
export type PinRequest = z.infer<typeof PinRequest>;

/** `POST /adapters/prefetch` of an origin: one chain to load before anybody asks for it. */
export const PrefetchRequest = z.strictObject({
  digests: z.array(Digest).min(1).max(MAX_CHAIN),
  /** Nothing is done where this adapter is not in memory. */
  if_resident: Digest.optional(),
});
export type PrefetchRequest = z.infer<typeof PrefetchRequest>;

/** `POST /adapters/pins` and `POST /adapters/prefetch`: what became of each adapter. */
export const LoadAnswer = z.object({
  results: z.array(
    z.object({
      digest: Digest,
      ok: z.boolean(),
      error: z.object({ code: z.string(), message: z.string() }).optional(),
    }),
  ),
});
export type LoadAnswer = z.infer<typeof LoadAnswer>;

/** `PUT /adapters/pins` of an origin: all that stays pinned. */
export const KeepPinsRequest = z.strictObject({
  digests: z.array(Digest).max(MAX_PINNED_NAMES * MAX_CHAIN),
});
export type KeepPinsRequest = z.infer<typeof KeepPinsRequest>;

/** Adapters of one {@link DropRequest}. */
export const MAX_DROPPED_AT_ONCE = 100;

/** `POST /adapters/drop` of an origin: adapters that it is to let go of, in memory and on disk. */
export const DropRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_DROPPED_AT_ONCE) });
export type DropRequest = z.infer<typeof DropRequest>;

/** Its answer: files that it held, and adapters that a row which runs keeps in memory until it ends. */
export const DropAnswer = z.object({ files: z.int().min(0), in_use: z.int().min(0) });
export type DropAnswer = z.infer<typeof DropAnswer>;
