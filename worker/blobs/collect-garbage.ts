import {
  GARBAGE_COLLECT_MS,
  GARBAGE_MARK_MS,
  GARBAGE_PAGE,
  GARBAGE_SCAN,
  SURPLUS_KEPT_MS,
} from './limits.ts';
import type { BlobStore } from './ports.ts';
import type { BlobLedger, GarbageLedger, UnusedFile } from './d1-blob-ledger.ts';
import { writeRecordAnew } from './stored-file.ts';

export interface GarbageDeps {
  garbage: GarbageLedger;
  blobs: BlobStore;
  blobLedger: BlobLedger;
  /** Unix ms. */
  now: () => number;
}

export interface CollectedFile {
  digest: string;
  bytes: number;
  /** `waits` = marked already, but not long enough ago. */
  action: 'marked' | 'waits' | 'deleted';
  /** Unix ms: when it can be deleted, at the earliest; null = now, or already deleted. */
  deletableAt: number | null;
}

export interface CollectedPage {
  files: CollectedFile[];
  /** Of kept files: parts that were never completed, or are not part of the completed file. */
  parts: { deleted: number; bytes: number };
  /** Cursor of the files; null at the end. */
  cursor: string | null;
}

/** Values that may still be deleted in this run. */
export interface Budget {
  left: number;
}

/** Parts of a file, and its record, that one step deletes. */
const PARTS_AT_ONCE = 50;

/**
 * A page of garbage. Incomplete files are deleted a day after the last upload. Completed files that no version
 * has ever contained and nobody has touched for a day are marked, and deleted long after that; touching one
 * removes its mark. Parts that are not in their file's record are deleted a day after they were sent. D1
 * decides each step together with the question whether the file is in use. The next collection continues
 * interrupted work.
 * @param params.deletions approximate limit of deleted values. @throws StoreUnavailable
 */
export async function collectGarbage(
  deps: GarbageDeps,
  params: { dryRun: boolean; cursor: string | null; deletions: number },
): Promise<CollectedPage> {
  const { garbage, now } = deps;
  const { dryRun } = params;
  const budget: Budget = { left: params.deletions };
  const page = await garbage.unused({
    touchedBefore: now() - GARBAGE_MARK_MS,
    cursor: params.cursor,
    scan: GARBAGE_SCAN,
    limit: GARBAGE_PAGE,
  });
  const files: CollectedFile[] = [];
  let { cursor } = page;
  for (const [i, file] of page.items.entries()) {
    const collected = await collect(deps, file, dryRun, budget);
    if (collected !== null) files.push(collected);
    if (budget.left <= 0 && i < page.items.length - 1) {
      cursor = file.digest;
      break;
    }
  }
  return { files, parts: await collectParts(deps, dryRun, budget), cursor };
}

/** @returns null when the file has come into use in the meantime. */
async function collect(
  deps: GarbageDeps,
  file: UnusedFile,
  dryRun: boolean,
  budget: Budget,
): Promise<CollectedFile | null> {
  const { garbage, now } = deps;
  const { digest, bytes, deletingAt, collectingAt } = file;
  const at = now();
  if (collectingAt === null && !file.finished) {
    const touchedBefore = at - SURPLUS_KEPT_MS;
    if (file.touchedAt >= touchedBefore) return null;
    if (!dryRun && !(await garbage.beginDropping({ digest, touchedBefore, at }))) return null;
  } else if (collectingAt === null && deletingAt === null) {
    const marked = dryRun || (await garbage.mark({ digest, touchedBefore: at - GARBAGE_MARK_MS, at }));
    return marked ? { digest, bytes, action: 'marked', deletableAt: at + GARBAGE_COLLECT_MS } : null;
  } else if (collectingAt === null) {
    const markedBefore = at - GARBAGE_COLLECT_MS;
    if ((deletingAt ?? at) >= markedBefore)
      return { digest, bytes, action: 'waits', deletableAt: (deletingAt ?? at) + GARBAGE_COLLECT_MS };
    if (!dryRun && !(await garbage.beginCollecting({ digest, markedBefore, at }))) return null;
  }
  if (!dryRun) await deleteFile(deps, file, budget);
  return { digest, bytes, action: 'deleted', deletableAt: null };
}

/** What exceeds the budget is found again, as being deleted. */
export async function deleteFile(
  { garbage, blobs }: Pick<GarbageDeps, 'garbage' | 'blobs'>,
  { digest }: Pick<UnusedFile, 'digest'>,
  budget: Budget,
): Promise<void> {
  do {
    for (;;) {
      const some = await garbage.storedParts(digest, PARTS_AT_ONCE);
      if (some.length === 0) break;
      if (budget.left <= 0) return;
      await blobs.deleteParts(digest, some);
      await garbage.partsCollected(digest, some);
      budget.left -= some.length;
    }
    await blobs.delete(digest);
    budget.left -= 1;
  } while (!(await garbage.collected(digest)));
}

async function collectParts(
  deps: GarbageDeps,
  dryRun: boolean,
  budget: Budget,
): Promise<CollectedPage['parts']> {
  const { garbage, blobs, now } = deps;
  const at = now();
  const keptBefore = at - SURPLUS_KEPT_MS;
  const found = await garbage.surplus({ keptBefore, limit: Math.max(0, budget.left) });
  const done = { deleted: 0, bytes: 0 };
  const mayGo = new Map<string, boolean>();
  for (const { digest, sha256, bytes } of found) {
    if (!dryRun) {
      if (!mayGo.has(digest)) mayGo.set(digest, await recordStands(deps, digest, at));
      if (mayGo.get(digest) !== true) continue;
      if (!(await garbage.beginPart({ digest, sha256, keptBefore, at }))) continue;
      await blobs.deleteParts(digest, [sha256]);
      await garbage.partsCollected(digest, [sha256]);
    }
    done.deleted += 1;
    done.bytes += bytes;
  }
  return done;
}

/**
 * Two tenants that completed a file in different parts at once may have left the other's record in the store:
 * it is then rewritten, and its parts stay until all cached copies have expired.
 */
async function recordStands(
  { garbage, blobs, blobLedger }: GarbageDeps,
  digest: string,
  at: number,
): Promise<boolean> {
  const record = await blobLedger.record(digest);
  if (record === null || (await writeRecordAnew(blobs, { digest, record })) === null) return true;
  await garbage.postpone({ digest, at });
  return false;
}

/** One run of the schedule: a page of garbage, continuing the last run. @throws StoreUnavailable */
export async function collectSomeGarbage(deps: GarbageDeps, deletions: number): Promise<void> {
  const { cursor } = await collectGarbage(deps, {
    dryRun: false,
    cursor: await deps.garbage.position(),
    deletions,
  });
  await deps.garbage.setPosition(cursor);
}
