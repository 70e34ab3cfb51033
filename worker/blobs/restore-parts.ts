import { err, ok, type ApiError, type BlobRecord, type Result } from '../../protocol/index.ts';
import { adapterUnavailable } from '../errors.ts';
import type { RepairDeps } from '../registry/repair-deps.ts';
import type { BadPart } from './read-parts.ts';

/** No tenant's: it is the operator who has files repaired. */
const REPAIR = '';

/**
 * Takes lost parts of a file back from an origin that holds it, each compared with its hash before it is written. When
 * all of them are there again, so is the file, for everybody who held it.
 * @param params.dryRun asks for them, and writes nothing.
 * @returns whether all are there again, or would be, and how many bytes came. @throws StoreUnavailable
 */
export async function restoreParts(
  deps: Pick<RepairDeps, 'blobs' | 'blobLedger' | 'heldFiles' | 'gate' | 'now'>,
  params: { digest: string; record: BlobRecord; bad: readonly BadPart[]; dryRun: boolean },
): Promise<{ all: boolean; bytes: number }> {
  const { digest, record, bad, dryRun } = params;
  let bytes = 0;
  for (const { index } of bad) {
    const part = record.parts[index] as BlobRecord['parts'][number];
    const begin = record.parts.slice(0, index).reduce((sum, before) => sum + before.bytes, 0);
    const holding = { tenant: REPAIR, kind: 'part' as const, bytes: part.bytes };
    const restored = await deps.gate.hold(holding, async (): Promise<Result<null, ApiError>> => {
      const found = await deps.heldFiles.part(digest, { begin, ...part });
      if (found === null) return err(adapterUnavailable('No origin has it.'));
      if (dryRun) return ok(null);
      if (!(await deps.blobLedger.storing({ digest, part, at: deps.now() })))
        return err(adapterUnavailable('It is being deleted.'));
      await deps.blobs.putPart(digest, part.sha256, found);
      return ok(null);
    });
    if (!restored.ok) return { all: false, bytes };
    bytes += part.bytes;
  }
  if (!dryRun) await deps.blobLedger.finish({ digest, record, at: deps.now() });
  return { all: true, bytes };
}
