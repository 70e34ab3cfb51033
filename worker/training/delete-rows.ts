/** Deletes the bytes of files of rows that were deleted or have expired. */
import { StoreUnavailable } from '../platform/ports.ts';
import type { GoingFile, RowFiles, RowParts } from './ports.ts';

export interface DeleteDeps {
  rowFiles: RowFiles;
  rowParts: RowParts;
  /** Unix ms. */
  now: () => number;
}

/** What is not deleted now, the schedule deletes: for its owner the file is gone already. */
export async function deleteBytes(
  { rowFiles, rowParts }: Pick<DeleteDeps, 'rowFiles' | 'rowParts'>,
  { id, parts }: GoingFile,
): Promise<void> {
  try {
    await rowParts.delete(id, parts);
    await rowFiles.gone([id]);
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
  }
}

/** The schedule's part: expired and abandoned files, and what deletions have left. @throws StoreUnavailable */
export async function tendFiles(deps: DeleteDeps): Promise<void> {
  for (const { id, parts } of await deps.rowFiles.due(deps.now())) {
    await deps.rowParts.delete(id, parts);
    await deps.rowFiles.gone([id]);
  }
}
