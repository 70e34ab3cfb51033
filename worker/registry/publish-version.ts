/** Publishes a version: its chain, its proof from an origin, its row, its pointer. */
import { REMOVAL_GRACE_MS } from '../../protocol/admin-api/names.ts';
import type { PublishRequest } from '../../protocol/admin-api/versions.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { chainId, pinOf, sha256Hex } from '../../protocol/identity.ts';
import { AdapterProof, type BaseInfo, type VerifyAnswer } from '../../protocol/origin-wire.ts';
import { adapterInvalid, beingDeleted, conflict, ownNameOfBase } from '../errors.ts';
import type { BlobStore } from '../blobs/ports.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { AdminCaller } from '../access/ports.ts';
import type {
  DescribedVersion,
  NameRow,
  PageUpload,
  VersionRow,
  Registry,
  IntakeDeps,
  RequestLife,
} from './ports.ts';
import { assembleChain, entryOf, type MayUseChain } from './assemble-chain.ts';
import { MAX_TRIES, MAX_PROOFS_READ } from './limits.ts';
import { changed, mayName } from './own-name.ts';
import { followResidents, notServedYet } from './go-live.ts';
import { writePointer } from './write-pointer.ts';
import { unlessDamaged } from './repair-names.ts';

export interface Published {
  row: DescribedVersion;
  name: NameRow;
  /** False if this version existed already. */
  created: boolean;
  /** Of a new version. */
  proof?: AdapterProof;
  /** For a name that was removed before; for the operator, a name among others' names. */
  notice?: string | null;
}

/** Notice for a removed name: its old versions stay separate. */
export const removedNotice = (before: NameRow | null): string | null =>
  before?.removedAt == null
    ? null
    : `'${before.name}' was removed earlier; its old versions can be restored until ` +
      `${new Date(before.removedAt + REMOVAL_GRACE_MS).toISOString().slice(0, 10)}.`;

/** Without a number and a proof. */
type NewVersion = Omit<DescribedVersion, 'version' | 'proof'>;

interface PublishParams {
  request: PublishRequest;
  caller: AdminCaller;
  life: RequestLife;
  /** For history; default `publish`. */
  action?: 'publish' | 'drop';
  /** Of a page, by its token; null = of an admin. */
  upload?: PublishedUpload | null;
}

export interface PublishedUpload extends PageUpload {
  /** After a lost race: why it may no longer be published; null = it may. */
  refusal: () => Promise<ApiError | null>;
}

/**
 * Publishes a complete file: checks it, has an origin try it, records the version, makes it live. Repeating
 * it is harmless.
 */
export async function publishVersion(
  deps: IntakeDeps & { mayUseChain: MayUseChain },
  params: PublishParams,
): Promise<Result<Published, ApiError>> {
  const { request, caller, life, action = 'publish', upload = null } = params;
  const before = await deps.registry.name(request.name);
  const taken = await mayName(deps, { name: request.name, owner: request.owner ?? null, caller, before });
  if (!taken.ok) return taken;
  const bases = await deps.bases.ids();
  if (!bases.ok) return bases;
  if (bases.value.includes(request.name)) return err(ownNameOfBase(request.name));
  const { owner, claimant, notice } = taken.value;
  const made = await makeRow(deps, { request, caller, owner });
  if (!made.ok) return made;
  const { row, base } = made.value;
  // Neither a repeat nor a lost race needs an origin.
  const settled = await settle(deps, { request, row, before });
  if (!settled.ok) return settled;
  if (settled.value !== null) {
    // The first attempt was answered with 503, so it gets the result that it created.
    const told = await notServedYet(deps.registry, { before: settled.value.name, caller, action });
    return served(deps, { ...settled.value, created: told?.to === settled.value.row.version });
  }
  const proof = await proveAdapter(deps, { row, base, tenant: caller.tenant, life });
  if (!proof.ok) return proof;
  const committed = await commit(deps, {
    request,
    row: { ...row, proof: proof.value.sha256 },
    before,
    action,
    claimant,
    sentBy: caller.tenant,
    upload,
  });
  if (!committed.ok) {
    // Whoever erased the file meanwhile may have missed its proof.
    const part = { bytes: 0, sha256: proof.value.sha256 };
    await deps.blobLedger.leave({ digest: row.digest, part });
    return committed;
  }
  if (committed.value.name.version === committed.value.row.version)
    followResidents(deps, { from: before?.version ?? null, to: committed.value.row, life });
  return ok({ ...committed.value, proof: proof.value.proof, notice: notice ?? removedNotice(before) });
}

