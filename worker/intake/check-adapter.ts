import { AdapterFormatError, parseCanonical, validateAdapter } from '../../adapters/index.ts';
import { err, ok, type ApiError, type BaseInfo, type BlobRecord, type Result } from '../../protocol/index.ts';
import { MAX_CHECKED_BYTES } from '../limits.ts';
import { StoreUnavailable, type BlobStore } from '../stores/types.ts';
import { invalid, unavailable } from './intake-deps.ts';

/** Problems told in one answer. */
const MAX_TOLD = 3;

export interface CheckedAdapter {
  /** Chain id that it was trained on; null = the base. */
  parentChainId: string | null;
  /** Largest rank of its modules. */
  rank: number;
}

/** Reads the whole file and checks it against what the origins serve. */
export async function checkAdapter(
  blobs: BlobStore,
  params: { digest: string; record: BlobRecord; base: BaseInfo },
): Promise<Result<CheckedAdapter, ApiError>> {
  const { digest, record, base } = params;
  if (record.bytes > MAX_CHECKED_BYTES)
    return err(
      invalid(
        'file_too_large',
        `The file has ${record.bytes} bytes; at most ${MAX_CHECKED_BYTES} can be checked here.`,
      ),
    );
  const file = await readFile(blobs, digest, record);
  if (file === null) return err(unavailable('The file cannot be read whole yet. Please try again.'));
  try {
    const adapter = parseCanonical(file);
    const problems = validateAdapter({ adapter, base });
    const first = problems[0];
    if (first !== undefined) {
      const told = problems.slice(0, MAX_TOLD).map((problem) => problem.message);
      const more = problems.length > MAX_TOLD ? ` (${problems.length - MAX_TOLD} more)` : '';
      return err(invalid(first.code, told.join(' ') + more, first.subject));
    }
    return ok({
      parentChainId: adapter.config.parent,
      rank: Math.max(...adapter.modules.map((module) => module.rank)),
    });
  } catch (error) {
    if (error instanceof AdapterFormatError) return err(invalid(error.code, error.message, error.subject));
    throw error;
  }
}

/** @returns the whole file, or null when a part is not there or not as long as its record says. */
async function readFile(
  blobs: BlobStore,
  digest: string,
  record: BlobRecord,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const file = new Uint8Array(record.bytes);
  let offset = 0;
  for (const [index, part] of record.parts.entries()) {
    const stream = await blobs.getPart(digest, index);
    if (stream === null) return null;
    const end = offset + part.bytes;
    try {
      for await (const chunk of stream) {
        if (offset + chunk.length > end) return null;
        file.set(chunk, offset);
        offset += chunk.length;
      }
    } catch (error) {
      throw new StoreUnavailable('blobs', error);
    }
    if (offset !== end) return null;
  }
  return file;
}
