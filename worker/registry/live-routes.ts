/**
 * The admin API's changes of a name: promote, roll back, retire, remove and restore, aliases, notes, strict
 * mode; and its history.
 */
import { Hono } from 'hono';
import {
  type RetireRequest,
  type AliasAnswer,
  type EditAnswer,
  type LiveAnswer,
  type RemoveAnswer,
  type RestoreAnswer,
  type RetireAnswer,
  type StrictAnswer,
  type ChangeList,
  type ChangeView,
  MAX_TAGS,
  type AboutName,
  type AliasRequest,
  type EditRequest,
  type StrictRequest,
} from '../../protocol/admin-api/names.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { sameJson } from '../../protocol/identity.ts';
import { mayUseChain } from '../access/authenticate.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, conflict, adapterInvalid, ownNameOfBase } from '../errors.ts';
import type { ExperimentLedger } from '../experiments/ports.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request.ts';
import { promoteVersion, rollbackVersion } from './go-live.ts';
import { MAX_DEPENDENTS_TOLD, STALE_POINTERS_OF_RETIREMENT, HISTORY_PAGE, MAX_TRIES } from './limits.ts';
import { changed, ownName, mayName, type Taken } from './own-name.ts';
import type { Stopped, VersionRow, HistoryRow, Registry, NameRow, IntakeDeps } from './ports.ts';
import { removeName, restoreName } from './remove-name.ts';
import { syncStalePointers, writePointer } from './write-pointer.ts';
import type { MayUseChain } from './assemble-chain.ts';

export type Retired = VersionRow & { retiredAt: number; stops: Stopped };

/**
 * Retires a version: it can no longer be requested or made live, but stays in the history. Refused for the
 * live version, for one that the owner's other versions in use are built on, and for one that the owner's
 * experiments use. Others' versions built on it do not prevent it, just as for revoked grants: they are
 * withdrawn and counted in the response, but never named.
 */
export async function retireVersion(
  deps: Pick<IntakeDeps, 'registry' | 'pointers' | 'now'> & {
    experimentLedger: ExperimentLedger;
  },
  params: { request: RetireRequest; caller: AdminCaller },
): Promise<Result<Retired, ApiError>> {
  const { request, caller } = params;
  const { name, version } = request;
  const what = `${name}@${version}`;
  const before = await ownName(deps, { name, caller, what });
  if (!before.ok) return before;
  const row = await deps.registry.version(name, version);
  if (row === null) return err(adapterNotFound(what));
  // Also if it was retired before: an earlier attempt may have failed before its pointers.
  const limit = STALE_POINTERS_OF_RETIREMENT;
  if (row.retiredAt !== null) {
    if (request.dry_run !== true) await syncStalePointers(deps, { limit, newest: true });
    return ok({ ...row, retiredAt: row.retiredAt, stops: { versions: 0, experiments: 0 } });
  }
  if (before.value.version === version)
    return err(conflict(`'${what}' is live. Promote another version before you retire it.`));
  const children = await deps.registry.dependents(row, MAX_DEPENDENTS_TOLD + 1);
  if (children.length > 0) return err(conflict(inUse(what, children)));
  const experiments = await deps.experimentLedger.using({ name, version, owner: row.owner });
  if (experiments.length > 0) return err(conflict(tested(what, experiments)));
  const stops = await deps.registry.stops(row);
  const at = deps.now();
  if (request.dry_run === true) return ok({ ...row, retiredAt: at, stops });
  const note = { actor: caller.keyId, at, why: request.why ?? null };
  const retired = await deps.registry.retire({ before: before.value, version, digest: row.digest, ...note });
  if (!retired.ok) return err(changed(name, retired.error.name));
  await syncStalePointers(deps, { limit, newest: true });
  return ok({ ...row, retiredAt: at, stops });
}

function tested(what: string, experiments: readonly string[]): string {
  const told = experiments.slice(0, MAX_DEPENDENTS_TOLD).join("', '");
  return `'${what}' cannot be retired: experiment '${told}' uses it. Archive the experiment first.`;
}

function inUse(what: string, children: readonly { name: string; version: number }[]): string {
  const told = children.slice(0, MAX_DEPENDENTS_TOLD).map(({ name, version }) => `${name}@${version}`);
  const more = children.length > MAX_DEPENDENTS_TOLD ? ' and others' : '';
  return (
    `'${what}' cannot be retired: ${told.join(', ')}${more} ${children.length === 1 ? 'was' : 'were'} ` +
    'built on it. Retire what depends on it first.'
  );
}

/**
 * Changes of names. 404 if the name or version does not exist or belongs to another tenant; 409 if it has
 * changed or its state forbids the change; 503 `registry_unavailable` if the change is recorded, but its
 * pointer could not be written.
 */
