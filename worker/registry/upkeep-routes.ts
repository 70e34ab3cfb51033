/** The admin API's upkeep: repair of KV and of stored files, garbage collection. */
import { Hono } from 'hono';
import {
  type ApiError,
  type CollectGarbageAnswer,
  type RepairAnswer,
  REPAIR_OF_BLOBS,
  REPAIR_STEPS,
  repairStepOf,
  type RepairRequest,
  type RepairStepName,
  ExperimentId,
  sameJson,
  type Mended,
} from '../../protocol/index.ts';
import { collectGarbage, type GarbageDeps } from '../blobs/collect-garbage.ts';
import {
  type RepairDeps,
  type RepairStep,
  reportRows,
  repairNames,
  removeUnknownNames,
  unlessDamaged,
} from './repair-names.ts';
import { adminRoute } from '../http/admin-route.ts';
import type { AppEnv } from '../http/request.ts';
import { GARBAGE_DELETIONS } from '../blobs/limits.ts';
import { findLostFiles, repairBlobs } from '../blobs/repair-blobs.ts';
import { repairGrants, removeUnknownGrants, repairKeys, removeUnknownKeys } from '../access/repair-rights.ts';
import { REPAIR_PAGE } from '../limits.ts';
import type { ExperimentRow } from '../experiments/ports.ts';

const rootOnly: ApiError = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key may do this: it concerns every tenant.',
};

/** For the bootstrap key alone, a page a request; the answer's `cursor` goes on, null at the end. */
export function adminUpkeepRoutes(deps: RepairDeps & GarbageDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(
    routes,
    'POST /admin/repair',
    async ({ context, caller, request }) => {
      const repaired = await repair(deps, { request, actor: caller.keyId });
      return context.json(repaired satisfies RepairAnswer);
    },
    { operatorOnly: rootOnly },
  );

  adminRoute(
    routes,
    'POST /admin/gc',
    async ({ context, request }) => {
      const { dry_run, cursor: from } = request;
      const { files, parts, cursor } = await collectGarbage(deps, {
        dryRun: dry_run ?? false,
        cursor: from ?? null,
        deletions: GARBAGE_DELETIONS,
      });
      return context.json({
        files: files.map(({ deletableAt, ...file }) => ({ ...file, deletable_at: deletableAt })),
        parts,
        cursor,
      } satisfies CollectGarbageAnswer);
    },
    { operatorOnly: rootOnly },
  );
  return routes;
}

/**
 * Compares a page of what KV holds of names, experiments, keys and grants, or of adapters' bytes, with the system of
 * record, and writes what is otherwise.
 * Reads may be half a minute old, so what was changed just now can be written once more.
 * @throws StoreUnavailable; the call may be repeated.
 */
async function repair(
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

/**
 * Every experiment in KV that the system of record does not have, or that nobody is in and no name brings up to date:
 * drafts, and archived ones that KV has in use. It gets a mark. Others are written with their names.
 */
const removeUnknownExperiments: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'experiment:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const id of page.items) {
    // What is no id of an experiment is never read.
    if (!ExperimentId.safeParse(id).success) continue;
    const row = await unlessDamaged(deps.experimentLedger.get(id));
    if (row === 'damaged' || (row !== null && (await unlessDamaged(isKept(deps, row))))) continue;
    const found = await deps.experimentIndex.get(id);
    if (found.state === 'gone' || found.state === 'absent') continue;
    if (row !== null && found.state === 'found' && sameJson(found.value.document, row.document)) continue;
    mended.push({ kind: 'experiment', id, was: row === null ? 'unknown' : 'outdated', did: 'removed' });
    if (!dryRun) await deps.experimentIndex.remove(id);
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};

/** Whether its name's pointer has it, so that the names' step has seen to it. */
async function isKept({ registry }: RepairDeps, { id, document }: ExperimentRow): Promise<boolean> {
  const pointer = await registry.pointer(document.name);
  return pointer.kind === 'version' && pointer.experiment?.id === id;
}

const RUNS: Readonly<Record<RepairStepName, RepairStep>> = {
  names: repairNames,
  keys: repairKeys,
  grants: repairGrants,
  'unknown-names': removeUnknownNames,
  'unknown-experiments': removeUnknownExperiments,
  'unknown-keys': removeUnknownKeys,
  'unknown-grants': removeUnknownGrants,
  rows: reportRows,
  files: findLostFiles,
  blobs: repairBlobs,
};
