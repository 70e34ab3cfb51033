/** Repair of KV and collection of garbage: what the admin API takes and answers. */
import { z } from 'zod';
import { Digest } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** In this order. What is in the system of record comes first, so that nothing good waits for the rest. */
export const REPAIR_STEPS = [
  'names',
  'keys',
  'grants',
  'unknown-names',
  'unknown-experiments',
  'unknown-keys',
  'unknown-grants',
  'rows',
  'files',
] as const;
/** A run of its own, which reads all adapters' bytes. */
export const REPAIR_OF_BLOBS = 'blobs';
export type RepairStepName = (typeof REPAIR_STEPS)[number] | typeof REPAIR_OF_BLOBS;

/** Longest cursor: KV's own are a few hundred characters. */
const MAX_CURSOR = 2_048;

/** @param cursor `<step>:<where in it>`. @returns undefined when it is none. */
export const repairStepOf = (cursor: string): RepairStepName | undefined =>
  [...REPAIR_STEPS, REPAIR_OF_BLOBS].find((step): step is RepairStepName => cursor.startsWith(`${step}:`));

/** `POST /admin/repair`. */
export const RepairRequest = z
  .strictObject({
    /** Says what would be mended. */
    dry_run: z.boolean().nullish(),
    /** Reads the adapters' bytes instead, and finds what is lost or damaged. */
    blobs: z.boolean().nullish(),
    /** Of the answer before; the beginning unless given. */
    cursor: z
      .string()
      .max(MAX_CURSOR)
      .refine((cursor) => repairStepOf(cursor) !== undefined, 'is not a cursor of an earlier answer')
      .nullish(),
  })
  .meta({ id: 'RepairRequest' });
export type RepairRequest = z.infer<typeof RepairRequest>;

/** `POST /admin/gc`. */
export const CollectGarbageRequest = z
  .strictObject({
    /** Says what would be done. */
    dry_run: z.boolean().nullish(),
    /** Of the answer before; the first files unless given. */
    cursor: Digest.nullish(),
  })
  .meta({ id: 'CollectGarbageRequest' });
export type CollectGarbageRequest = z.infer<typeof CollectGarbageRequest>;

/** Something that KV had otherwise than the system of record says. */
export const Mended = z
  .object({
    kind: z.enum(['name', 'experiment', 'key', 'grant', 'blob']),
    /** The name, the experiment's or key's id, the tenant (`*` = everybody), a file's version or digest. */
    id: z.string(),
    /** What was wrong; `unknown` when the system of record has no such thing, `damaged` when bytes are not the file's. */
    was: z.enum(['missing', 'unreadable', 'outdated', 'unknown', 'damaged']),
    /**
     * What was done; `marked`: no origin has the bytes either, and publishing it again sends them again; `left`: a run over
     * the adapters' bytes mends it.
     */
    did: z.enum(['written', 'removed', 'revoked', 'marked', 'left']),
  })
  .meta({ id: 'Mended' });
export type Mended = z.infer<typeof Mended>;

/** `POST /admin/repair`: one page of one step. */
export const RepairAnswer = z
  .object({
    /** `names`, with their experiments, `keys`, `grants`, `unknown-` and one of these or `experiments`, `rows`, `files`, or `blobs`. */
    step: z.string(),
    /** Entries compared. */
    checked: z.int().min(0),
    mended: z.array(Mended),
    /** Rows of the system of record that nobody can read. */
    damaged: z.array(z.object({ table: z.string(), id: z.string(), column: z.string() })).optional(),
    /** Goes on; null at the end of the last step. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'RepairAnswer' });
export type RepairAnswer = z.infer<typeof RepairAnswer>;

export const GarbageFile = z
  .object({
    digest: z.string(),
    bytes: z.int().min(0),
    /** `waits` = marked already, and not for long enough. */
    action: z.enum(['marked', 'waits', 'deleted']),
    /** Unix ms: when it can be deleted, at the earliest; null = now, or done. */
    deletable_at: z.int().nullable(),
  })
  .meta({ id: 'GarbageFile' });
export type GarbageFile = z.infer<typeof GarbageFile>;

/** `POST /admin/gc`: a page of files that nothing needs. */
export const CollectGarbageAnswer = z
  .object({
    files: z.array(GarbageFile),
    /** Of files that stay: sent and never finished, or none of what the finished file is made of. */
    parts: z.object({ deleted: z.int().min(0), bytes: z.int().min(0) }),
    /** Goes on; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'CollectGarbageAnswer' });
export type CollectGarbageAnswer = z.infer<typeof CollectGarbageAnswer>;

export const UPKEEP_OPERATIONS = {
  'POST /admin/repair': {
    id: 'repairPage',
    tag: 'operation',
    rights: 'operator',
    summary: 'Compares a page of KV with the system of record and mends it. Bootstrap key only.',
    query: null,
    request: RepairRequest,
    answers: { 200: { description: 'What was mended; `cursor` goes on.', schema: RepairAnswer } },
  },
  'POST /admin/gc': {
    id: 'collectGarbage',
    tag: 'operation',
    rights: 'operator',
    summary: 'Deletes a page of files that nothing needs. Bootstrap key only.',
    query: null,
    request: CollectGarbageRequest,
    answers: {
      200: { description: 'What became of each file; `cursor` goes on.', schema: CollectGarbageAnswer },
    },
  },
} as const satisfies AdminOperationTable;
