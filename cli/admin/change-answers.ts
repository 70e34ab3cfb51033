/** Answers of the admin API about changes of names and the upkeep of the stores, as far as commands read them. */
import { z } from 'zod';

/** A flip: what is live now, and what was before; null = nothing. */
export const Flipped = z.object({ name: z.string(), version: z.int(), from: z.int().nullable() });
export type Flipped = z.infer<typeof Flipped>;

export const Retired = z.object({ name: z.string(), version: z.int(), retired_at: z.number() });
export const Aliased = z.object({
  name: z.string(),
  target: z.string().nullable(),
  from: z.string().nullable(),
});

export const Change = z.object({
  id: z.int(),
  name: z.string(),
  owner: z.string(),
  /** Unix ms. */
  at: z.number(),
  /** Id of the key. */
  actor: z.string(),
  action: z.string(),
  /** Live version before. */
  from: z.int().nullable(),
  /** Version that the change is about. */
  to: z.int().nullable(),
  /** Of an alias. */
  target: z.string().nullable(),
  why: z.string().nullable(),
});
export type Change = z.infer<typeof Change>;
export const Changes = z.object({ changes: z.array(Change), before: z.int().nullable() });

export const Mended = z.object({ kind: z.string(), id: z.string(), was: z.string(), did: z.string() });
export type Mended = z.infer<typeof Mended>;
export const RepairedPage = z.object({
  step: z.string(),
  checked: z.int(),
  mended: z.array(Mended),
  cursor: z.string().nullable(),
});

export const GarbageFile = z.object({
  digest: z.string(),
  bytes: z.int(),
  action: z.enum(['marked', 'waits', 'deleted']),
  /** Unix ms. */
  deletable_at: z.number().nullable(),
});
export type GarbageFile = z.infer<typeof GarbageFile>;
export const GarbagePage = z.object({ files: z.array(GarbageFile), cursor: z.string().nullable() });
