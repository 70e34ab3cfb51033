import {
  REPAIR_OF_BLOBS,
  REPAIR_STEPS,
  repairStepOf,
  type RepairAnswer,
  type RepairRequest,
  type RepairStepName,
} from '../../protocol/index.ts';
import { repairBlobs } from '../blobs/repair-blobs.ts';
import { removeUnknownExperiments } from '../experiments/repair-experiments.ts';
import { repairGrants, removeUnknownGrants } from '../access/repair-grants.ts';
import { repairKeys, removeUnknownKeys } from '../access/repair-keys.ts';
import { repairNames, removeUnknownNames } from './repair-names.ts';
import { reportRows } from './repair-rows.ts';
import type { RepairDeps, RepairStep } from './repair-deps.ts';

const RUNS: Readonly<Record<RepairStepName, RepairStep>> = {
  names: repairNames,
  keys: repairKeys,
  grants: repairGrants,
  'unknown-names': removeUnknownNames,
  'unknown-experiments': removeUnknownExperiments,
  'unknown-keys': removeUnknownKeys,
  'unknown-grants': removeUnknownGrants,
  rows: reportRows,
  blobs: repairBlobs,
};

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
  const { request, actor } = params;
  const first = request.blobs ? REPAIR_OF_BLOBS : REPAIR_STEPS[0];
  const cursor = request.cursor ?? `${first}:`;
  const step = repairStepOf(cursor) ?? first;
  const page = await RUNS[step](deps, {
    cursor: cursor.slice(step.length + 1) || null,
    dryRun: request.dry_run ?? false,
    actor,
  });
  return { ...page, step, cursor: page.cursor === null ? startAfter(step) : `${step}:${page.cursor}` };
}

/** @returns the cursor of the step after; null at the end. */
function startAfter(step: RepairStepName): string | null {
  const next = step === REPAIR_OF_BLOBS ? undefined : REPAIR_STEPS[REPAIR_STEPS.indexOf(step) + 1];
  return next === undefined ? null : `${next}:`;
}
