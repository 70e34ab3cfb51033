import { Hono } from 'hono';
import type { WarmAnswer } from '../../protocol/index.ts';
import { conflict, originUnavailable } from '../errors.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request-scope.ts';
import { ownVersion } from '../registry/own-version.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';

/**
 * Loads a version where it would be served. 404 for what is not the caller's, 409 for what is not served any more, 503
 * when there is no origin to ask.
 */
export function adminWarmRoutes(deps: Pick<IntakeDeps, 'registry' | 'warmth'>): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/warm', async ({ context, caller, request }) => {
    const found = await ownVersion(deps.registry, { request, caller });
    if (!found.ok) return fail(found.error);
    const { name, version, base, chain, retiredAt, withdrawnAt } = found.value;
    if (retiredAt !== null || withdrawnAt !== null)
      return fail(
        conflict(`'${name}@${version}' is retired or stands on what is, and is not served any more.`),
      );
    const origins = await deps.warmth.warm({
      ...requestLife(context),
      name,
      base: base.id,
      chain: chain.map(({ digest, scale }) => ({ digest, scale })),
    });
    return origins.length === 0
      ? fail(originUnavailable())
      : context.json({ name, version, origins } satisfies WarmAnswer);
  });
  return routes;
}
