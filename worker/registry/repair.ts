import { z } from 'zod';
import type { RepairAnswer } from '../../protocol/index.ts';
import { repairBlobs } from '../blobs/repair-blobs.ts';
import { removeUnknownExperiments } from '../experiments/repair-experiments.ts';
import { repairGrants, removeUnknownGrants } from '../access/repair-grants.ts';
import { repairKeys, removeUnknownKeys } from '../access/repair-keys.ts';
import { repairNames, removeUnknownNames } from './repair-names.ts';
import { reportRows } from './repair-rows.ts';
import type { RepairDeps, RepairStep } from './repair-deps.ts';

/** In this order. What is in the system of record comes first, so that nothing good waits for the rest. */
const STEPS: readonly { name: string; run: RepairStep }[] = [
  { name: 'names', run: repairNames },
  { name: 'keys', run: repairKeys },
  { name: 'grants', run: repairGrants },
  { name: 'unknown-names', run: removeUnknownNames },
  { name: 'unknown-experiments', run: removeUnknownExperiments },
  { name: 'unknown-keys', run: removeUnknownKeys },
  { name: 'unknown-grants', run: removeUnknownGrants },
  { name: 'rows', run: reportRows },
];

/** A run of its own, which reads all adapters' bytes. */
const BLOBS = { name: 'blobs', run: repairBlobs };

/** Longest cursor: KV's own are a few hundred characters. */
const MAX_CURSOR = 2_048;

export const RepairRequest = z.strictObject({
  /** Says what would be mended. */
  dry_run: z.boolean().nullish(),
  /** Reads the adapters' bytes instead, and finds what is lost or damaged. */
  blobs: z.boolean().nullish(),
  /** Of the answer before; the beginning unless given. */
  cursor: z
    .string()
    .max(MAX_CURSOR)
    .refine((cursor) => stepOf(cursor) !== undefined, 'is not a cursor of an earlier answer')
    .nullish(),
});
export type RepairRequest = z.infer<typeof RepairRequest>;

/** `<step>:<where in it>`. */
const stepOf = (cursor: string) => [...STEPS, BLOBS].find(({ name }) => cursor.startsWith(`${name}:`));

/**
 * Compares a page of what KV holds of names, experiments, keys and grants, or of adapters' bytes, with the system of
 * record, and writes what is otherwise.
 * Reads may be half a minute old, so what was changed just now can be written once more.
 * @throws StoreUnavailable; the call may be repeated.
 */
export async function repair(
  deps: RepairDeps,
  params: { request: RepairRequest; actor: string },
): Promise<RepairAnswer> {
  const first = params.request.blobs ? BLOBS : STEPS[0];
  const cursor = params.request.cursor ?? `${first?.name}:`;
  const step = stepOf(cursor) as (typeof STEPS)[number];
  const page = await step.run(deps, {
    cursor: cursor.slice(step.name.length + 1) || null,
    dryRun: params.request.dry_run ?? false,
    actor: params.actor,
  });
  const next = step === BLOBS ? undefined : STEPS[STEPS.indexOf(step) + 1];
  const further =
    page.cursor === null ? (next === undefined ? null : `${next.name}:`) : `${step.name}:${page.cursor}`;
  return { ...page, step: step.name, cursor: further };
}
