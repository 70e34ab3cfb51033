/** Changes of names and their history, as the admin API answers. */
import { z } from 'zod';

/** `POST /admin/flip`, `promote` and `rollback`. */
export const FlipAnswer = z.object({
  name: z.string(),
  /** What is live now. */
  version: z.int().positive(),
  /** What was before; null = nothing. */
  from: z.int().nullable(),
});
export type FlipAnswer = z.infer<typeof FlipAnswer>;

/** `POST /admin/retire`. */
export const RetireAnswer = z.object({
  name: z.string(),
  version: z.int().positive(),
  /** Unix ms. */
  retired_at: z.int(),
  /**
   * What other owners have made with it, and is not served any more: versions on top of it, and experiments that name it
   * or one of these. Edges from before do not say.
   */
  stops: z
    .object({ versions: z.int().min(0), experiments: z.int().min(0) })
    .default({ versions: 0, experiments: 0 }),
});
export type RetireAnswer = z.infer<typeof RetireAnswer>;

/** `POST /admin/alias`. */
export const AliasAnswer = z.object({
  name: z.string(),
  /** What it stands for now; null = nothing. */
  target: z.string().nullable(),
  /** What it stood for before; null = nothing. */
  from: z.string().nullable(),
  /** To the bootstrap key, of a new name among other tenants' names. */
  notice: z.string().optional(),
});
export type AliasAnswer = z.infer<typeof AliasAnswer>;

/** `POST /admin/strict`. */
export const StrictAnswer = z.object({
  name: z.string(),
  strict: z.boolean(),
  /** What it was before. */
  from: z.boolean(),
});
export type StrictAnswer = z.infer<typeof StrictAnswer>;

/** One change of a name. */
export const ChangeView = z.object({
  /** Grows with every change of any name. */
  id: z.int(),
  name: z.string(),
  /** Tenant. */
  owner: z.string(),
  /** Unix ms. */
  at: z.int(),
  /** Id of the key. */
  actor: z.string(),
  /** `publish`, `flip`, `retire` and so on. Any text: there will be others, and a history is only read. */
  action: z.string(),
  /** Live version before; null = none. */
  from: z.int().nullable(),
  /** Version that the change is about. */
  to: z.int().nullable(),
  /** Of an alias; id of an experiment. */
  target: z.string().nullable(),
  why: z.string().nullable(),
});
export type ChangeView = z.infer<typeof ChangeView>;

/** `GET /admin/history?name=&before=&limit=`. */
export const ChangeList = z.object({
  /** Newest first. */
  changes: z.array(ChangeView),
  /** Goes on where the answer ends; null at the end. */
  before: z.int().nullable(),
});
export type ChangeList = z.infer<typeof ChangeList>;
