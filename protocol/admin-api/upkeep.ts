/** Repair of KV and collection of garbage, as the admin API answers. */
import { z } from 'zod';

/** Something that KV had otherwise than the system of record says. */
export const Mended = z.object({
  kind: z.enum(['name', 'experiment', 'key', 'grant', 'blob']),
  /** The name, the experiment's or key's id, the tenant (`*` = everybody), a file's version or digest. */
  id: z.string(),
  /** What was wrong; `unknown` when the system of record has no such thing, `damaged` when bytes are not the file's. */
  was: z.enum(['missing', 'unreadable', 'outdated', 'unknown', 'damaged']),
  /** What was done; `marked`: publishing it again sends its bytes again. */
  did: z.enum(['written', 'removed', 'revoked', 'marked']),
});
export type Mended = z.infer<typeof Mended>;

/** `POST /admin/repair`: one page of one step. */
export const RepairAnswer = z.object({
  /** `names`, with their experiments, `keys`, `grants`, `unknown-` and one of these or `experiments`, `rows`, or `blobs`. */
  step: z.string(),
  /** Entries compared. */
  checked: z.int().min(0),
  mended: z.array(Mended),
  /** Rows of the system of record that nobody can read. Not of edges of before. */
  damaged: z.array(z.object({ table: z.string(), id: z.string(), column: z.string() })).optional(),
  /** Goes on; null at the end of the last step. */
  cursor: z.string().nullable(),
});
export type RepairAnswer = z.infer<typeof RepairAnswer>;

export const GarbageFile = z.object({
  digest: z.string(),
  bytes: z.int().min(0),
  /** `waits` = marked already, and not for long enough. */
  action: z.enum(['marked', 'waits', 'deleted']),
  /** Unix ms: when it can be deleted, at the earliest; null = now, or done. */
  deletable_at: z.int().nullable(),
});
export type GarbageFile = z.infer<typeof GarbageFile>;

/** `POST /admin/gc`: a page of files that nothing needs. */
export const CollectGarbageAnswer = z.object({
  files: z.array(GarbageFile),
  /** Of files that stay: sent and never finished, or none of what the finished file is made of. Not of edges of before. */
  parts: z.object({ deleted: z.int().min(0), bytes: z.int().min(0) }).optional(),
  /** Goes on; null at the end. */
  cursor: z.string().nullable(),
});
export type CollectGarbageAnswer = z.infer<typeof CollectGarbageAnswer>;
