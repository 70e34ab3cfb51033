import { Hono } from 'hono';
import { MAX_KEPT_REQUESTS, type RequestList, type RequestView } from '../../protocol/index.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import type { TrafficLedger } from './ports.ts';
import { isError } from './sum-points.ts';
import { whoseTraffic } from './whose-traffic.ts';

/** Requests of one answer, unless told otherwise. */
const PAGE = 100;

/** The last completions, one by one; only the bootstrap key sees those of other tenants than its own. */
export function adminRequestRoutes(deps: { traffic: TrafficLedger }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/requests', async ({ context, caller, query }) => {
    const tenant = whoseTraffic(caller, query.tenant);
    if (!tenant.ok) return fail(tenant.error);
    const { name, key, status, variant, id, limit = PAGE } = query;
    const chunks = await deps.traffic.requests({ tenant: tenant.value, limit: MAX_KEPT_REQUESTS });
    const found = chunks
      .flatMap(({ requests }) => requests)
      // Chunks of isolates overlap.
      .sort((a, b) => b.at - a.at)
      .slice(0, MAX_KEPT_REQUESTS)
      .filter(
        (request) =>
          (name === undefined || request.name === name) &&
          (key === undefined || request.key_id === key) &&
          (variant === undefined || request.variant === variant) &&
          (id === undefined || request.id === id) &&
          (status === undefined || hasStatus(request, status)),
      );
    return context.json({
      requests: found.slice(0, limit),
      truncated: found.length > limit,
      left_out: chunks.reduce((sum, { leftOut }) => sum + leftOut, 0),
    } satisfies RequestList);
  });
  return routes;
}

function hasStatus({ status }: RequestView, wanted: string): boolean {
  switch (wanted) {
    case 'ok':
      return status < 400;
    case 'failed':
      return isError(status);
    case 'left':
      return status === 499;
    default:
      return wanted.endsWith('xx') ? String(status)[0] === wanted[0] : status === Number(wanted);
  }
}
