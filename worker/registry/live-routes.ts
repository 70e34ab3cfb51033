import { Hono } from 'hono';
import type {
  AliasAnswer,
  ApiError,
  EditAnswer,
  LiveAnswer,
  RemoveAnswer,
  RestoreAnswer,
  Result,
  RetireAnswer,
  StrictAnswer,
  ChangeList,
  ChangeView,
} from '../../protocol/index.ts';
import { aliasName, editName, strictName } from './change-name.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { promoteVersion, rollbackVersion } from './go-live.ts';
import { removeName } from './remove-name.ts';
import { restoreName } from './restore-name.ts';
import { retireVersion } from './retire-version.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request-scope.ts';
import { mayUseChain } from '../access/authorize.ts';
import type { ExperimentLedger } from '../experiments/ports.ts';
import { ownName } from './own-name.ts';
import { HISTORY_PAGE } from './limits.ts';
import type { HistoryRow, Registry } from './ports.ts';

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
