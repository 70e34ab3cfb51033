import { Hono } from 'hono';
import type { VerifyVersionAnswer } from '../../protocol/index.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { verifyVersion } from './verify-version.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request-scope.ts';

/** Has every origin verify a version; 503 when none answers. */
export function adminVerifyRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/verify', async ({ context, caller, request }) => {
    const verified = await verifyVersion(deps, {
      request,
      caller,
      life: requestLife(context),
    });
    if (!verified.ok) return fail(verified.error);
    const { row, origins } = verified.value;
    const { name, version, digest } = row;
    return context.json({ name, version, digest, origins } satisfies VerifyVersionAnswer);
  });
  return routes;
}
