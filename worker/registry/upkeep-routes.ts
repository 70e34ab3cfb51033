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
import { deleteLeftRecord, readPart, type BadPart, writeRecordAnew } from '../blobs/stored-file.ts';
import { adapterUnavailable } from '../errors.ts';

const rootOnly: ApiError = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key may do this: it concerns every tenant.',
};

/** Only for the bootstrap key, one page per request: repeat with the response's `cursor` until it is null. */
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
 * Compares a page of names, experiments, keys and grants in KV, or of adapters' bytes, with the system of
 * record, and rewrites what differs. Reads may be half a minute old, so recent changes may be written again.
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

/** @returns the cursor of the next step; null at the end. */
function startAfter(step: RepairStepName): string | null {
  const next = step === REPAIR_OF_BLOBS ? undefined : REPAIR_STEPS[REPAIR_STEPS.indexOf(step) + 1];
  return next === undefined ? null : `${next}:`;
}

/**
 * Marks experiments in KV that the system of record does not have, and those that no name's pointer keeps up
 * to date: drafts, and archived ones that are live in KV. The others are written with their names.
 */
const removeUnknownExperiments: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'experiment:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const id of page.items) {
    // Invalid ids are never read.
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

/** Whether its name's pointer contains it, so that the names' step has repaired it. */
async function isKept({ registry }: RepairDeps, { id, document }: ExperimentRow): Promise<boolean> {
  const pointer = await registry.pointer(document.name);
  return pointer.kind === 'version' && pointer.experiment?.id === id;
}

/**
 * Reads every finished file from the store and rewrites its record if it differs. Lost or damaged parts are
 * restored from an origin that still has the file. If none has, the file is marked, so that publishing it
 * again uploads it again. Reported by version.
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
      if (!dryRun) await deleteLeftRecord(deps, digest);
      continue;
    }
    if (was !== null) mended.push(...(await told(deps, digest, { was, did: 'written' })));
    const bad = await badParts(deps, digest, record);
    if (bad[0] === undefined || (await isGone(deps, digest))) continue;
    const restored = await restoreParts(deps, { digest, record, bad, dryRun });
    // Bytes from an origin count like bytes read here.
    bytes += restored.bytes;
    if (restored.gone) continue;
    if (!restored.all && !dryRun) await deps.blobLedger.markDamaged({ digest, at: deps.now() });
    const did = restored.all ? 'written' : 'marked';
    mended.push(...(await told(deps, digest, { was: bad[0].was, did })));
  }
  return { checked, mended, cursor: page.cursor };
};

/** Checks that all parts of every finished file exist, without reading them. Lost ones are only reported. */
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

/** The file was erased or collected as garbage since its record was read, so it must not return. */
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

/** One entry per version with this file as its own; if there is none yet, the digest. */
async function told(
  { registry }: RepairDeps,
  digest: string,
  what: Pick<Mended, 'was' | 'did'>,
): Promise<Mended[]> {
  const versions = await registry.versionsOf({ digest, limit: MAX_DEPENDENTS_TOLD });
  const ids = versions.map(({ name, version }) => `${name}@${version}`);
  return (ids.length === 0 ? [digest] : ids).map((id) => ({ kind: 'blob', id, ...what }));
}

/** Belongs to no tenant: the operator repairs files. */
const REPAIR = '';

/**
 * Restores lost parts of a file from an origin that has it; verifies each part's hash before writing it. Once
 * all parts exist, the file is available to all its holders again. If the file is deleted in the meantime,
 * garbage collection removes the written parts.
 * @param params.dryRun requests them, but writes nothing.
 * @returns whether all parts exist again, or would, and the bytes received.
 * @throws StoreUnavailable
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
  // Whoever deleted the file may have missed the parts written since.
  if (gone) for (const part of written) await deps.blobLedger.leave({ digest, part });
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
