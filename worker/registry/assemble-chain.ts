import {
  err,
  MAX_CHAIN,
  ok,
  type ApiError,
  type BaseInfo,
  type BlobRecord,
  type Result,
} from '../../protocol/index.ts';
import { beingDeleted, adapterInvalid, conflict } from '../errors.ts';
import { CHECK_HELD_BYTES } from '../blobs/limits.ts';
import type { AdminCaller, ScopeOwners, Grant } from '../access/ports.ts';
import type { VersionRow } from './ports.ts';
import { checkAdapter, type CheckedAdapter } from '../blobs/check-adapter.ts';
import type { IntakeDeps } from './registry-deps.ts';

/** Decides who may use what; comes from policy. */
export type MayUseChain = (
  caller: {
    tenant: string;
    scopes: readonly string[];
    owners?: ScopeOwners | undefined;
    grants?: readonly Grant[] | undefined;
  },
  row: VersionRow,
) => boolean;

/** A file that fits on top of its parent. */
export interface AssembledChain {
  /** null = the base. */
  parent: VersionRow | null;
  record: BlobRecord;
  /** Largest rank of the file's modules. */
  rank: number;
  /** Ranks of the whole chain, summed. */
  rankSum: number;
  /** The base that all of it is for. */
  base: BaseInfo;
}

/**
 * Checks that the caller may use the file and its parent, that the file is good, and that both go together.
 * @param params.owner tenant that will own the chain, and must have the right to the parent.
 */
export async function assembleChain(
  deps: Pick<IntakeDeps, 'registry' | 'bases' | 'blobs' | 'blobLedger' | 'createSha256' | 'uploadMemory' | 'now'> & {
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

/** Whether what a file says of itself goes together with its parent. @param params.asked the parent's name. */
export function fitChain(params: {
  asked: string | null;
  parent: VersionRow | null;
  checked: CheckedAdapter;
}): Result<Omit<AssembledChain, 'record'>, ApiError> {
  const { asked, parent } = params;
  const { rank, parentChainId, base } = params.checked;
  if (parent !== null && parent.base.id !== base.id)
    return err(
      adapterInvalid(
        'base_mismatch',
        `The adapter is for the base ${base.id}, and its parent '${parent.name}@${parent.version}' for ${parent.base.id}: a chain has one base. Publish it without a parent, or under one of its own base.`,
        'parent',
      ),
    );
  if (parentChainId !== (parent?.chainId ?? null))
    return err(adapterInvalid('parent_mismatch', parentMismatch(parentChainId, asked, parent), 'parent'));
  const length = (parent?.chain.length ?? 0) + 1;
  if (length > MAX_CHAIN)
    return err(
      adapterInvalid('chain_too_long', `A chain has at most ${MAX_CHAIN} adapters, this one has ${length}.`),
    );
  const rankSum = (parent?.rankSum ?? 0) + rank;
  if (rankSum > base.max_rank_sum)
    return err(
      adapterInvalid(
        'rank_sum_exceeded',
        `The chain's ranks add up to ${rankSum}, the origin takes ${base.max_rank_sum}.`,
      ),
    );
  return ok({ parent, rank, rankSum, base });
}

/** The file's record, which is kept from the collector of garbage from here on. */
async function recordOf(
  { blobLedger, now }: Pick<IntakeDeps, 'blobLedger' | 'now'>,
  { digest, tenant }: { digest: string; tenant: string },
): Promise<Result<BlobRecord, ApiError>> {
  const held = await blobLedger.holds(digest, tenant);
  if (held && !(await blobLedger.touch({ digest, at: now() }))) return err(beingDeleted(digest));
  const record = held ? await blobLedger.record(digest) : null;
  return record === null
    ? err(adapterInvalid('blob_missing', `The file ${digest} has not been uploaded with this key.`, 'digest'))
    : ok(record);
}

/** The parent's live version, when its chain may be built upon. @param params.owner tenant that would own the result. */
export async function parentOf(
  deps: Pick<IntakeDeps, 'registry'> & { mayUseChain: MayUseChain },
  params: { parent: string | null; caller: AdminCaller; owner: string },
): Promise<Result<VersionRow | null, ApiError>> {
  const { parent, caller, owner } = params;
  if (parent === null) return ok(null);
  const row = await deps.registry.live(parent);
  const usable = row !== null && (caller.root || deps.mayUseChain({ ...caller, tenant: owner }, row));
  if (usable && row.withdrawnAt !== null)
    return err(conflict(`The parent '${parent}' stands on an adapter that its owner has retired.`));
  if (usable) return ok(row);
  return err({
    code: 'model_not_found',
    message: `The parent '${parent}' does not exist or you do not have access to it.`,
  });
}

function parentMismatch(trainedOn: string | null, asked: string | null, parent: VersionRow | null): string {
  const is = trainedOn === null ? 'on the base model itself' : `on the chain ${trainedOn}`;
  const should =
    asked === null || parent === null
      ? 'no parent was named'
      : `'${parent.name}@${parent.version}' is the chain ${parent.chainId}`;
  return `The adapter was packed to be used ${is}, but ${should}. Pack it with its parent's chain id.`;
}
