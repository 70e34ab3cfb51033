import { Hono } from 'hono';
import type { EvaluateAnswer } from '../../protocol/index.ts';
import { evaluateFile } from './evaluate-file.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request-scope.ts';
import { mayUseChain } from '../access/authorize.ts';

/** Scores a file on rows with known answers. */
export function adminEvaluateRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/evaluate', async ({ context, caller, request }) => {
    const scored = await evaluateFile(
      { ...deps, mayUseChain },
      { request, caller, life: requestLife(context) },
    );
    return scored.ok ? context.json(scored.value satisfies EvaluateAnswer) : fail(scored.error);
  });
  return routes;
}
