import {
  AdapterFormatError,
  checkBase,
  createHeadReader,
  printable,
  type CanonicalHead,
  type ShapedModule,
} from '../../adapters/read-head.ts';
import { err, ok, type ApiError, type BaseInfo, type BlobRecord, type Result } from '../../protocol/index.ts';
import { adapterInvalid } from '../errors.ts';
import { MAX_CHECKED_HEADER_BYTES, READ_BACK_FRESH_MS } from './limits.ts';
import type { Bases } from '../origins/ports.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { readBeginning, readPart, type BadPart, writeRecordAnew } from './stored-file.ts';
import { logLine } from '../log.ts';

/** Problems told in one answer. */
const MAX_TOLD = 3;

export interface CheckedAdapter {
  /** Chain id that it was trained on; null = the base. */
  parentChainId: string | null;
  /** Largest rank of its modules. */
  rank: number;
  /** The base that it is for. */
  base: BaseInfo;
}

interface CheckParams {
  digest: string;
  record: BlobRecord;
  bases: Bases;
  /** Called whenever the check gets on. */
  alive: () => void;
}

type CheckDeps = Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'createSha256' | 'now'>;

/**
 * Reads the file's header as it lies in the store and checks it against the base that it names. What its tensors hold is
 * found out by the origin that tries it.
 *
 * Unless the file was read back a moment ago, all of it is read and compared with its hashes: bytes that are not there or
 * not the record's are found here, and then nobody holds the file until it is sent again. A record that the store has
 * lost is written anew.
 */
export async function checkAdapter(
  deps: CheckDeps,
  params: CheckParams,
): Promise<Result<CheckedAdapter, ApiError>> {
  const { digest, record } = params;
  const readAt = await deps.blobLedger.readBackAt(digest);
  if (readAt !== null && deps.now() - readAt < READ_BACK_FRESH_MS) {
    const reader = headReader(record);
    const read = await readBeginning(deps, params, (chunk) => {
      params.alive();
      return reader.push(chunk);
    });
    if (read) {
      await writeRecordAnew(deps.blobs, { digest, record });
      return judge(reader, params.bases);
    }
  }
  let whole = await readWhole(deps, params, false);
  // A cache may hold what was mended since.
  if (whole.bad !== null) whole = await readWhole(deps, params, true);
  if (whole.bad !== null) {
    const { index, was } = whole.bad;
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
  if (whole.ended) await deps.blobLedger.noteReadBack({ digest, at: deps.now() });
  return judge(whole.reader, params.bases);
}

const headReader = ({ bytes }: BlobRecord) =>
  createHeadReader({ fileBytes: bytes, maxHeaderBytes: MAX_CHECKED_HEADER_BYTES });
type Reader = ReturnType<typeof headReader>;

/**
 * One pass over the file. It ends with the part whose header is refused: were that damaged, it would say nothing.
 * @returns also whether all parts were read.
 */
async function readWhole(
  deps: CheckDeps,
  params: CheckParams,
  fresh: boolean,
): Promise<{ reader: Reader; bad: BadPart | null; ended: boolean }> {
  const { digest, record, bases, alive } = params;
  const reader = headReader(record);
  let read = false;
  for (const [index, part] of record.parts.entries()) {
    const push = (chunk: Uint8Array) => {
      alive();
      read ||= reader.push(chunk);
    };
    const bad = await readPart(deps, { digest, index, part }, push, { fresh });
    if (bad !== null) return { reader, bad, ended: false };
    if (read && !(await judge(reader, bases)).ok) return { reader, bad: null, ended: false };
  }
  return { reader, bad: null, ended: true };
}

async function judge(reader: Reader, bases: Bases): Promise<Result<CheckedAdapter, ApiError>> {
  let head: CanonicalHead;
  try {
    head = reader.head();
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    return err(adapterInvalid(error.code, error.message, error.subject));
  }
  return judgeHead(head, bases);
}

/** Whether a head fits the base that it names, and what of it a chain is assembled from. */
export async function judgeHead(
  head: { config: Pick<CanonicalHead['config'], 'base' | 'parent'>; modules: readonly ShapedModule[] },
  bases: Bases,
): Promise<Result<CheckedAdapter, ApiError>> {
  const found = await baseOf(head.config.base, bases);
  if (!found.ok) return found;
  const base = found.value;
  const problems = checkBase(head, base);
  const first = problems[0];
  if (first !== undefined) {
    const told = problems.slice(0, MAX_TOLD).map((problem) => problem.message);
    const more = problems.length > MAX_TOLD ? ` (${problems.length - MAX_TOLD} more)` : '';
    return err(adapterInvalid(first.code, told.join(' ') + more, first.subject));
  }
  const rank = head.modules.reduce((largest, module) => Math.max(largest, module.rank), 0);
  return ok({ parentChainId: head.config.parent, rank, base });
}

/** The base to compare with: that of the id, or the only one there is, which then says why it does not fit. */
async function baseOf(id: string, bases: Bases): Promise<Result<BaseInfo, ApiError>> {
  const { declared } = bases;
  if (declared === null || declared.length === 1) return bases.info(null);
  if (declared.includes(id)) return bases.info(id);
  return err(
    adapterInvalid(
      'base_mismatch',
      `The adapter is for the base ${printable(id)}; this edge serves ${declared.join(', ')}. Publish it where its base is served.`,
      id,
    ),
  );
}
