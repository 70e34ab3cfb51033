/** The admin API's versions: publish, plan, verify, list. */
import { Hono } from 'hono';
import {
  REMOVAL_GRACE_MS,
  type NameList,
  type NameView,
  type RemovedList,
} from '../../protocol/admin-api/names.ts';
import type {
  FileVersions,
  PublishedVersion,
  PublishPlan,
  VersionList,
  VersionView,
  OriginVerdict,
  VerifyVersionRequest,
  VerifyVersionAnswer,
  PlanRequest,
  PublishRequest,
} from '../../protocol/admin-api/versions.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { AdapterName, Digest, chainId } from '../../protocol/identity.ts';
import type { AdapterProof, VerifyAnswer } from '../../protocol/origin-wire.ts';
import {
  adapterInvalid,
  adapterUnavailable,
  conflict,
  modelNotFound,
  originUnavailable,
  ownNameOfBase,
} from '../errors.ts';
import type { DescribedVersion, IntakeDeps, RequestLife, NameRow, VersionRow, Registry } from './ports.ts';
import { earlierProof, publishVersion, readProof, removedNotice, settle } from './publish-version.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { MAX_VERSIONS_OF_FILE } from './limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { parseInput, fail, query, requestLife, type AppContext, type AppEnv } from '../http/request.ts';
import { mayUse, mayUseChain } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import { PUBLIC, type AdminCaller } from '../access/ports.ts';
import { ancestorsOf } from './claims.ts';
import { ownVersion, mayName } from './own-name.ts';
import { entryOf, judgeHead, fitChain, parentOf, type MayUseChain } from './assemble-chain.ts';
import { isThere } from '../blobs/stored-file.ts';
import { MAX_CHECKED_HEADER_BYTES } from '../blobs/limits.ts';

const versionJson = (row: DescribedVersion, live: boolean): VersionView => ({
  name: row.name,
  version: row.version,
  digest: row.digest,
  chain: row.chain,
  chain_id: row.chainId,
  parent: row.parent,
  owner: row.owner,
  base: row.base,
  bytes: row.bytes,
  rank: row.rank,
  created_at: row.createdAt,
  created_by: row.createdBy,
  evaluation: row.evaluation,
  training: row.training,
  retired_at: row.retiredAt,
  withdrawn_at: row.withdrawnAt,
  live,
});

const nameJson = ({ name, owner, version, latest, alias, strict, about }: NameRow): NameView => ({
  name,
  owner,
  version,
  latest,
  alias,
  strict,
  ...about,
});

/** Versions and names. Publishing returns 409, 422, or 503 if no origin can try the adapter. */
export function adminVersionRoutes(
  deps: IntakeDeps & { grantLedger: Pick<GrantLedger, 'holderOf'> },
): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'POST /admin/versions', async ({ context, caller, request }) => {
    const asked = await holderProblem(deps, { request, caller });
    if (asked !== null) return fail(asked);
    const published = await publishVersion(
      { ...deps, mayUseChain },
      { request, caller, life: requestLife(context) },
    );
    if (!published.ok) return fail(published.error);
    const { row, name, created, proof, notice } = published.value;
    const answer: PublishedVersion = {
      ...versionJson(row, name.version === row.version),
      proof: proof ?? (await readProof(deps.blobs, row)),
      ...(notice == null ? {} : { notice }),
    };
    return context.json(answer, created ? 201 : 200);
  });

  adminRoute(routes, 'POST /admin/versions/plan', async ({ context, caller, request }) => {
    const plan = await planVersion({ ...deps, mayUseChain }, { request, caller });
    return plan.ok ? context.json(plan.value satisfies PublishPlan) : fail(plan.error);
  });

  adminRoute(
    routes,
    'GET /admin/versions',
    async ({ context, caller }) => {
      const file = query(context, 'digest');
      if (file !== null) return versionsOf(deps, context, file);
      const name = parseInput(AdapterName, query(context, 'name') ?? '');
      if (!name.ok) return fail(name.error);
      const row = await deps.registry.name(name.value);
      // Whoever may build on a name may see its chain ids; only its owner may change it.
      if (row === null || row.removedAt !== null || !mayUse(caller, row))
        return fail(modelNotFound(name.value, []));
      const versions = await deps.registry.versions(name.value);
      return context.json({
        name: row.name,
        owner: row.owner,
        version: row.version,
        versions: versions.map((version) => versionJson(version, version.version === row.version)),
      } satisfies VersionList);
    },
    { ownQuery: true },
  );

  adminRoute(routes, 'GET /admin/names', async ({ context, caller, query }) => {
    const page = await deps.registry.names({
      ...query,
      limit: ADMIN_PAGE,
      owner: caller.root ? null : caller.tenant,
    });
    return context.json({ names: page.items.map(nameJson), cursor: page.cursor } satisfies NameList);
  });

  adminRoute(routes, 'GET /admin/removed', async ({ context, caller, query }) => {
    const since = deps.now() - REMOVAL_GRACE_MS;
    const owner = caller.root ? null : caller.tenant;
    const page = await deps.registry.withRemoved({ ...query, owner, since, limit: ADMIN_PAGE });
    const removed = page.items.map(({ removedAt, ...one }) => ({
      ...one,
      removed_at: removedAt,
      restorable_until: removedAt + REMOVAL_GRACE_MS,
    }));
    return context.json({ removed, cursor: page.cursor } satisfies RemovedList);
  });
  return routes;
}

