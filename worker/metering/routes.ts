import { Hono } from 'hono';
import {
  TenantLimitsView,
  type ResetLimitsAnswer,
  type TenantLimitsList,
  type UsageReport,
} from '../../protocol/admin-api/tenants.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import { conflict, NO_SUCH_KEY } from '../errors.ts';
import { changedLimits, syncTenantLimits, type TenantLimitsDeps } from './key-limits.ts';
import { ADMIN_PAGE } from '../limits.ts';
import type { Gatherers } from '../gathering/ports.ts';
import { logLine, reasonOf } from '../log.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import { tenantCounter } from './meter.ts';
import type { Quotas, TenantLimitsRow, UsageLedger, UsageSum, PriceList } from './ports.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import { LIMITS_TRIES, MAX_USAGE_SUMS } from './limits.ts';

interface TenantLimitsRouteDeps extends TenantLimitsDeps {
  keyLedger: KeyLedger;
  /** null = this edge has no counters. */
  quotas: Quotas | null;
  now: () => number;
}

const view = (row: TenantLimitsRow): TenantLimitsView =>
  TenantLimitsView.parse({ ...row, pending: row.written_to !== null });

const ROOT_ONLY: ApiError = {
  code: 'insufficient_scope',
  message: "Only the bootstrap key may change a tenant's limits or reset counters.",
};

/** Limits of tenants, and resetting what was counted. */
export function adminTenantLimitsRoutes(deps: TenantLimitsRouteDeps): Hono<AppEnv> {
  const { tenantLimits, keyLedger, quotas, now } = deps;
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'POST /admin/tenants/limits', async ({ context, caller, request }) => {
    if (!caller.root) return fail(ROOT_ONLY);
    const { tenant } = request;
    for (let attempt = 1; attempt <= LIMITS_TRIES; attempt += 1) {
      const old = await tenantLimits.get(tenant);
      const limits = changedLimits(old?.limits ?? null, request.limits);
      const row = await tenantLimits.set({
        tenant,
        limits,
        changed_at: now(),
        changed_by: caller.keyId,
        was: old?.revision ?? 0,
      });
      // Concurrent changes of other limits are kept.
      if (row !== null) return context.json(view(await syncTenantLimits(deps, row)));
    }
    return fail(
      conflict(`The limits of '${tenant}' are being changed by another request. Retry in a few seconds.`),
    );
  });

  adminRoute(routes, 'GET /admin/tenants/limits', async ({ context, caller, query }) => {
    const { root, tenant } = caller;
    if (root) {
      const page = await tenantLimits.list({ cursor: query.cursor, limit: ADMIN_PAGE });
      return context.json({
        tenants: page.items.map(view),
        cursor: page.cursor,
      } satisfies TenantLimitsList);
    }
    const own = await tenantLimits.get(tenant);
    const tenants = own === null || own.limits === null ? [] : [view(own)];
    return context.json({ tenants, cursor: null } satisfies TenantLimitsList);
  });

  adminRoute(routes, 'POST /admin/limits/reset', async ({ context, caller, request }) => {
    if (!caller.root) return fail(ROOT_ONLY);
    const { tenant = null, key = null } = request;
    const row = key === null ? null : await keyLedger.get(key);
    if (key !== null && row === null) return fail(NO_SUCH_KEY);
    if (row !== null) await quotas?.reset(row.tenant, row.counter);
    else if (tenant !== null) await quotas?.reset(tenant, tenantCounter(tenant));
    return context.json({ tenant, key } satisfies ResetLimitsAnswer);
  });
  return routes;
}

const HOUR_MS = 3_600_000;
/** Without `from`: the last 30 days. */
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
 * Usage in whole hours: `from` is rounded down; `to` is exclusive and rounded up. Only the bootstrap key sees
 * other tenants.
 */
export function adminUsageRoutes(deps: {
  usage: UsageLedger;
  gatherers: Pick<Gatherers, 'showUsage'>;
  /** null = costs are not reported. */
  prices: PriceList | null;
  now: () => number;
}): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'GET /admin/usage', async ({ context, caller, query }) => {
    const { by, tenant } = query;
    if (!caller.root && tenant !== undefined && tenant !== caller.tenant)
      return fail({
        code: 'insufficient_scope',
        message: 'This key may read the usage of its own tenant only.',
      });
    const to = Math.ceil((query.to ?? deps.now() + 1) / HOUR_MS);
    const from = Math.floor((query.from ?? to * HOUR_MS - DEFAULT_MS) / HOUR_MS);
    if (from >= to)
      return fail({ code: 'invalid_request', message: "'from' must be before 'to'.", param: 'from' });
    const of = {
      ...{ by, from, to, limit: MAX_USAGE_SUMS + 1 },
      tenant: caller.root ? (tenant ?? null) : caller.tenant,
    };
    // Older hours are in D1.
    if (to * HOUR_MS > deps.now() - 2 * HOUR_MS)
      await deps.gatherers
        .showUsage(of.tenant)
        .catch((error: unknown) => logLine('usage_not_written', { reason: reasonOf(error) }));
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
