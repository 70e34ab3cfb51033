import { Hono } from 'hono';
import type {
  ApiError,
  ResetLimitsAnswer,
  TenantLimitsList,
  TenantLimitsView,
} from '../../protocol/index.ts';
import { NO_SUCH_KEY } from '../errors.ts';
import { syncTenantLimits, type TenantLimitsDeps } from './sync-tenant-limits.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import { tenantCounter } from './counters-of.ts';
import type { Quotas, TenantLimitsRow } from './ports.ts';
import type { KeyLedger } from '../access/ports.ts';
import { changedLimits, limitsJson } from '../access/key-input.ts';

export interface TenantLimitsRouteDeps extends TenantLimitsDeps {
  keyLedger: KeyLedger;
  /** null = this edge has no counters. */
  quotas: Quotas | null;
  now: () => number;
}

const view = ({ tenant, limits, at, actor, writtenTo }: TenantLimitsRow): TenantLimitsView => ({
  tenant,
  limits: limits === null ? null : limitsJson(limits),
  changed_at: at,
  changed_by: actor,
  pending: writtenTo !== null,
});

const ROOT_ONLY: ApiError = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key changes limits of a tenant, or what was counted against limits.',
};

/** Limits of tenants, and what was counted against limits. */
export function adminTenantLimitsRoutes(deps: TenantLimitsRouteDeps): Hono<AppEnv> {
  const { tenantLimits, keyLedger, quotas, now } = deps;
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'POST /admin/tenants/limits', async ({ context, caller, request }) => {
    if (!caller.root) return fail(ROOT_ONLY);
    const { tenant } = request;
    const old = await tenantLimits.get(tenant);
    const limits = changedLimits(old?.limits ?? null, request.limits);
    const row = await tenantLimits.set({ tenant, limits, at: now(), actor: caller.keyId });
    return context.json(view(await syncTenantLimits(deps, row)));
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
    await quotas?.reset(tenant === null ? (row?.counter ?? '') : tenantCounter(tenant));
    return context.json({ tenant, key } satisfies ResetLimitsAnswer);
  });
  return routes;
}
