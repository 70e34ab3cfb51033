import {
  type TrafficReport,
  MAX_KEPT_REQUESTS,
  type RequestList,
  type RequestView,
} from '../../protocol/admin-api/traffic.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import type { AdminCaller } from '../access/ports.ts';
import { Hono } from 'hono';
import type { Gatherers } from '../gathering/ports.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import { KEPT_S } from './limits.ts';
import { UNNAMED, sumOf, summedPoints, isError } from './sum-traffic.ts';
import { readTraffic } from './parts.ts';

/**
 * @param asked a tenant.
 * @returns the tenant whose traffic the caller sees; null = all.
 */
export function whoseTraffic(
  caller: AdminCaller,
  asked: string | undefined,
): Result<string | null, ApiError> {
  if (caller.root) return ok(asked ?? null);
  if (asked === undefined || asked === caller.tenant) return ok(caller.tenant);
  return err({
    code: 'insufficient_scope',
    message: 'This key may read the traffic of its own tenant only.',
  });
}

const MINUTE_S = 60;
const HOUR_S = 3_600;
const DAY_S = 86_400;
/** Keeps a chart at some hundred points. */
const STEP_UP_TO: readonly [seconds: number, step: number][] = [
  [3 * HOUR_S, MINUTE_S],
  [KEPT_S[60], 5 * MINUTE_S],
  [8 * DAY_S, HOUR_S],
  [KEPT_S[3600], 3 * HOUR_S],
];
/** Points per response, including gaps. */
const MAX_POINTS = 2_000;

/** Completions over time; only the bootstrap key sees other tenants, and all of them together. */
export function adminTrafficRoutes(deps: Parameters<typeof readTraffic>[0]): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/traffic', async ({ context, caller, query }) => {
    const tenant = whoseTraffic(caller, query.tenant);
    if (!tenant.ok) return fail(tenant.error);
    const range = rangeOf(query, deps.now());
    if (!range.ok) return fail(range.error);
    const { name = null, key = null } = query;
    const of = { tenant: tenant.value, ...range.value };
    const [points, unnamed] = await Promise.all([
      readTraffic(deps, { ...of, name, keyId: key }),
      name === null && key === null ? [] : readTraffic(deps, { ...of, name: UNNAMED, keyId: null }),
    ]);
    const { from, to, step } = range.value;
    return context.json({
      from: new Date(1000 * from).toISOString(),
      to: new Date(1000 * to).toISOString(),
      step,
      points: summedPoints(points),
      total: sumOf(points),
      unnamed: unnamed.reduce((sum, { requests }) => sum + requests, 0),
    } satisfies TrafficReport);
  });
  return routes;
}

/** @returns unix s, in whole steps; default: the last 24 hours. */
function rangeOf(
  query: { from?: number | undefined; to?: number | undefined; step?: string | undefined },
  now: number,
): Result<{ from: number; to: number; step: number }, ApiError> {
  const to = (query.to ?? now + 1) / 1000;
  const from = (query.from ?? 1000 * (to - DAY_S)) / 1000;
  const step = Number(query.step ?? STEP_UP_TO.find(([seconds]) => to - from <= seconds)?.[1] ?? DAY_S);
  const whole = { from: Math.floor(from / step) * step, to: Math.ceil(to / step) * step, step };
  if (whole.from >= whole.to) return wrong("'from' must be before 'to'.", 'from');
  if ((whole.to - whole.from) / step > MAX_POINTS)
    return wrong(`That is more than ${MAX_POINTS} points. Choose a shorter time or a longer step.`, 'step');
  return { ok: true, value: whole };
}

const wrong = (message: string, param: string): Result<never, ApiError> => ({
  ok: false,
  error: { code: 'invalid_request', message, param },
});

/** Requests per response by default. */
const PAGE = 100;

/** A list of the latest completions; only the bootstrap key sees those of other tenants. */
export function adminRequestRoutes(deps: { gatherers: Pick<Gatherers, 'requests'> }): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/requests', async ({ context, caller, query }) => {
    const tenant = whoseTraffic(caller, query.tenant);
    if (!tenant.ok) return fail(tenant.error);
    const { name, key, status, variant, id, limit = PAGE } = query;
    const chunks = await deps.gatherers.requests({ tenant: tenant.value, limit: MAX_KEPT_REQUESTS });
    // Chunks from different gatherers overlap.
    const all = chunks.flatMap(({ requests }) => requests).sort((a, b) => b.at - a.at);
    const oldest = all[MAX_KEPT_REQUESTS - 1]?.at ?? 0;
    const found = all
      .slice(0, MAX_KEPT_REQUESTS)
      .filter(
        (request) =>
          (name === undefined || request.name === name) &&
          (key === undefined || request.key_id === key) &&
          (variant === undefined || request.variant === variant) &&
          (id === undefined || request.id === id || request.request_id === id) &&
          (status === undefined || hasStatus(request, status)),
      );
    return context.json({
      requests: found.slice(0, limit),
      truncated: found.length > limit,
      left_out: chunks
        .filter(({ requests }) => (requests[0]?.at ?? oldest) >= oldest)
        .reduce((sum, { leftOut }) => sum + leftOut, 0),
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
