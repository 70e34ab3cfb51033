import { Hono } from 'hono';
import type { UsageReport } from '../../protocol/index.ts';
import { MAX_USAGE_SUMS } from './limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import type { PriceList } from './price-list.ts';
import type { UsageLedger, UsageSum } from './ports.ts';

const HOUR_MS = 3_600_000;
/** Without `from`: the last thirty days. */
const DEFAULT_MS = 30 * 24 * HOUR_MS;

const sumJson = ({
  group,
  requests,
  errors,
  promptTokens,
  completionTokens,
  lastHour,
}: UsageSum): UsageReport['rows'][number] => ({
  group,
  requests,
  errors,
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
  last_hour: new Date(lastHour * HOUR_MS).toISOString(),
});

/**
 * Usage by whole hours: `from` is rounded down and `to`, which does not count itself, up. Only the bootstrap key sees
 * other tenants than its own.
 */
export function adminUsageRoutes(deps: {
  usage: UsageLedger;
  /** null = no costs. */
  prices: PriceList | null;
  now: () => number;
}): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/usage', async ({ context, caller, query }) => {
    const { by, tenant } = query;
    if (!caller.root && tenant !== undefined && tenant !== caller.tenant)
      return fail({ code: 'insufficient_scope', message: 'This key sees the usage of its own tenant only.' });
    const to = Math.ceil((query.to ?? deps.now() + 1) / HOUR_MS);
    const from = Math.floor((query.from ?? to * HOUR_MS - DEFAULT_MS) / HOUR_MS);
    if (from >= to)
      return fail({ code: 'invalid_request', message: "'from' must be before 'to'.", param: 'from' });
    const of = {
      ...{ by, from, to, limit: MAX_USAGE_SUMS + 1 },
      tenant: caller.root ? (tenant ?? null) : caller.tenant,
    };
    const { prices } = deps;
    const [sums, costs] = await Promise.all([
      deps.usage.sum(of),
      prices === null ? null : deps.usage.costs({ ...of, prices }),
    ]);
    return context.json({
      by,
      from: new Date(from * HOUR_MS).toISOString(),
      to: new Date(to * HOUR_MS).toISOString(),
      ...(prices === null ? {} : { currency: prices.currency }),
      rows: sums
        .slice(0, MAX_USAGE_SUMS)
        .map((sum) => ({ ...sumJson(sum), ...(costs === null ? {} : { cost: costs.get(sum.group) ?? 0 }) })),
      truncated: sums.length > MAX_USAGE_SUMS,
    } satisfies UsageReport);
  });
  return routes;
}