/** What was made from prompts is not for those who were granted the name before, without a question. */
async function holderProblem(
  { registry, grantLedger }: Pick<IntakeDeps, 'registry'> & { grantLedger: Pick<GrantLedger, 'holderOf'> },
  { request, caller }: { request: PublishRequest; caller: AdminCaller },
): Promise<ApiError | null> {
  const { name, training, made_from_prompts: confirmed } = request;
  if (training?.prompts === undefined || confirmed === true) return null;
  const owner = (await registry.name(name))?.owner ?? request.owner ?? caller.tenant;
  const scopes = [name, ...[name, ...ancestorsOf(name)].map((above) => `${above}/**`), '**'];
  const holder = await grantLedger.holderOf({ scopes, owner });
  if (holder === null) return null;
  return conflict(
    `This was made from prompts of users, and ${holder === PUBLIC ? 'everybody' : `'${holder}'`} may use ` +
      `'${name}' by a grant. Take the grant back (graft grant --remove), or confirm it: --made-from-prompts ` +
      '(made_from_prompts).',
    'made_from_prompts',
  );
}

async function versionsOf(deps: IntakeDeps, context: AppContext, file: string): Promise<Response> {
  const digest = parseInput(Digest, file);
  if (!digest.ok) return fail(digest.error);
  const rows = await deps.registry.versionsOf({ digest: digest.value, limit: MAX_VERSIONS_OF_FILE });
  const caller = context.get('admin');
  const versions = rows.filter((row) => mayUse(caller, row)).map(({ name, version }) => ({ name, version }));
  return context.json({ versions } satisfies FileVersions);
}

/** Has every origin try a published version again, and compares the results with the version's proof. */
async function verifyVersion(
  deps: Pick<IntakeDeps, 'registry' | 'blobs' | 'trials'>,
  params: { request: VerifyVersionRequest; caller: AdminCaller; life: RequestLife },
): Promise<Result<{ row: VersionRow; proof: AdapterProof | null; origins: OriginVerdict[] }, ApiError>> {
  const { request, caller, life } = params;
  const found = await ownVersion(deps.registry, { request, caller });
  if (!found.ok) return found;
  const row = found.value;
  const proof = await readProof(deps.blobs, row);
  if (proof === null && row.proof !== null)
    return err(
      adapterUnavailable(
        `The proof of '${row.name}@${row.version}' is missing or corrupted. Retry in a minute, or publish the adapter again.`,
      ),
    );
  const chain = row.chain.map(({ digest, scale }) => ({ digest, scale }));
  const answers = await deps.trials.verifyEverywhere(
    { ...life, name: row.name, base: row.base.id, tenant: caller.tenant, chain },
    proof === null ? undefined : { prompt: proof.prompt, tokens: proof.tokens },
  );
  if (answers.length === 0) return err(originUnavailable());
  const failures = answers.flatMap(({ answer }) => (answer.ok ? [] : [answer.error]));
  if (failures.length === answers.length && failures[0] !== undefined) return err(failures[0]);
  const origins = answers.map(({ id, answer }) =>
    answer.ok
      ? { id, ...verdictOf(answer.value, proof) }
      : { id, ok: false, reason: answer.error.code, kl: null, max_difference: null },
  );
  return ok({ row, proof, origins });
}

function verdictOf(answer: VerifyAnswer, proof: AdapterProof | null): Omit<OriginVerdict, 'id'> {
  const { reason, kl, max_difference } = answer;
  const comparable = proof?.base_digest === answer.base_digest && proof.weights === answer.weights;
  if (comparable) return { ok: answer.ok, reason, kl, max_difference };
  const own = answer.ok || reason === 'proof_mismatch' ? null : reason;
  return { ok: false, reason: own ?? 'no proof for this base', kl: null, max_difference };
}

/** Has every origin verify a version; 503 if none responds. */
export function adminVerifyRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/verify', async ({ context, caller, request }) => {
    const verified = await verifyVersion(deps, {
      request,
      caller,
      life: requestLife(context),
    });
    if (!verified.ok) return fail(verified.error);
    const { row, proof, origins } = verified.value;
    const { name, version, digest } = row;
    return context.json({ name, version, digest, proof, origins } satisfies VerifyVersionAnswer);
  });
  return routes;
}

type PlanDeps = Pick<IntakeDeps, 'registry' | 'blobs' | 'blobLedger' | 'bases' | 'now'>;

/**
 * What `publishVersion` would do with a file, given only its header. Makes the same checks in the same order,
 * and changes nothing. Leaves out what needs the file's bytes, such as an origin's trial.
 */
async function planVersion(
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
        `The header has ${file.header_bytes} bytes; at most ${MAX_CHECKED_HEADER_BYTES} are read.`,
      ),
    );
  const checked = await judgeHead(headOf(file), deps.bases);
  if (!checked.ok) return checked;
  const fits = fitChain({ asked, parent: parent.value, checked: checked.value });
  if (!fits.ok) return fits;
  const { rank, base } = fits.value;
  const chain = [...(parent.value?.chain ?? []), entryOf({ digest, name, owner }, fits.value)];
  const id = await chainId(chain);
  const settled = await settle(deps, { request, row: { name, digest, chainId: id }, before });
  if (!settled.ok) return settled;
  const same = settled.value?.row ?? null;
  const trial = same === null && (await earlierProof(deps, { row: { digest, chainId: id }, base })) === null;
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

const headOf = ({ base, parent, invocation, classifier, modules }: PlanRequest['file']) => ({
  config: { base, parent, invocation },
  classifier:
    classifier === undefined ? undefined : { weight: { shape: [classifier.classes, classifier.in] } },
  modules: modules.map(({ name, rank, in: columns, out }) => ({
    ...{ name, rank },
    a: { shape: [rank, columns] },
    b: { shape: [out, rank] },
  })),
});

/** The owner's nearest live name above, unless a strict one of theirs is nearer. */
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
