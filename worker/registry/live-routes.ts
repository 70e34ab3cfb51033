import { Hono } from 'hono';
import type {
  AliasAnswer,
  ApiError,
  FlipAnswer,
  Result,
  RetireAnswer,
  StrictAnswer,
} from '../../protocol/index.ts';
import { AliasRequest, aliasName } from './alias-name.ts';
import { FlipRequest, flipVersion } from './go-live.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { PromoteRequest, promoteVersion } from './promote-version.ts';
import { RetireRequest, retireVersion } from './retire-version.ts';
import { RollbackRequest, rollbackVersion } from './rollback-version.ts';
import { StrictRequest, strictName } from './strict-name.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import { mayUseChain } from '../access/authorize.ts';
import type { ExperimentLedger } from '../experiments/ports.ts';
import { readInput } from '../http/parse-input.ts';

/**
 * `POST /admin/flip` {@link FlipRequest}, `/admin/promote` {@link PromoteRequest} and `/admin/rollback`
 * {@link RollbackRequest} -> {@link FlipAnswer};
 * `POST /admin/retire` {@link RetireRequest} -> {@link RetireAnswer};
 * `POST /admin/alias` {@link AliasRequest} -> {@link AliasAnswer};
 * `POST /admin/strict` {@link StrictRequest} -> {@link StrictAnswer}.
 * 404 when the name or version is not there or another's; 409 when it has changed or its state forbids it; 503
 * `registry_unavailable` when the change is recorded, but its pointer could not be written.
 */
export function adminLifeCycleRoutes(
  deps: IntakeDeps & { experimentLedger: Pick<ExperimentLedger, 'using'> },
): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post('/admin/flip', async (context) => {
    const request = await readInput(context.req.raw, FlipRequest);
    if (!request.ok) return fail(request.error);
    return answer(await flipVersion(deps, { request: request.value, caller: context.get('admin') }));
  });
  routes.all('/admin/flip', methodNotAllowed('POST'));

  routes.post('/admin/promote', async (context) => {
    const request = await readInput(context.req.raw, PromoteRequest);
    if (!request.ok) return fail(request.error);
    return answer(await promoteVersion(deps, { request: request.value, caller: context.get('admin') }));
  });
  routes.all('/admin/promote', methodNotAllowed('POST'));

  routes.post('/admin/rollback', async (context) => {
    const request = await readInput(context.req.raw, RollbackRequest);
    if (!request.ok) return fail(request.error);
    return answer(await rollbackVersion(deps, { request: request.value, caller: context.get('admin') }));
  });
  routes.all('/admin/rollback', methodNotAllowed('POST'));

  routes.post('/admin/retire', async (context) => {
    const request = await readInput(context.req.raw, RetireRequest);
    if (!request.ok) return fail(request.error);
    const retired = await retireVersion(deps, { request: request.value, caller: context.get('admin') });
    if (!retired.ok) return fail(retired.error);
    const { name, version, retiredAt, stops } = retired.value;
    return context.json({ name, version, retired_at: retiredAt, stops } satisfies RetireAnswer);
  });
  routes.all('/admin/retire', methodNotAllowed('POST'));

  routes.post('/admin/alias', async (context) => {
    const request = await readInput(context.req.raw, AliasRequest);
    if (!request.ok) return fail(request.error);
    const aliased = await aliasName(
      { ...deps, mayUseChain },
      { request: request.value, caller: context.get('admin') },
    );
    return aliased.ok ? context.json(aliased.value satisfies AliasAnswer) : fail(aliased.error);
  });
  routes.all('/admin/alias', methodNotAllowed('POST'));

  routes.post('/admin/strict', async (context) => {
    const request = await readInput(context.req.raw, StrictRequest);
    if (!request.ok) return fail(request.error);
    const made = await strictName(deps, { request: request.value, caller: context.get('admin') });
    return made.ok ? context.json(made.value satisfies StrictAnswer) : fail(made.error);
  });
  routes.all('/admin/strict', methodNotAllowed('POST'));
  return routes;
}

const answer = (flipped: Result<FlipAnswer, ApiError>): Response =>
  flipped.ok ? Response.json(flipped.value) : fail(flipped.error);