export function adminLifeCycleRoutes(
  deps: IntakeDeps & { experimentLedger: ExperimentLedger },
): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'POST /admin/promote', async ({ context, caller, request }) => {
    return answer(await promoteVersion(deps, { request, caller, life: requestLife(context) }));
  });

  adminRoute(routes, 'POST /admin/rollback', async ({ context, caller, request }) => {
    return answer(await rollbackVersion(deps, { request, caller, life: requestLife(context) }));
  });

  adminRoute(routes, 'POST /admin/retire', async ({ context, caller, request }) => {
    const retired = await retireVersion(deps, { request, caller });
    if (!retired.ok) return fail(retired.error);
    const { name, version, retiredAt, stops } = retired.value;
    return context.json({ name, version, retired_at: retiredAt, stops } satisfies RetireAnswer);
  });

  adminRoute(routes, 'POST /admin/remove', async ({ context, caller, request }) => {
    const removed = await removeName(deps, { request, caller });
    return removed.ok ? context.json(removed.value satisfies RemoveAnswer) : fail(removed.error);
  });

  adminRoute(routes, 'POST /admin/restore', async ({ context, caller, request }) => {
    const restored = await restoreName(deps, { request, caller });
    return restored.ok ? context.json(restored.value satisfies RestoreAnswer) : fail(restored.error);
  });

  adminRoute(routes, 'POST /admin/alias', async ({ context, caller, request }) => {
    const aliased = await aliasName({ ...deps, mayUseChain }, { request, caller });
    return aliased.ok ? context.json(aliased.value satisfies AliasAnswer) : fail(aliased.error);
  });

  adminRoute(routes, 'POST /admin/edit', async ({ context, caller, request }) => {
    const made = await editName(deps, { request, caller });
    return made.ok ? context.json(made.value satisfies EditAnswer) : fail(made.error);
  });

  adminRoute(routes, 'POST /admin/strict', async ({ context, caller, request }) => {
    const made = await strictName(deps, { request, caller });
    return made.ok ? context.json(made.value satisfies StrictAnswer) : fail(made.error);
  });
  return routes;
}

const answer = (live: Result<LiveAnswer, ApiError>): Response =>
  live.ok ? Response.json(live.value) : fail(live.error);

const changeJson = (row: HistoryRow): ChangeView => ({
  id: row.id,
  name: row.name,
  owner: row.owner,
  at: row.at,
  actor: row.actor,
  action: row.action,
  from: row.from,
  to: row.to,
  target: row.target,
  why: row.why,
});

/**
 * Changes of one name, or of all of the tenant's names, newest first. The bootstrap key sees all tenants' or
 * any one's.
 */
export function adminHistoryRoutes(deps: { registry: Registry }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/history', async ({ context, caller, query }) => {
    const { name, tenant, before = null, limit = HISTORY_PAGE } = query;
    if (!caller.root && tenant !== undefined && tenant !== caller.tenant)
      return fail({
        code: 'insufficient_scope',
        message: 'This key may read the history of its own tenant only.',
      });
    if (name !== undefined) {
      const own = await ownName(deps, { name, caller, removed: true });
      if (!own.ok) return fail(own.error);
    }
    const rows = await deps.registry.history({
      name: name ?? null,
      owner: caller.root ? (tenant ?? null) : caller.tenant,
      before,
      limit,
    });
    return context.json({
      changes: rows.map(changeJson),
      before: rows.length === limit ? (rows.at(-1)?.id ?? null) : null,
    } satisfies ChangeList);
  });
  return routes;
}

type AliasDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'bases' | 'now'> & { mayUseChain: MayUseChain };

/** Makes a name without versions an alias of another, or ends that. An alias gives no right to its target. */
async function aliasName(
  deps: AliasDeps,
  params: { request: AliasRequest; caller: AdminCaller },
): Promise<Result<AliasAnswer, ApiError>> {
  const { request, caller } = params;
  const { name, target } = request;
  const before = await deps.registry.name(name);
  const checked = await (target === null
    ? checkRemoval(deps, { name, caller })
    : checkAlias(deps, { name, target, caller, before }));
  if (!checked.ok) return checked;
  const from = before?.alias ?? null;
  const { owner, claimant, notice } = checked.value;
  const answer: AliasAnswer = { name, target, from, ...(notice === null ? {} : { notice }) };
  if (request.dry_run === true) return ok(answer);
  if (from !== target) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.alias({ before, name, owner, target, claimant, ...note });
    if (!made.ok) return err(changed(name, made.error.name));
  }
  // Also if nothing changed: an earlier attempt may have failed before its pointer.
  const written = await writePointer(deps, { name, what: 'alias' });
  return written.ok ? ok(answer) : written;
}

