import { Hono } from 'hono';
import { methodNotAllowed, type AppEnv } from '../middleware/request-scope.ts';
import type { OriginClient } from '../origin-client.ts';

/** `GET /admin/origins` -> `{origins: [{id, base, residents}]}`; both null when an origin does not answer. */
export function adminOriginRoutes(deps: { origins: OriginClient }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get('/admin/origins', async (context) => {
    // Residents tell who uses what: for the operator alone.
    const reports = await deps.origins.report();
    const { root } = context.get('admin');
    return context.json({
      origins: reports.map(({ id, base, residents }) => ({ id, base, residents: root ? residents : null })),
    });
  });
  routes.all('/admin/origins', methodNotAllowed('GET'));
  return routes;
}
