import { Hono } from 'hono';
import type { ChangeList, ChangeView } from '../../protocol/index.ts';
import { ownName } from './own-name.ts';
import { HISTORY_PAGE } from './limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import type { HistoryRow, Registry } from './ports.ts';

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