async function checkRemoval(
  deps: AliasDeps,
  { name, caller }: { name: string; caller: AdminCaller },
): Promise<Result<Taken, ApiError>> {
  const own = await ownName(deps, { name, caller });
  if (!own.ok) return own;
  return own.value.latest > 0
    ? err(conflict(hasVersions(name)))
    : ok({ owner: own.value.owner, claimant: null, notice: null });
}

const hasVersions = (name: string): string => `'${name}' has versions of its own, so it cannot be an alias.`;
const hadVersions = (name: string): string =>
  `'${name}' was removed, but had versions of its own. Erase it before you make it an alias.`;

async function checkAlias(
  deps: AliasDeps,
  params: { name: string; target: string; caller: AdminCaller; before: NameRow | null },
): Promise<Result<Taken, ApiError>> {
  const { name, target, caller, before } = params;
  const owner = await mayName(deps, { name, owner: null, caller, before });
  if (!owner.ok) return owner;
  if (before !== null && before.latest > 0)
    return err(conflict((before.removedAt === null ? hasVersions : hadVersions)(name)));
  if (name === target)
    return err(adapterInvalid('alias_of_itself', 'A name cannot be an alias of itself.', 'target'));
  const bases = await deps.bases.ids();
  if (bases.ok && bases.value.includes(name)) return err(ownNameOfBase(name));
  const row = await deps.registry.live(target);
  if (row !== null && (caller.root || deps.mayUseChain(caller, row))) return owner;
  return err({
    code: 'model_not_found',
    message: `'${target}' does not exist, has no live version of its own, or you do not have access to it.`,
  });
}

/** The description after the request; an error if it is too large. */
function aboutAfter(
  { description, tags, add_tags: added = [], remove_tags: taken = [] }: EditRequest,
  from: AboutName,
): Result<AboutName, ApiError> {
  const wanted = tags ?? [...from.tags, ...added].filter((tag) => !taken.includes(tag));
  const all = [...new Set(wanted)].sort();
  if (tags === undefined && added.length > 0 && all.length > MAX_TAGS)
    return err({
      code: 'invalid_request',
      message: `A name has at most ${MAX_TAGS} tags; this one would have ${all.length}.`,
      param: 'add_tags',
    });
  return ok({ description: description === undefined ? from.description : description, tags: all });
}

/**
 * Changes a name's description. It is not served, so no pointer is written. Concurrent changes of other
 * fields are kept: the change is retried on top of them.
 */
async function editName(
  deps: Pick<IntakeDeps, 'registry' | 'now'>,
  params: { request: EditRequest; caller: AdminCaller },
): Promise<Result<EditAnswer, ApiError>> {
  const { request, caller } = params;
  const { name } = request;
  for (let attempt = 1; ; attempt += 1) {
    const before = await ownName(deps, { name, caller });
    if (!before.ok) return before;
    const from = before.value.about;
    const about = aboutAfter(request, from);
    if (!about.ok) return about;
    const answer: EditAnswer = { name, ...about.value, from };
    if (request.dry_run === true || sameJson(about.value, from)) return ok(answer);
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.setAbout({ before: before.value, about: about.value, ...note });
    if (made.ok) return ok(answer);
    if (attempt === MAX_TRIES) return err(changed(name, made.error.name));
  }
}

/**
 * Makes a name strict, whichever version is live, or ends that: a missing name below it then inherits neither
 * from it nor from above. An alias follows its target instead.
 */
async function strictName(
  deps: Pick<IntakeDeps, 'registry' | 'pointers' | 'now'>,
  params: { request: StrictRequest; caller: AdminCaller },
): Promise<Result<StrictAnswer, ApiError>> {
  const { request, caller } = params;
  const { name, strict } = request;
  const before = await ownName(deps, { name, caller });
  if (!before.ok) return before;
  const { alias, latest, strict: from } = before.value;
  if (alias !== null)
    return err(
      conflict(`'${name}' is an alias of '${alias}', and exactly as strict. Change '${alias}' instead.`),
    );
  if (latest === 0) return err(conflict(`'${name}' has no versions.`));
  if (request.dry_run === true) return ok({ name, strict, from });
  if (from !== strict) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.setStrict({ before: before.value, strict, ...note });
    if (!made.ok) return err(changed(name, made.error.name));
  }
  // Also if nothing changed: an earlier attempt may have failed before its pointer.
  const written = await writePointer(deps, { name, what: 'change' });
  return written.ok ? ok({ name, strict, from }) : written;
}
