import { Hono } from 'hono';
import type { IntakeDeps } from '../intake/intake-deps.ts';
import { VerifyVersionRequest, verifyVersion } from '../intake/verify-version.ts';
import { fail, methodNotAllowed, requestLife, type AppEnv } from '../middleware/request-scope.ts';
import { readInput } from './parse-input.ts';

/**
 * `POST /admin/verify` {@link VerifyVersionRequest} -> `{name, version, digest, origins: [{id, ok, reason, kl,
 * max_difference}]}`; 503 when no origin answers.
 */
export function adminVerifyRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.post('/admin/verify', async (context) => {
    const request = await readInput(context.req.raw, VerifyVersionRequest);
    if (!request.ok) return fail(request.error);
    const verified = await verifyVersion(deps, {
      request: request.value,
      caller: context.get('admin'),
      life: requestLife(context),
    });
    if (!verified.ok) return fail(verified.error);
    const { row, origins } = verified.value;
    return context.json({ name: row.name, version: row.version, digest: row.digest, origins });
  });
  routes.all('/admin/verify', methodNotAllowed('POST'));
  return routes;
}
