import { z } from 'zod';
import {
  AdapterName,
  chainId,
  Digest,
  err,
  MAX_CHAIN,
  ok,
  type ApiError,
  type BaseInfo,
  type ManifestChainEntry,
  type Result,
} from '../../protocol/index.ts';
import type { AdminCaller, NameRow, VersionRow } from '../stores/types.ts';
import { checkAdapter } from './check-adapter.ts';
import { invalid, type IntakeDeps } from './intake-deps.ts';
import { writePointer } from './write-pointer.ts';

export const PublishRequest = z.strictObject({
  name: AdapterName,
  digest: Digest,
  /** Name of the adapter that this one was trained on top of. */
  parent: AdapterName.nullish(),
  /** Keep the live version as it is. */
  stage: z.boolean().nullish(),
  /** Live version that the publisher knows of; 0 = none yet. Another one is a conflict. */
  expect: z.int().min(0).nullish(),
  /** Tenant that will own the name; only the bootstrap key may name another than its own. */
  owner: z
    .string()
    .regex(/^[a-z0-9._-]{1,64}$/)
    .nullish(),
});
export type PublishRequest = z.infer<typeof PublishRequest>;

export interface Published {
  row: VersionRow;
  name: NameRow;
  /** False when this very version was there already. */
  created: boolean;
}

/** Decides who may use what; comes from policy. */
export type MayUseChain = (caller: { tenant: string; scopes: readonly string[] }, row: VersionRow) => boolean;

/** Publishers that give no `expect` do not mind what happened meanwhile. */
const MAX_TRIES = 4;

/** Publishes a file that is complete: checks it, records the version, makes it live. Repeating it is harmless. */
export async function publishVersion(
  deps: IntakeDeps & { mayUseChain: MayUseChain },
  params: { request: PublishRequest; caller: AdminCaller },
): Promise<Result<Published, ApiError>> {
  const { request, caller } = params;
  const base = await deps.base();
  if (!base.ok) return base;
  if (request.name === base.value.id)
    return err(invalid('name_reserved', `'${request.name}' is the base model's own name.`, 'name'));
  const before = await deps.registry.name(request.name);
  const owner = await ownerOf(deps, { request, caller, before });
  if (!owner.ok) return owner;
  const parent = await parentOf(deps, { request, caller, owner: owner.value });
  if (!parent.ok) return parent;
  const made = await makeRow(deps, {
    request,
    caller,
    owner: owner.value,
    parent: parent.value,
    base: base.value,
  });
  if (!made.ok) return made;
  return commit(deps, { request, row: made.value, before });
}

const forbidden = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `This key may not publish '${name}'.`,
});

/** A name belongs to who published it first, and so does the room below it. */
async function ownerOf(
  deps: IntakeDeps,
  params: { request: PublishRequest; caller: AdminCaller; before: NameRow | null },
): Promise<Result<string, ApiError>> {
  const { request, caller, before } = params;
  if (caller.root) {
    const owner = request.owner ?? before?.owner ?? caller.tenant;
    return before !== null && before.owner !== owner ? err(forbidden(request.name)) : ok(owner);
  }
  if ((request.owner ?? caller.tenant) !== caller.tenant) return err(forbidden(request.name));
  let nearest = before;
  for (let path = request.name; nearest === null && path.includes('/');) {
    path = path.slice(0, path.lastIndexOf('/'));
    nearest = await deps.registry.name(path);
  }
  return nearest !== null && nearest.owner !== caller.tenant
    ? err(forbidden(request.name))
    : ok(caller.tenant);
}

async function parentOf(
  deps: IntakeDeps & { mayUseChain: MayUseChain },
  params: { request: PublishRequest; caller: AdminCaller; owner: string },
): Promise<Result<VersionRow | null, ApiError>> {
  const { request, caller, owner } = params;
  if (request.parent === undefined || request.parent === null) return ok(null);
  const row = await deps.registry.live(request.parent);
  const usable =
    row !== null && (caller.root || deps.mayUseChain({ tenant: owner, scopes: caller.scopes }, row));
  if (usable) return ok(row);
  return err({
    code: 'model_not_found',
    message: `The parent '${request.parent}' does not exist or you do not have access to it.`,
  });
}

