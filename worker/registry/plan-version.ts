import {
  chainId,
  err,
  ok,
  type ApiError,
  type ManifestChainEntry,
  type PlanRequest,
  type PublishPlan,
  type Result,
} from '../../protocol/index.ts';
import { adapterInvalid, ownNameOfBase } from '../errors.ts';
import { judgeHead } from '../blobs/check-adapter.ts';
import { isThere } from '../blobs/receive-blob.ts';
import { MAX_CHECKED_HEADER_BYTES } from '../blobs/limits.ts';
import type { AdminCaller } from '../access/ports.ts';
import { fitChain, parentOf, type MayUseChain } from './assemble-chain.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { mayName } from './own-name.ts';
import type { Registry } from './ports.ts';
import { earlierProof } from './prove-adapter.ts';
import { removedNotice, settle } from './publish-version.ts';

type PlanDeps = Pick<IntakeDeps, 'registry' | 'blobLedger' | 'bases' | 'now'>;

/**
 * What `publishVersion` would do with a file of which only the header is told; it asks the same questions in the same
 * order, and changes nothing. What only the bytes can tell, an origin's trial included, is not known yet.
 */
export async function planVersion(
  deps: PlanDeps & { mayUseChain: MayUseChain },
  params: { request: PlanRequest; caller: AdminCaller },
): Promise<Result<PublishPlan, ApiError>> {
  const { request, caller } = params;
  const { name, digest, file } = request;
  const before = await deps.registry.name(name);
  const taken = await mayName(deps, { name, owner: request.owner ?? null, caller, before });
  if (!taken.ok) return taken;
  const bases = await deps.bases.ids();
  if (!bases.ok) return bases;
  if (bases.value.includes(name)) return err(ownNameOfBase(name));
  const { owner } = taken.value;
  const notice = taken.value.notice ?? removedNotice(before);
  const asked = request.parent ?? null;
  const parent = await parentOf(deps, { parent: asked, caller, owner });
  if (!parent.ok) return parent;
  if (file.header_bytes > MAX_CHECKED_HEADER_BYTES)
    return err(
      adapterInvalid(
        'header_too_large',
        `The header has ${file.header_bytes} bytes, at most ${MAX_CHECKED_HEADER_BYTES} are read.`,
      ),
    );
  const checked = await judgeHead(headOf(file), deps.bases);
  if (!checked.ok) return checked;
  const fits = fitChain({ asked, parent: parent.value, checked: checked.value });
  if (!fits.ok) return fits;
  const { rank, base } = fits.value;
  const chain: ManifestChainEntry[] = [
    ...(parent.value?.chain ?? []),
    { digest, scale: 1, name, owner, rank },
  ];
  const id = await chainId(chain);
  const settled = await settle(deps, { request, row: { name, digest, chainId: id }, before });
  if (!settled.ok) return settled;
  const same = settled.value?.row ?? null;
  const trial = same === null && (await earlierProof(deps.registry, { chainId: id, base })) === null;
  return ok({
    name,
    version: same?.version ?? (before?.latest ?? 0) + 1,
    exists: same !== null,
    stage: request.stage ?? false,
    from: before?.version ?? null,
    owner,
    parent: parent.value === null ? null : `${parent.value.name}@${parent.value.version}`,
    chain,
    chain_id: id,
    rank,
    instead_of: before === null ? await nearestAbove(deps.registry, name, owner) : null,
    bytes_to_send: await bytesToSend(deps, request, caller.tenant),
    trial,
    ...(notice === null ? {} : { notice }),
  });
}

const headOf = ({ base, parent, modules }: PlanRequest['file']) => ({
  config: { base, parent },
  modules: modules.map(({ name, rank, in: columns, out }) => ({
    ...{ name, rank },
    a: { shape: [rank, columns] },
    b: { shape: [out, rank] },
  })),
});

/** The owner's nearest live name above, unless a strict one of theirs is met before. */
async function nearestAbove(registry: Registry, name: string, owner: string): Promise<string | null> {
  for (let path = name; path.includes('/');) {
    path = path.slice(0, path.lastIndexOf('/'));
    const above = await registry.name(path);
    if (above === null || above.owner !== owner || above.removedAt !== null) continue;
    if (above.strict) return null;
    if (above.version !== null) return path;
  }
  return null;
}

async function bytesToSend(
  { blobLedger, now }: PlanDeps,
  { digest, file }: PlanRequest,
  tenant: string,
): Promise<number> {
  if (await blobLedger.holds(digest, tenant)) return 0;
  const sent = (await blobLedger.sent(digest, tenant)).filter(isThere(now()));
  const there = new Set(sent.map(({ index, sha256 }) => `${index} ${sha256}`));
  return file.record.parts.reduce(
    (bytes, part, index) => bytes + (there.has(`${index} ${part.sha256}`) ? 0 : part.bytes),
    0,
  );
}
