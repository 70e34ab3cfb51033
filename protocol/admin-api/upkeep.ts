/** Repair of KV and garbage collection: requests and answers of the admin API. */
import { z } from 'zod';
import { Digest } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** In this order: everything in D1 first, so that nothing valid waits for the rest. */
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
/** A separate run that reads all adapters' bytes. */
export const REPAIR_OF_BLOBS = 'blobs';
export type RepairStepName = (typeof REPAIR_STEPS)[number] | typeof REPAIR_OF_BLOBS;

/** Longest cursor: KV's own have a few hundred characters. */
const MAX_CURSOR = 2_048;

/** @param cursor `<step>:<position>`. @returns undefined when it is invalid. */
export const repairStepOf = (cursor: string): RepairStepName | undefined =>
  [...REPAIR_STEPS, REPAIR_OF_BLOBS].find((step): step is RepairStepName => cursor.startsWith(`${step}:`));

/** `POST /admin/repair`. */
export const RepairRequest = z
  .strictObject({
    /** Only reports what would be repaired. */
    dry_run: z.boolean().nullish(),
    /** Reads the adapters' bytes instead, and finds missing or corrupted ones. */
    blobs: z.boolean().nullish(),
    /** Cursor of the previous answer; default: the beginning. */
    cursor: z
      .string()
      .max(MAX_CURSOR)
      .refine((cursor) => repairStepOf(cursor) !== undefined, 'is not a cursor from an earlier response')
      .nullish(),
  })
  .meta({ id: 'RepairRequest' });
export type RepairRequest = z.infer<typeof RepairRequest>;

/** `POST /admin/gc`. */
export const CollectGarbageRequest = z
  .strictObject({
    /** Only reports what would be done. */
    dry_run: z.boolean().nullish(),
    /** Cursor of the previous answer; default: the first files. */
    cursor: Digest.nullish(),
  })
  .meta({ id: 'CollectGarbageRequest' });
export type CollectGarbageRequest = z.infer<typeof CollectGarbageRequest>;

/** A difference between KV and D1. */
export const Mended = z
  .object({
    kind: z.enum(['name', 'experiment', 'key', 'grant', 'blob']),
    /** The name, the experiment's or key's id, the tenant (`*` = everybody), a file's version or digest. */
    id: z.string(),
    /** The problem; `unknown`: D1 has no such thing, `damaged`: the bytes are not the file's. */
    was: z.enum(['missing', 'unreadable', 'outdated', 'unknown', 'damaged']),
    /**
     * What was done; `marked`: no origin has the bytes either, and publishing the file again sends them again;
     * `left`: a run over the adapters' bytes repairs it.
     */
    did: z.enum(['written', 'removed', 'revoked', 'marked', 'left']),
  })
  .meta({ id: 'Mended' });
export type Mended = z.infer<typeof Mended>;

/** `POST /admin/repair`: one page of one step. */
export const RepairAnswer = z
  .object({
    /**
     * `names` (with their experiments), `keys`, `grants`, `unknown-` and one of these or `experiments`, `rows`,
     * `files`, or `blobs`.
     */
    step: z.string(),
    /** Entries compared. */
    checked: z.int().min(0),
    mended: z.array(Mended),
    /** Unreadable rows of D1. */
    damaged: z.array(z.object({ table: z.string(), id: z.string(), column: z.string() })).optional(),
    /** Cursor of the next page; null at the end of the last step. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'RepairAnswer' });
export type RepairAnswer = z.infer<typeof RepairAnswer>;

export const GarbageFile = z
  .object({
    digest: z.string(),
    bytes: z.int().min(0),
    /** `waits` = marked already, but not long enough ago. */
    action: z.enum(['marked', 'waits', 'deleted']),
    /** Unix ms: when it can be deleted, at the earliest; null = now, or already deleted. */
    deletable_at: z.int().nullable(),
  })
  .meta({ id: 'GarbageFile' });
export type GarbageFile = z.infer<typeof GarbageFile>;

/** `POST /admin/gc`: a page of unused files. */
export const CollectGarbageAnswer = z
  .object({
    files: z.array(GarbageFile),
    /** Parts beside kept files: of uploads that were never completed, or not part of the completed file. */
    parts: z.object({ deleted: z.int().min(0), bytes: z.int().min(0) }),
    /** Cursor of the next page; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'CollectGarbageAnswer' });
export type CollectGarbageAnswer = z.infer<typeof CollectGarbageAnswer>;

export const UPKEEP_OPERATIONS = {
  'POST /admin/repair': {
    id: 'repairPage',
    tag: 'operation',
    rights: 'operator',
    summary: 'Compares a page of KV with D1 and repairs differences. Bootstrap key only.',
    query: null,
    request: RepairRequest,
    answers: { 200: { description: 'What was repaired; pass `cursor` to continue.', schema: RepairAnswer } },
  },
  'POST /admin/gc': {
    id: 'collectGarbage',
    tag: 'operation',
    rights: 'operator',
    summary: 'Deletes a page of unused files. Bootstrap key only.',
    query: null,
    request: CollectGarbageRequest,
    answers: {
      200: {
        description: 'What happened to each file; pass `cursor` to continue.',
        schema: CollectGarbageAnswer,
      },
    },
  },
} as const satisfies AdminOperationTable;