async function makeRow(
  deps: IntakeDeps & { mayUseChain: MayUseChain },
  params: { request: PublishRequest; caller: AdminCaller; owner: string },
): Promise<Result<{ row: NewVersion; base: BaseInfo }, ApiError>> {
  const { request, caller, owner } = params;
  const { name, digest, evaluation, training } = request;
  const assembled = await assembleChain(deps, { ...params, digest, parent: request.parent ?? null });
  if (!assembled.ok) return assembled;
  const { parent, record, rank, rankSum, base } = assembled.value;
  const chain = [...(parent?.chain ?? []), entryOf({ digest, name, owner }, assembled.value)];
  const at = deps.now();
  const row: NewVersion = {
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
    createdAt: at,
    createdBy: caller.keyId,
    evaluation: evaluation ? { ...evaluation, at } : null,
    training: training ?? null,
    retiredAt: null,
    withdrawnAt: null,
  };
  return ok({ row, base });
}

async function commit(
  deps: IntakeDeps,
  params: {
    request: PublishRequest;
    row: Omit<DescribedVersion, 'version'>;
    before: NameRow | null;
    action: 'publish' | 'drop';
    claimant: string | null;
    sentBy: string;
    upload: PublishedUpload | null;
  },
): Promise<Result<Published, ApiError>> {
  const { request, action, claimant, sentBy, upload } = params;
  const stage = request.stage ?? false;
  const expect = request.expect ?? null;
  let before = params.before;
  for (let attempt = 1; ; attempt += 1) {
    const row: DescribedVersion = { ...params.row, version: (before?.latest ?? 0) + 1 };
    const why = request.why ?? null;
    const change = { row, stage, before, action, why, claimant, sentBy, upload };
    const committed = await deps.registry.publish(change);
    if (committed.ok) {
      const published = { row, name: committed.value, created: true };
      return stage ? ok(published) : served(deps, published);
    }
    const lost = await parentLost(deps.registry, row);
    if (lost !== null) return err(lost);
    const refused = upload === null ? null : await upload.refusal();
    if (refused !== null) return err(refused);
    if (expect !== null || attempt >= MAX_TRIES || committed.error.name?.owner !== row.owner)
      return err(changed(request.name, committed.error.name));
    before = committed.error.name;
    const settled = await settle(deps, { request, row: params.row, before });
    if (!settled.ok) return settled;
    if (settled.value !== null) return served(deps, { ...settled.value, created: false });
  }
}

/** Why a chain can no longer be published; null if its parent is in use. */
async function parentLost(
  registry: Registry,
  { parent }: Pick<VersionRow, 'parent'>,
): Promise<ApiError | null> {
  if (parent === null) return null;
  const { name, version } = pinOf(parent);
  const row = await registry.version(name, version);
  if (row !== null && row.retiredAt === null && row.withdrawnAt === null) return null;
  return conflict(
    `The parent '${parent}' was retired or removed while the adapter was being tested. Train and pack ` +
      'it on a parent that is in use.',
  );
}

/** A version counts as published only once its name's pointer is written. */
async function served(deps: IntakeDeps, published: Published): Promise<Result<Published, ApiError>> {
  const written = await writePointer(deps, { name: published.row.name, what: 'publication' });
  return written.ok ? ok(published) : written;
}

type Wish = Pick<PublishRequest, 'name' | 'stage' | 'expect'>;
type Wanted = Pick<VersionRow, 'name' | 'digest' | 'chainId'>;

/**
 * Decides what needs no trial: a repeat, or a version that cannot follow the name's current state.
 * @returns the existing version, or null for a new one.
 */
export async function settle(
  deps: { registry: Registry },
  params: { request: Wish; row: Wanted; before: NameRow | null },
): Promise<Result<{ row: DescribedVersion; name: NameRow } | null, ApiError>> {
  const { request, row, before } = params;
  if (before?.alias != null)
    return err(
      adapterInvalid(
        'name_is_alias',
        `'${request.name}' is an alias of '${before.alias}'. Remove the alias before you publish here.`,
        'name',
      ),
    );
  const same = before === null ? null : await sameVersion(deps, row, before, request.stage ?? false);
  if (same !== null && before !== null) return ok({ row: same, name: before });
  const expect = request.expect ?? null;
  return expect !== null && expect !== (before?.version ?? 0) ? err(changed(request.name, before)) : ok(null);
}

/** The newest version, if publishing would only repeat it. */
async function sameVersion(
  deps: { registry: Registry },
  row: Wanted,
  before: NameRow,
  stage: boolean,
): Promise<DescribedVersion | null> {
  if (!stage && before.version !== before.latest) return null;
  // An unreadable version is not repeated: a new one follows it.
  const latest = await unlessDamaged(deps.registry.describedVersion(row.name, before.latest));
  if (latest === null || latest === 'damaged' || latest.retiredAt !== null || latest.withdrawnAt !== null)
    return null;
  return latest.digest === row.digest && latest.chainId === row.chainId ? latest : null;
}

