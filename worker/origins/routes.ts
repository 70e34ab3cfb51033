import { Hono } from 'hono';
import { z } from 'zod';
import type { OriginList, OriginView } from '../../protocol/index.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import type { OriginClient, OriginReport } from './client.ts';
import { parseInput } from '../http/parse-input.ts';

export const OriginsQuery = z.strictObject({
  /** `true`: how busy they are, too. */
  figures: z.enum(['true', 'false']).default('false'),
});

/**
 * `GET /admin/origins?figures=` -> {@link OriginList}; null when an origin does not answer. `residents` and
 * {@link OriginFigures} are null for all but the bootstrap key.
 */
export function adminOriginRoutes(deps: { origins: OriginClient }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.get('/admin/origins', async (context) => {
    const input = parseInput(OriginsQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const measured = input.value.figures === 'true';
    // Residents tell who uses what, and figures how much: for the operator alone.
    const { root } = context.get('admin');
    const reports = await deps.origins.report(measured && root);
    const shown = ({ id, base, residents, figures }: OriginReport): OriginView => ({
      id,
      base,
      residents: root ? residents : null,
      ...(measured ? { figures: root ? figures : null } : {}),
    });
    return context.json({ origins: reports.map(shown) } satisfies OriginList);
  });
  routes.all('/admin/origins', methodNotAllowed('GET'));
  return routes;
}