async function makeRow(
  deps: IntakeDeps,
  params: {
    request: PublishRequest;
    caller: AdminCaller;
    owner: string;
    parent: VersionRow | null;
    base: BaseInfo;
  },
): Promise<Result<Omit<VersionRow, 'version'>, ApiError>> {
  const { request, caller, owner, parent, base } = params;
  const { name, digest } = request;
  const record = (await deps.blobLedger.holds(digest, caller.tenant))
    ? await deps.blobLedger.record(digest)
    : null;
  if (record === null)
    return err(invalid('blob_missing', `The file ${digest} has not been uploaded with this key.`, 'digest'));
  const checked = await checkAdapter(deps.blobs, { digest, record, base });
  if (!checked.ok) return checked;
  const { rank, parentChainId } = checked.value;
  if (parentChainId !== (parent?.chainId ?? null))
    return err(
      invalid('parent_mismatch', parentMismatch(parentChainId, request.parent ?? null, parent), 'parent'),
    );
  const chain: ManifestChainEntry[] = [...(parent?.chain ?? []), { digest, scale: 1, name, owner }];
  if (chain.length > MAX_CHAIN)
    return err(
      invalid('chain_too_long', `A chain has at most ${MAX_CHAIN} adapters, this one has ${chain.length}.`),
    );
  const rankSum = (parent?.rankSum ?? 0) + rank;
  if (rankSum > base.max_rank_sum)
    return err(
      invalid(
        'rank_sum_exceeded',
        `The chain's ranks add up to ${rankSum}, the origin takes ${base.max_rank_sum}.`,
      ),
    );
  return ok({
    name,
    digest,
    owner,
    chain,
    chainId: await chainId(chain),
    parent: parent === null ? null : `${parent.name}@${parent.version}`,
    base: { id: base.id, digest: base.digest },
    bytes: record.bytes,
    rank,
    rankSum,
    createdAt: deps.now(),
    createdBy: caller.keyId,
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

async function commit(
  deps: IntakeDeps,
  params: { request: PublishRequest; row: Omit<VersionRow, 'version'>; before: NameRow | null },
): Promise<Result<Published, ApiError>> {
  const { request } = params;
  const stage = request.stage ?? false;
  const expect = request.expect ?? null;
  let before = params.before;
  for (let attempt = 1; ; attempt += 1) {
    const same = await sameVersion(deps, { row: params.row, before, stage });
    if (same !== null) {
      await writePointer(deps, same.row.name);
      return ok(same);
    }
    if (expect !== null && expect !== (before?.version ?? 0)) return err(conflict(request.name, before));
    const row: VersionRow = { ...params.row, version: (before?.latest ?? 0) + 1 };
    const committed = await deps.registry.publish({ row, stage, before });
    if (committed.ok) {
      if (!stage) await writePointer(deps, row.name);
      return ok({ row, name: committed.value, created: true });
    }
    if (expect !== null || attempt >= MAX_TRIES || committed.error.name?.owner !== row.owner)
      return err(conflict(request.name, committed.error.name));
    before = committed.error.name;
  }
}

/** The newest version, when publishing again would only repeat it. */
async function sameVersion(
  deps: IntakeDeps,
  params: { row: Omit<VersionRow, 'version'>; before: NameRow | null; stage: boolean },
): Promise<Published | null> {
  const { row, before, stage } = params;
  if (before === null || (!stage && before.version !== before.latest)) return null;
  const latest = await deps.registry.version(row.name, before.latest);
  if (latest === null || latest.digest !== row.digest || latest.chainId !== row.chainId) return null;
  return { row: latest, name: before, created: false };
}

export const conflict = (name: string, now: NameRow | null): ApiError => ({
  code: 'version_conflict',
  message: `'${name}' has changed: its live version is ${now?.version ?? 'none'}, its newest ${now?.latest ?? 'none'}.`,
});
