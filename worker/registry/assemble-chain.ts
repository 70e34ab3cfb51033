/** A version's chain: its file, checked against the base, stacked on its parent's chain. */
import { actsBeforeParent } from '../../protocol/activation.ts';
import type { BlobRecord, ManifestChainEntry } from '../../protocol/adapter-manifest.ts';
import { twoClassifiers } from '../../protocol/classes.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { MAX_CHAIN } from '../../protocol/limits.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { beingDeleted, adapterInvalid, conflict } from '../errors.ts';
import { CHECK_HELD_BYTES, MAX_CHECKED_HEADER_BYTES, READ_BACK_FRESH_MS } from '../blobs/limits.ts';
import type { AdminCaller, ScopeOwners, Grant } from '../access/ports.ts';
import type { VersionRow, IntakeDeps, Registry } from './ports.ts';
import { pinOf } from '../../protocol/identity.ts';
import {
  AdapterFormatError,
  checkBase,
  createHeadReader,
  printable,
  type CanonicalHead,
  type ShapedClassifier,
  type ShapedModule,
} from '../../adapters/read-head.ts';
import type { Bases } from '../origins/ports.ts';
import { readBeginning, readPart, type BadPart, writeRecordAnew } from '../blobs/stored-file.ts';
import { logLine } from '../log.ts';

/** Decides who may use a chain. */
export type MayUseChain = (
  caller: {
    tenant: string;
    scopes: readonly string[];
    scope_owners?: ScopeOwners | undefined;
    grants?: readonly Grant[] | undefined;
  },
  row: VersionRow,
) => boolean;

/** A file that fits its parent. */
export interface AssembledChain {
  /** null = the base. */
  parent: VersionRow | null;
  record: BlobRecord;
  /** Largest rank of the file's modules. */
  rank: number;
  /** Of the file: it acts from its invocation tokens on only. */
  activated: boolean;
  /** Classes of the file's classification head; null = it generates text. */
  classes: number | null;
  /** Ranks of the whole chain, summed. */
  rankSum: number;
  /** The chain's base. */
  base: BaseInfo;
}

/**
 * Checks that the caller may use the file and its parent, that the file is valid, and that they fit.
 * @param params.owner tenant that will own the chain, and must be allowed to use the parent.
 */
export async function assembleChain(
  deps: Pick<
    IntakeDeps,
    'registry' | 'bases' | 'blobs' | 'blobLedger' | 'createSha256' | 'uploadMemory' | 'now'
  > & {
    mayUseChain: MayUseChain;
  },
  params: { digest: string; parent: string | null; caller: AdminCaller; owner: string },
): Promise<Result<AssembledChain, ApiError>> {
  const { digest, caller } = params;
  const found = await parentOf(deps, params);
  if (!found.ok) return found;
  const record = await recordOf(deps, { digest, tenant: caller.tenant });
  if (!record.ok) return record;
  const { tenant } = caller;
  const checked = await deps.uploadMemory.hold({ tenant, kind: 'check', bytes: CHECK_HELD_BYTES }, (alive) =>
    checkAdapter(deps, { digest, record: record.value, bases: deps.bases, alive }),
  );
  if (!checked.ok) return checked;
  const fits = fitChain({ asked: params.parent, parent: found.value, checked: checked.value });
  return fits.ok ? ok({ ...fits.value, record: record.value }) : fits;
}

/**
 * Whether what a file declares fits its parent.
 * @param params.asked the parent's name.
 */
export function fitChain(params: {
  asked: string | null;
  parent: VersionRow | null;
  checked: CheckedAdapter;
}): Result<Omit<AssembledChain, 'record'>, ApiError> {
  const { asked, parent } = params;
  const { rank, activated, classes, parentChainId, base } = params.checked;
  if (parent !== null && parent.base.id !== base.id)
    return err(
      adapterInvalid(
        'base_mismatch',
        `The adapter is for the base ${base.id}, but its parent '${parent.name}@${parent.version}' is ` +
          `for ${parent.base.id}: a chain has one base. Publish it without a parent, or under one of its ` +
          'own base.',
        'parent',
      ),
    );
  if (parentChainId !== (parent?.chainId ?? null))
    return err(adapterInvalid('parent_mismatch', parentMismatch(parentChainId, asked, parent), 'parent'));
  const above = parent?.chain.findLast((member) => member.activated === true);
  if (above !== undefined && !activated)
    return err(
      adapterInvalid(
        'parent_mismatch',
        actsBeforeParent('The adapter', `its parent '${above.name}'`),
        'parent',
      ),
    );
  const head = parent?.chain.find((member) => member.classes !== undefined);
  if (head !== undefined && classes !== null)
    return err(
      adapterInvalid(
        'classifier_unsupported',
        twoClassifiers('The adapter', `its parent '${head.name}'`),
        'parent',
      ),
    );
  const length = (parent?.chain.length ?? 0) + 1;
  if (length > MAX_CHAIN)
    return err(
      adapterInvalid('chain_too_long', `A chain has at most ${MAX_CHAIN} adapters; this one has ${length}.`),
    );
  const rankSum = (parent?.rankSum ?? 0) + rank;
  if (rankSum > base.max_rank_sum)
    return err(
      adapterInvalid(
        'rank_sum_exceeded',
        `The chain's ranks add up to ${rankSum}; the origin accepts at most ${base.max_rank_sum}.`,
      ),
    );
  return ok({ parent, rank, activated, classes, rankSum, base });
}

