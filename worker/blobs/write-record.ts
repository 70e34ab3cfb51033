import { sameJson, type BlobRecord, type Mended } from '../../protocol/index.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { BlobStore } from './ports.ts';

/**
 * Sees to it that the store has the file's record as the system of record has it.
 * @param params.dryRun says what would be written, and writes nothing.
 * @returns what was wrong, or null. @throws StoreUnavailable
 */
export async function writeRecordAnew(
  blobs: Pick<BlobStore, 'getRecord' | 'putRecord'>,
  params: { digest: string; record: BlobRecord; dryRun?: boolean },
): Promise<Extract<Mended['was'], 'missing' | 'outdated' | 'unreadable'> | null> {
  const { digest, record, dryRun = false } = params;
  const was = await problemOf(blobs, digest, record);
  if (was !== null && !dryRun) await blobs.putRecord(digest, record);
  return was;
}

async function problemOf(blobs: Pick<BlobStore, 'getRecord'>, digest: string, record: BlobRecord) {
  try {
    const found = await blobs.getRecord(digest, { fresh: true });
    if (found === null) return 'missing';
    return sameJson(found, record) ? null : 'outdated';
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    // No record, or no answer; then the write fails as well.
    return 'unreadable';
  }
}
