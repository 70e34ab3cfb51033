import {
  type BlobPart,
  type BlobRecord,
  err,
  ok,
  type ApiError,
  type Result,
  type Mended,
} from '../../protocol/index.ts';
import { REPAIR_BLOB_BYTES, REPAIR_PARTS } from './limits.ts';
import { MAX_DEPENDENTS_TOLD } from '../registry/limits.ts';
import { REPAIR_PAGE } from '../limits.ts';
import { readPart, type BadPart, writeRecordAnew } from './stored-file.ts';
import type { RepairDeps, RepairStep } from '../registry/repair-names.ts';
import { adapterUnavailable } from '../errors.ts';

/**
 * Every finished file, read whole as it lies in the store: its record is written again where it is otherwise. Parts that
 * are lost or damaged are taken back from an origin that still has the file, and written again; a file of which none has
 * them is marked, so that who publishes it again sends it again. Told by the versions.
 */
export const repairBlobs: RepairStep = async (deps, { cursor, dryRun }) => {
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
      if (!dryRun) await deps.blobs.delete(digest, 0);
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
export const findLostFiles: RepairStep = async (deps, { cursor }) => {
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
  for (const [index, { sha256 }] of record.parts.entries()) {
    const stream = await blobs.getPart(digest, { index, sha256 }, { fresh: true });
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
