/** The admin API's upkeep: repair of KV and of stored files, garbage collection. */
import { Hono } from 'hono';
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import { ExperimentId } from '../../protocol/admin-api/experiments.ts';
import {
  type CollectGarbageAnswer,
  type RepairAnswer,
  REPAIR_OF_BLOBS,
  REPAIR_STEPS,
  repairStepOf,
  type RepairRequest,
  type RepairStepName,
  type Mended,
} from '../../protocol/admin-api/upkeep.ts';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { sameJson } from '../../protocol/identity.ts';
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
import { GARBAGE_DELETIONS, REPAIR_BLOB_BYTES, REPAIR_PARTS } from '../blobs/limits.ts';
import { repairGrants, removeUnknownGrants, repairKeys, removeUnknownKeys } from '../access/repair-rights.ts';
import { REPAIR_PAGE } from '../limits.ts';
import type { ExperimentRow } from '../experiments/ports.ts';
import { MAX_DEPENDENTS_TOLD } from './limits.ts';
import { readPart, type BadPart, writeRecordAnew } from '../blobs/stored-file.ts';
import { adapterUnavailable } from '../errors.ts';

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

/**
 * Every finished file, read whole as it lies in the store: its record is written again where it is otherwise. Parts that
 * are lost or damaged are taken back from an origin that still has the file, and written again; a file of which none has
 * them is marked, so that who publishes it again sends it again. Told by the versions.
 */
const repairBlobs: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.blobLedger.records({ cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  let [checked, bytes] = [0, 0];
  for (const { digest, record } of page.items) {
    if (checked > 0 && bytes + record.bytes > REPAIR_BLOB_BYTES)
      return { checked, mended, cursor: page.items[checked - 1]?.digest ?? null };
    checked += 1;
    bytes += record.bytes;
    const was = await writeRecordAnew(deps.blobs, { digest, record, dryRun });
    if (was !== null && (await isGone(deps, digest))) {
      if (!dryRun) await deps.blobs.delete(digest);
      continue;
    }
    if (was !== null) mended.push(...(await told(deps, digest, { was, did: 'written' })));
    const bad = await badParts(deps, digest, record);
    if (bad[0] === undefined || (await isGone(deps, digest))) continue;
    const restored = await restoreParts(deps, { digest, record, bad, dryRun });
    // What comes from an origin counts like what is read here.
    bytes += restored.bytes;
    if (restored.gone) continue;
    if (!restored.all && !dryRun) await deps.blobLedger.markDamaged({ digest, at: deps.now() });
    const did = restored.all ? 'written' : 'marked';
    mended.push(...(await told(deps, digest, { was: bad[0].was, did })));
  }
  return { checked, mended, cursor: page.cursor };
};

/** Looks whether the parts of every finished file are there, and reads none of them; what is lost is told, and left. */
const findLostFiles: RepairStep = async (deps, { cursor }) => {
  const page = await deps.blobLedger.records({ cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  let [checked, parts] = [0, 0];
  for (const { digest, record } of page.items) {
    if (checked > 0 && parts + record.parts.length > REPAIR_PARTS)
      return { checked, mended, cursor: page.items[checked - 1]?.digest ?? null };
    checked += 1;
    parts += record.parts.length;
    if ((await hasAllParts(deps, digest, record)) || (await isGone(deps, digest))) continue;
    mended.push(...(await told(deps, digest, { was: 'missing', did: 'left' })));
  }
  return { checked, mended, cursor: page.cursor };
};

async function hasAllParts({ blobs }: RepairDeps, digest: string, record: BlobRecord): Promise<boolean> {
  for (const { sha256 } of record.parts) {
    const stream = await blobs.getPart(digest, sha256, { fresh: true });
    if (stream === null) return false;
    await stream.cancel().catch(() => undefined);
  }
  return true;
}

/** The file was erased, or deleted as garbage, since its record was read: nothing of it is to come back. */
const isGone = async ({ blobLedger }: Pick<RepairDeps, 'blobLedger'>, digest: string): Promise<boolean> =>
  (await blobLedger.record(digest)) === null;

async function badParts(deps: RepairDeps, digest: string, record: BlobRecord): Promise<BadPart[]> {
  const bad: BadPart[] = [];
  for (const [index, part] of record.parts.entries()) {
    const found = await readPart(deps, { digest, index, part }, () => undefined, { fresh: true });
    if (found !== null) bad.push(found);
  }
  return bad;
}

/** One entry for each version whose own file it is; for one that is none's yet, its digest. */
async function told(
  { registry }: RepairDeps,
  digest: string,
  what: Pick<Mended, 'was' | 'did'>,
): Promise<Mended[]> {
  const versions = await registry.versionsOf({ digest, limit: MAX_DEPENDENTS_TOLD });
  const ids = versions.map(({ name, version }) => `${name}@${version}`);
  return (ids.length === 0 ? [digest] : ids).map((id) => ({ kind: 'blob', id, ...what }));
}

/** No tenant's: it is the operator who has files repaired. */
const REPAIR = '';

/**
 * Takes lost parts of a file back from an origin that holds it, each compared with its hash before it is written. When
 * all of them are there again, so is the file, for everybody who held it. Of one that is gone meanwhile, what was written
 * is left to the collector of garbage.
 * @param params.dryRun asks for them, and writes nothing.
 * @returns whether all are there again, or would be, and how many bytes came. @throws StoreUnavailable
 */
async function restoreParts(
  deps: Pick<RepairDeps, 'blobs' | 'blobLedger' | 'heldFiles' | 'uploadMemory' | 'now'>,
  params: { digest: string; record: BlobRecord; bad: readonly BadPart[]; dryRun: boolean },
): Promise<{ all: boolean; gone: boolean; bytes: number }> {
  const { digest, record, bad, dryRun } = params;
  const written: BlobPart[] = [];
  let [all, bytes] = [true, 0];
  for (const { index } of bad) {
    const part = { index, ...(record.parts[index] as BlobRecord['parts'][number]) };
    const begin = record.parts.slice(0, index).reduce((sum, before) => sum + before.bytes, 0);
    const holding = { tenant: REPAIR, kind: 'part' as const, bytes: part.bytes };
    const restored = await deps.uploadMemory.hold(holding, async (): Promise<Result<null, ApiError>> => {
      const found = await deps.heldFiles.part(digest, { begin, ...part });
      if (found === null) return err(adapterUnavailable('No origin has it.'));
      if (dryRun) return ok(null);
      if ((await isGone(deps, digest)) || !(await deps.blobLedger.storing({ digest, part, at: deps.now() })))
        return err(adapterUnavailable('It is being deleted.'));
      written.push(part);
      await deps.blobs.putPart(digest, part.sha256, found);
      return ok(null);
    });
    all = restored.ok;
    if (!all) break;
    bytes += part.bytes;
  }
  const gone =
    all && !dryRun ? !(await deps.blobLedger.mended({ digest, at: deps.now() })) : await isGone(deps, digest);
  // Whoever deleted it may have done so before they were written.
  if (gone) for (const part of written) await deps.blobLedger.storing({ digest, part, at: 0 });
  return { all, gone, bytes };
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
