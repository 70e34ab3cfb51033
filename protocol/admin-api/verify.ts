/** Every origin's word on a version, as the admin API answers: does it still say what it said when it was published? */
import { z } from 'zod';
import { Digest } from '../identity.ts';

export const OriginVerdict = z.object({
  /** Of the origin. */
  id: z.string(),
  ok: z.boolean(),
  /** As in the origin's answer, or why there is none to compare. */
  reason: z.string().nullable(),
  /** KL(stored proof || now), nats a token; null when they cannot be compared. */
  kl: z.number().nullable(),
  /** Largest change that the adapter makes there, nats; null when the origin did not try it. */
  max_difference: z.number().nullable(),
});
export type OriginVerdict = z.infer<typeof OriginVerdict>;

/** `POST /admin/verify`. */
export const VerifyVersionAnswer = z.object({
  name: z.string(),
  version: z.int().positive(),
  digest: Digest,
  origins: z.array(OriginVerdict),
});
export type VerifyVersionAnswer = z.infer<typeof VerifyVersionAnswer>;