/** An origin's reasons, and what publishers are told. */
const REFUSALS: Record<string, { reason: string; message: string }> = {
  no_change: {
    reason: 'no_op',
    message:
      'The adapter changes nothing: the model answers the probe prompts exactly as without it. Check ' +
      'that training saved its weights, and that alpha and the learning rate are not 0.',
  },
  non_finite: {
    reason: 'non_finite',
    message:
      'With the adapter the model produces NaN or infinity: its weights or its scale are too large. ' +
      'Train it again.',
  },
};

/**
 * Has an origin try a chain before it is published. A proof of the same chain on the same base and weights is
 * reused, whatever its name. Errors: `adapter_invalid` if it has no effect or does not work;
 * `origin_unavailable` if no origin can try it.
 */
async function proveAdapter(
  deps: Pick<IntakeDeps, 'registry' | 'blobs' | 'blobLedger' | 'trials' | 'now'>,
  params: {
    row: Pick<VersionRow, 'name' | 'digest' | 'chain' | 'chainId'>;
    base: BaseInfo;
    /** The publisher. */
    tenant: string;
    life: RequestLife;
  },
): Promise<Result<StoredProof, ApiError>> {
  const { row, base, tenant, life } = params;
  const known = await earlierProof(deps, { row, base });
  if (known !== null) return ok(known);
  const chain = row.chain.map(({ digest, scale }) => ({ digest, scale }));
  const answer = await deps.trials.verify({ ...life, name: row.name, base: base.id, tenant, chain });
  if (!answer.ok) return answer;
  const problem = problemOf(answer.value);
  if (problem !== null) return err(problem);
  const { base_digest, weights, prompt, adapter, kv } = answer.value;
  const tokens = adapter.map(({ id, logprob }) => ({ id, logprob }));
  const proof = { base_digest, weights, prompt, tokens, ...(kv === undefined ? {} : { kv }), at: deps.now() };
  return storeProof(deps, row.digest, proof);
}

interface StoredProof {
  proof: AdapterProof;
  sha256: string;
}

/** Until a version lists it, the collector knows it as a part that belongs to nothing. */
async function storeProof(
  { blobs, blobLedger, now }: Pick<IntakeDeps, 'blobs' | 'blobLedger' | 'now'>,
  digest: string,
  proof: AdapterProof,
): Promise<Result<StoredProof, ApiError>> {
  const bytes = new Uint8Array(new TextEncoder().encode(JSON.stringify(proof)));
  const sha256 = await sha256Hex(bytes);
  const part = { bytes: bytes.length, sha256 };
  if (!(await blobLedger.storing({ digest, part, at: now() }))) return err(beingDeleted(digest));
  await blobs.putPart(digest, sha256, bytes);
  return ok({ proof, sha256 });
}

/** @returns null if it has none, or not as it was stored. @throws StoreUnavailable */
export async function readProof(
  blobs: BlobStore,
  { digest, proof }: Pick<VersionRow, 'digest' | 'proof'>,
): Promise<AdapterProof | null> {
  const stream = proof === null ? null : await blobs.getPart(digest, proof);
  if (stream === null) return null;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    throw new StoreUnavailable('blobs', error);
  }
  if ((await sha256Hex(bytes)) !== proof) return null;
  return AdapterProof.parse(JSON.parse(new TextDecoder().decode(bytes)));
}

/** The proof of the same chain on the same base and weights, whatever its name; null = it needs a trial. */
export async function earlierProof(
  { registry, blobs }: Pick<IntakeDeps, 'registry' | 'blobs'>,
  { row: { digest, chainId }, base }: { row: Pick<VersionRow, 'digest' | 'chainId'>; base: BaseInfo },
): Promise<StoredProof | null> {
  const of = { digest, chainId, baseDigest: base.digest, limit: MAX_PROOFS_READ };
  for (const sha256 of await registry.proofs(of)) {
    const proof = await readProof(blobs, { digest, proof: sha256 });
    if (
      proof?.base_digest === base.digest &&
      proof.weights === base.weights &&
      // Tried with float32 keys and values, it may not fit int8 ones.
      (base.kv === undefined || proof.kv !== undefined)
    )
      return { proof, sha256 };
  }
  return null;
}

function problemOf({ ok: good, reason, code, adapter }: VerifyAnswer): ApiError | null {
  if (good && adapter.length > 0) return null;
  const refusal = REFUSALS[reason ?? ''];
  if (refusal !== undefined) return adapterInvalid(refusal.reason, refusal.message);
  if (reason !== null && code !== undefined) return adapterInvalid(code, reason);
  return adapterInvalid(
    'proof_failed',
    `The model cannot run with the adapter: ${reason ?? 'no reason was given'}`,
  );
}
