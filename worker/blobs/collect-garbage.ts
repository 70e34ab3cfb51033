import {
  DELETED_AT_ONCE,
  DELETER_LATE_MS,
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

/** @returns null when the file has come into use in the meantime, or somebody else deletes it. */
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
  } else if (!dryRun && !(await garbage.takeOver({ digest, at }))) return null;
  if (!dryRun) await deleteFile(deps, { digest, claim: at }, budget);
  return { digest, bytes, action: 'deleted', deletableAt: null };
}

/**
 * Deletes a file whose deletion the caller has begun or taken over. Only one deletes a file at a time: as soon as it is
 * gone it may be sent again, and a slower one would delete that.
 * @returns whether it is gone; what exceeds the budget, or is being deleted by itself, is found again.
 */
export async function deleteFile(
  { garbage, blobs, now }: Pick<GarbageDeps, 'garbage' | 'blobs' | 'now'>,
  { digest, claim: begun }: { digest: string; claim: number },
  budget: Budget,
): Promise<boolean> {
  let claim: number | null = begun;
  try {
    for (;;) {
      const at = now();
      const goesOn = await garbage.goOn({ digest, claim, at, limit: DELETED_AT_ONCE });
      claim = goesOn?.claim ?? null;
      if (goesOn === null || claim === null) return false;
      const { parts, others } = goesOn;
      if (now() - at > DELETER_LATE_MS || (parts.length > 0 ? budget.left <= 0 : others)) return false;
      budget.left -= Math.max(1, parts.length);
      if (parts.length > 0) {
        await blobs.deleteParts(digest, parts);
        await garbage.partsCollected({ digest, sha256s: parts, claim });
        continue;
      }
      await blobs.delete(digest);
      if (!(await garbage.collected({ digest, claim }))) continue;
      claim = null;
      return true;
    }
  } finally {
    // A failure has ended its call. If this fails too, another takes over later.
    if (claim !== null) await garbage.letGo({ digest, claim }).catch(() => undefined);
  }
}

async function collectParts(
  deps: GarbageDeps,
  dryRun: boolean,
  budget: Budget,
): Promise<CollectedPage['parts']> {
  const { garbage, blobs, now } = deps;
  const keptBefore = now() - SURPLUS_KEPT_MS;
  const found = await garbage.surplus({ keptBefore, limit: Math.max(0, budget.left) });
  const done = { deleted: 0, bytes: 0 };
  const mayGo = new Map<string, boolean>();
  for (const { digest, sha256, bytes } of found) {
    if (!dryRun) {
      if (!mayGo.has(digest)) mayGo.set(digest, await recordStands(deps, digest, now()));
      if (mayGo.get(digest) !== true) continue;
      const claim = now();
      if (!(await garbage.beginPart({ digest, sha256, keptBefore, at: claim }))) continue;
      if (now() - claim > DELETER_LATE_MS) continue;
      await blobs.deleteParts(digest, [sha256]);
      await garbage.partsCollected({ digest, sha256s: [sha256], claim });
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
