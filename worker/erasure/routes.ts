import { Hono } from 'hono';
import type { EraseAnswer } from '../../protocol/index.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import { erase } from './erase.ts';
import type { EraseDeps } from './erase-steps.ts';

/** Names, and all below one, for their owner; tenants for the bootstrap key. */
export function adminEraseRoutes(deps: EraseDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/erase', async ({ context, caller, request }) => {
    const erased = await erase(deps, { request, caller });
    return erased.ok ? context.json(erased.value satisfies EraseAnswer) : fail(erased.error);
  });
  return routes;
}
