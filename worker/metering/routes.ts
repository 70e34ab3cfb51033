import { Hono } from 'hono';
import { z } from 'zod';
import {
  sumUsage,
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
import { UsagePlace } from './ports.ts';
import type { PriceList, Quotas, TenantLimitsRow, UsageLedger, UsageSum } from './ports.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import { LIMITS_TRIES } from './limits.ts';

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
const DAY_MS = 24 * HOUR_MS;
/** Without `from`: whole days, the last of which is the day of `to`. */
const DEFAULT_DAYS = 30;

/** Where a report goes on: its time, which must not move with the clock from page to page, and the place in it. */
const UsageCursor = z.strictObject({ from: z.int().min(0), to: z.int().min(0), place: UsagePlace });

function usageCursorOf(text: string): z.infer<typeof UsageCursor> | null {
  try {
    return UsageCursor.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** @returns hours since 1970, `to` exclusive. Until the end of today there are sums of whole days. */
function usageTime(asked: { from?: number | undefined; to?: number | undefined }, now: number) {
  const to = asked.to ?? Math.floor(now / DAY_MS + 1) * DAY_MS;
  const from = asked.from ?? Math.ceil(to / DAY_MS - DEFAULT_DAYS) * DAY_MS;
  return { from: Math.floor(from / HOUR_MS), to: Math.ceil(to / HOUR_MS) };
}

/** @param prices null = costs are not reported. */
function reportRow(
  { group, base, requests, errors, promptTokens, completionTokens, lastHour }: UsageSum,
  prices: PriceList | null,
): UsageReport['rows'][number] {
  const row = {
    group,
    requests,
    errors,
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    last_hour: new Date(lastHour * HOUR_MS).toISOString(),
  };
  if (prices === null) return row;
  const { prompt, completion } = prices.bases[base] ?? prices;
  return { ...row, cost: (promptTokens * prompt + completionTokens * completion) / 1e6 };
}

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
    const { by } = query;
    if (!caller.root && query.tenant !== undefined && query.tenant !== caller.tenant)
      return fail({
        code: 'insufficient_scope',
        message: 'This key may read the usage of its own tenant only.',
      });
    const begun = query.cursor === null ? null : usageCursorOf(query.cursor);
    if (query.cursor !== null && begun === null)
      return fail({
        code: 'invalid_request',
        message: "'cursor' is not a cursor from an earlier response.",
        param: 'cursor',
      });
    const { from, to } = begun ?? usageTime(query, deps.now());
    if (from >= to)
      return fail({ code: 'invalid_request', message: "'from' must be before 'to'.", param: 'from' });
    const tenant = caller.root ? (query.tenant ?? null) : caller.tenant;
    // Older hours are in D1.
    if (begun === null && to * HOUR_MS > deps.now() - 2 * HOUR_MS)
      await deps.gatherers
        .showUsage(tenant)
        .catch((error: unknown) => logLine('usage_not_written', { reason: reasonOf(error) }));
    const { prices } = deps;
    const { sums, next } = await deps.usage.sum({ by, tenant, from, to, place: begun?.place ?? null });
    return context.json({
      by,
      from: new Date(from * HOUR_MS).toISOString(),
      to: new Date(to * HOUR_MS).toISOString(),
      ...(prices === null ? {} : { currency: prices.currency }),
      rows: sumUsage(
        by,
        sums.map((sum) => reportRow(sum, prices)),
      ),
      cursor: next === null ? null : JSON.stringify({ from, to, place: next }),
    } satisfies UsageReport);
  });
  return routes;
}
