import { z } from 'zod';
import { Digest } from '../../protocol/index.ts';
import { GARBAGE_COLLECT_MS, GARBAGE_MARK_MS, GARBAGE_PAGE } from '../limits.ts';
import type { BlobStore, GarbageLedger, UnusedFile } from '../stores/types.ts';

export const CollectGarbageRequest = z.strictObject({
  /** Says what would be done. */
  dry_run: z.boolean().nullish(),
  /** Of the answer before; the first files unless given. */
  cursor: Digest.nullish(),
});
export type CollectGarbageRequest = z.infer<typeof CollectGarbageRequest>;

export interface CollectedFile {
  digest: string;
  bytes: number;
  /** `waits` = marked already, and not for long enough. */
  action: 'marked' | 'waits' | 'deleted';
  /** Unix ms: when it can be deleted, at the earliest; null = now, or done. */
  deletableAt: number | null;
}

/**
 * Marks files that no version has ever contained and nobody has touched for a day, and deletes those that were marked
 * long ago. A file that is touched loses its mark; each step is decided in the system of record together with the
 * question whether the file is in use. What is cut off goes on at the next collection.
 * @returns a page of files, and where to go on; null at the end.
 */
export async function collectGarbage(
  deps: { garbage: GarbageLedger; blobs: Pick<BlobStore, 'delete'>; now: () => number },
  request: CollectGarbageRequest,
): Promise<{ files: CollectedFile[]; cursor: string | null }> {
  const { garbage, now } = deps;
  const page = await garbage.unused({
    touchedBefore: now() - GARBAGE_MARK_MS,
    cursor: request.cursor ?? null,
    limit: GARBAGE_PAGE,
  });
  const files: CollectedFile[] = [];
  for (const file of page.items) {
    const collected = await collect(deps, file, request.dry_run ?? false);
    if (collected !== null) files.push(collected);
  }
  return { files, cursor: page.cursor };
}

/** @returns null when the file has come into use meanwhile. */
async function collect(
  deps: Parameters<typeof collectGarbage>[0],
  file: UnusedFile,
  dryRun: boolean,
): Promise<CollectedFile | null> {
  const { garbage, blobs, now } = deps;
  const { digest, bytes, deletingAt, collectingAt } = file;
  const at = now();
  if (deletingAt === null && collectingAt === null) {
    const marked = dryRun || (await garbage.mark({ digest, touchedBefore: at - GARBAGE_MARK_MS, at }));
    return marked ? { digest, bytes, action: 'marked', deletableAt: at + GARBAGE_COLLECT_MS } : null;
  }
  const markedBefore = at - GARBAGE_COLLECT_MS;
  if (collectingAt === null && (deletingAt ?? at) >= markedBefore)
    return { digest, bytes, action: 'waits', deletableAt: (deletingAt ?? at) + GARBAGE_COLLECT_MS };
  if (!dryRun) {
    if (collectingAt === null && !(await garbage.beginCollecting({ digest, markedBefore, at }))) return null;
    await blobs.delete(digest, file.parts);
    await garbage.collected(digest);
  }
  return { digest, bytes, action: 'deleted', deletableAt: null };
}
