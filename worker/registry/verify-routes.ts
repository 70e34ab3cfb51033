import { Hono } from 'hono';
import type { VerifyVersionAnswer } from '../../protocol/index.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { VerifyVersionRequest, verifyVersion } from './verify-version.ts';
import { fail, methodNotAllowed, requestLife, type AppEnv } from '../http/request-scope.ts';
import { readInput } from '../http/parse-input.ts';

/**
 * `POST /admin/verify` {@link VerifyVersionRequest} -> {@link VerifyVersionAnswer}; 503 when no origin answers.
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
    const { name, version, digest } = row;
    return context.json({ name, version, digest, origins } satisfies VerifyVersionAnswer);
  });
  routes.all('/admin/verify', methodNotAllowed('POST'));
  return routes;
}
