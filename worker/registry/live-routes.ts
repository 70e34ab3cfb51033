import { Hono } from 'hono';
import {
  err,
  ok,
  type ApiError,
  type Result,
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
} from '../../protocol/index.ts';
import { mayUseChain } from '../access/authorize.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import type { ExperimentLedger } from '../experiments/ports.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request-scope.ts';
import { aliasName, editName, strictName } from './change-name.ts';
import { promoteVersion, rollbackVersion } from './go-live.ts';
import { MAX_DEPENDENTS_TOLD, STALE_POINTERS_OF_RETIREMENT, HISTORY_PAGE } from './limits.ts';
import { changed, ownName } from './own-name.ts';
import type { Stopped } from './ports-rooms.ts';
import type { VersionRow, HistoryRow, Registry } from './ports.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { removeName } from './remove-name.ts';
import { restoreName } from './restore-name.ts';
import { syncStalePointers } from './write-pointer.ts';

export type Retired = VersionRow & { retiredAt: number; stops: Stopped };

/**
 * Takes a version out of use: it can neither be asked for nor made live any more, and stays in the history. Not the
 * live one, none that another version in use of the same owner was made on top of, and none that an experiment of theirs
 * names. What others have made with it does not stand in the way, as it does not when a grant is taken back: it is not
 * served any more, and counted here, never named.
 */
export async function retireVersion(
  deps: Pick<IntakeDeps, 'registry' | 'pointers' | 'now'> & {
    experimentLedger: Pick<ExperimentLedger, 'using'>;
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
  // Also of one that is retired: an earlier attempt may have ended before its pointers.
  const limit = STALE_POINTERS_OF_RETIREMENT;
  if (row.retiredAt !== null) {
    if (request.dry_run !== true) await syncStalePointers(deps, { limit, newest: true });
    return ok({ ...row, retiredAt: row.retiredAt, stops: { versions: 0, experiments: 0 } });
  }
  if (before.value.version === version)
    return err(conflict(`'${what}' is live. Make another version live before it is retired.`));
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
  return `'${what}' cannot be retired: experiment '${told}' names it. Archive the experiment first.`;
}

function inUse(what: string, children: readonly { name: string; version: number }[]): string {
  const told = children.slice(0, MAX_DEPENDENTS_TOLD).map(({ name, version }) => `${name}@${version}`);
  const more = children.length > MAX_DEPENDENTS_TOLD ? ' and others' : '';
  return `'${what}' cannot be retired: ${told.join(', ')}${more} ${children.length === 1 ? 'was' : 'were'} made on top of it. Retire what stands on it first.`;
}

/**
 * Changes of names. 404 when the name or version is not there or another's; 409 when it has changed or its state forbids
 * it; 503 `registry_unavailable` when the change is recorded, but its pointer could not be written.
 */
export function adminLifeCycleRoutes(
  deps: IntakeDeps & { experimentLedger: Pick<ExperimentLedger, 'using'> },
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

/** Changes of one name, or of all of the tenant's (all at all, or any tenant's, for the bootstrap key), newest first. */
export function adminHistoryRoutes(deps: { registry: Registry }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/history', async ({ context, caller, query }) => {
    const { name, tenant, before = null, limit = HISTORY_PAGE } = query;
    if (!caller.root && tenant !== undefined && tenant !== caller.tenant)
      return fail({
        code: 'insufficient_scope',
        message: 'This key sees the history of its own tenant only.',
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