/** What a chain says of its last member. */
export function entryOf(
  of: { digest: string; name: string; owner: string },
  { rank, activated, classes }: Pick<AssembledChain, 'rank' | 'activated' | 'classes'>,
): ManifestChainEntry {
  return {
    digest: of.digest,
    scale: 1,
    name: of.name,
    owner: of.owner,
    rank,
    ...(activated ? { activated } : {}),
    ...(classes === null ? {} : { classes }),
  };
}

/** The file's record. Garbage collection spares the file from now on. */
async function recordOf(
  { blobLedger, now }: Pick<IntakeDeps, 'blobLedger' | 'now'>,
  { digest, tenant }: { digest: string; tenant: string },
): Promise<Result<BlobRecord, ApiError>> {
  const held = await blobLedger.holds(digest, tenant);
  if (held && !(await blobLedger.rely({ digest, tenant, at: now() }))) return err(beingDeleted(digest));
  const record = held ? await blobLedger.record(digest) : null;
  return record === null
    ? err(adapterInvalid('blob_missing', `The file ${digest} was not uploaded with this key.`, 'digest'))
    : ok(record);
}

/**
 * The parent's live version, if it may be built on.
 * @param params.parent a fine-tuning job's is `name@version`: it was trained on exactly that one, live or not.
 * @param params.owner tenant that would own the result.
 */
export async function parentOf(
  deps: Pick<IntakeDeps, 'registry'> & { mayUseChain: MayUseChain },
  params: { parent: string | null; caller: AdminCaller; owner: string },
): Promise<Result<VersionRow | null, ApiError>> {
  const { parent, caller, owner } = params;
  if (parent === null) return ok(null);
  const row = await (parent.includes('@') ? pinned(deps.registry, parent) : deps.registry.live(parent));
  const usable =
    row !== null &&
    row.retiredAt === null &&
    (caller.root || deps.mayUseChain({ ...caller, tenant: owner }, row));
  if (usable && row.withdrawnAt !== null)
    return err(conflict(`The parent '${parent}' depends on an adapter that its owner has retired.`));
  if (usable) return ok(row);
  return err({
    code: 'model_not_found',
    message: `The parent '${parent}' does not exist or you do not have access to it.`,
  });
}

function pinned(registry: Registry, parent: string): Promise<VersionRow | null> {
  const { name, version } = pinOf(parent);
  return registry.version(name, version);
}

function parentMismatch(trainedOn: string | null, asked: string | null, parent: VersionRow | null): string {
  const is = trainedOn === null ? 'on the base model itself' : `on the chain ${trainedOn}`;
  const should =
    asked === null || parent === null
      ? 'no parent was given'
      : `'${parent.name}@${parent.version}' is the chain ${parent.chainId}`;
  return `The adapter was packed to be used ${is}, but ${should}. Pack it with its parent's chain id.`;
}

/** Problems listed in one response. */
const MAX_TOLD = 3;

interface CheckedAdapter {
  /** Id of the chain that it was trained on; null = the base. */
  parentChainId: string | null;
  /** Largest rank of its modules. */
  rank: number;
  /** It acts from its invocation tokens on only. */
  activated: boolean;
  /** Of its classification head; null = it has none. */
  classes: number | null;
  /** The file's base. */
  base: BaseInfo;
}

interface CheckParams {
  digest: string;
  record: BlobRecord;
  bases: Bases;
  /** Called on every progress of the check. */
  alive: () => void;
}

type CheckDeps = Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'createSha256' | 'now'>;

/**
 * Reads the file's header from the store and checks it against the base that it names; its tensors are
 * checked by the origin that tries it. Unless the file was read back a moment ago, all of it is read and its
 * hashes are verified. If bytes are missing or damaged, nobody holds the file any more until it is uploaded
 * again. A lost record is rewritten.
 */
async function checkAdapter(deps: CheckDeps, params: CheckParams): Promise<Result<CheckedAdapter, ApiError>> {
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
  // A cache may still have parts from before a repair.
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
 * Reads the file once. Stops after a part with a rejected header, once that part is verified: a damaged
 * header proves nothing.
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

/**
 * Checks a header against its base.
 * @returns what a chain is assembled from.
 */
export async function judgeHead(
  head: {
    config: Pick<CanonicalHead['config'], 'base' | 'parent' | 'invocation'>;
    modules: readonly ShapedModule[];
    classifier?: ShapedClassifier | undefined;
  },
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
  const activated = head.config.invocation !== undefined;
  const classes = head.classifier?.weight.shape[0] ?? null;
  return ok({ parentChainId: head.config.parent, rank, activated, classes, base });
}

/** The base with this id; otherwise the only one, so that the error can say why the file does not fit. */
async function baseOf(id: string, bases: Bases): Promise<Result<BaseInfo, ApiError>> {
  const { declared } = bases;
  if (declared === null || declared.length === 1) return bases.info(null);
  if (declared.includes(id)) return bases.info(id);
  return err(
    adapterInvalid(
      'base_mismatch',
      `The adapter is for the base ${printable(id)}, but this edge serves ${declared.join(', ')}. ` +
        'Publish it where its base is served.',
      id,
    ),
  );
}
