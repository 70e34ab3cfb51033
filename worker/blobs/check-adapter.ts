import { AdapterFormatError, checkStream } from '../../adapters/index.ts';
import { err, ok, type ApiError, type BaseInfo, type BlobRecord, type Result } from '../../protocol/index.ts';
import { adapterInvalid } from '../errors.ts';
import { MAX_CHECKED_BYTES, MAX_CHECKED_HEADER_BYTES } from './limits.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { readPart } from './read-parts.ts';
import { writeRecordAnew } from './write-record.ts';
import { logLine } from '../log.ts';

/** Problems told in one answer. */
const MAX_TOLD = 3;

export interface CheckedAdapter {
  /** Chain id that it was trained on; null = the base. */
  parentChainId: string | null;
  /** Largest rank of its modules. */
  rank: number;
}

interface CheckParams {
  digest: string;
  record: BlobRecord;
  base: BaseInfo;
  /** Called whenever the check gets on. */
  alive: () => void;
}

/**
 * Reads the file once, as it lies in the store, and checks it against what the origins serve; no more than its header is
 * kept. Bytes that are not there or not the record's are found here: then nobody holds the file until it is sent again.
 * A record that the store has lost is written anew.
 */
export async function checkAdapter(
  deps: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'createSha256' | 'now'>,
  params: CheckParams,
): Promise<Result<CheckedAdapter, ApiError>> {
  const { digest, record, base } = params;
  if (record.bytes > MAX_CHECKED_BYTES)
    return err(
      adapterInvalid(
        'file_too_large',
        `The file has ${record.bytes} bytes; at most ${MAX_CHECKED_BYTES} can be checked here.`,
      ),
    );
  let checked = await check(deps, params, false);
  // A cache may hold what was mended since.
  if (checked.bad !== null) checked = await check(deps, params, true);
  if (checked.bad !== null) {
    const { index, was } = checked.bad;
    logLine('part_damaged', { digest, part: index, reason: was });
    await deps.blobLedger.markDamaged({ digest, at: deps.now() });
    return err(
      adapterInvalid(
        'blob_damaged',
        `Part ${index} of the file ${digest} is ${was} in the store. Upload it again.`,
        'digest',
      ),
    );
  }
  await writeRecordAnew(deps.blobs, { digest, record });
  const problems = checked.file.problems();
  const first = problems[0];
  if (first !== undefined) {
    const told = problems.slice(0, MAX_TOLD).map((problem) => problem.message);
    const more = problems.length > MAX_TOLD ? ` (${problems.length - MAX_TOLD} more)` : '';
    return err(adapterInvalid(first.code, told.join(' ') + more, first.subject));
  }
  const head = checked.file.head();
  if (head === null) throw new AdapterFormatError({ code: 'truncated_file', message: base.id });
  return ok({
    parentChainId: head.config.parent,
    rank: Math.max(...head.modules.map((module) => module.rank)),
  });
}

/** One pass over the file. It ends with the part whose header is refused: were that damaged, it would say nothing. */
async function check(deps: Parameters<typeof checkAdapter>[0], params: CheckParams, fresh: boolean) {
  const { digest, record, base, alive } = params;
  const file = checkStream({ fileBytes: record.bytes, maxHeaderBytes: MAX_CHECKED_HEADER_BYTES, base });
  let refused = false;
  for (const [index, part] of record.parts.entries()) {
    const push = (chunk: Uint8Array) => {
      alive();
      refused ||= file.push(chunk);
    };
    const bad = await readPart(deps, { digest, index, part }, push, { fresh });
    if (bad !== null) return { file, bad };
    if (refused) break;
  }
  return { file, bad: null };
}
