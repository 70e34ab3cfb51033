import { Hono } from 'hono';
import type { EvaluateAnswer } from '../../protocol/index.ts';
import { EvaluateFileRequest, evaluateFile } from './evaluate-file.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { MAX_EVALUATION_BODY_BYTES } from './limits.ts';
import { fail, methodNotAllowed, requestLife, type AppEnv } from '../http/request-scope.ts';
import { mayUseChain } from '../access/authorize.ts';
import { readInput } from '../http/parse-input.ts';

/** `POST /admin/evaluate` {@link EvaluateFileRequest} -> {@link EvaluateAnswer}, in order. */
export function adminEvaluateRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  routes.post('/admin/evaluate', async (context) => {
    const request = await readInput(context.req.raw, EvaluateFileRequest, MAX_EVALUATION_BODY_BYTES);
    if (!request.ok) return fail(request.error);
    const scored = await evaluateFile(
      { ...deps, mayUseChain },
      { request: request.value, caller: context.get('admin'), life: requestLife(context) },
    );
    return scored.ok ? context.json(scored.value satisfies EvaluateAnswer) : fail(scored.error);
  });
  routes.all('/admin/evaluate', methodNotAllowed('POST'));
  return routes;
}
