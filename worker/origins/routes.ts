import { Hono } from 'hono';
import type { OriginList, OriginView } from '../../protocol/index.ts';
import { adminRoute } from '../http/admin-route.ts';
import type { AppEnv } from '../http/request-scope.ts';
import type { OriginClient, OriginReport } from './client.ts';

/** What origins are; null when one does not answer. `residents` and `figures` are null for all but the bootstrap key. */
export function adminOriginRoutes(deps: { origins: OriginClient }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/origins', async ({ context, caller, query }) => {
    const measured = query.figures === 'true';
    // Residents tell who uses what, and figures how much: for the operator alone.
    const { root } = caller;
    const reports = await deps.origins.report(measured && root);
    const shown = ({ id, configuredBase, base, residents, figures }: OriginReport): OriginView => ({
      id,
      ...(configuredBase === null ? {} : { configured_base: configuredBase }),
      base,
      residents: root ? residents : null,
      ...(measured ? { figures: root ? figures : null } : {}),
    });
    return context.json({ origins: reports.map(shown) } satisfies OriginList);
  });
  return routes;
}
