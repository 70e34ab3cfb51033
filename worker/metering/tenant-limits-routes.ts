import { Hono } from 'hono';
import { z } from 'zod';
import {
  Tenant,
  type ApiError,
  type ResetLimitsAnswer,
  type TenantLimitsList,
  type TenantLimitsView,
} from '../../protocol/index.ts';
import { syncTenantLimits, type TenantLimitsDeps } from './sync-tenant-limits.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { fail, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import { tenantCounter } from './counters-of.ts';
import type { Quotas, TenantLimitsRow } from './ports.ts';
import type { KeyLedger } from '../access/ports.ts';
import { changedLimits, limitsJson, LimitsChange } from '../access/key-input.ts';
import { parseInput, readInput } from '../http/parse-input.ts';

/** What is not given stays; null takes a limit, or all of them, away. */
export const TenantLimitsRequest = z.strictObject({ tenant: Tenant, limits: LimitsChange.nullable() });

export const TenantLimitsQuery = z.strictObject({ cursor: z.string().max(64).nullable().default(null) });

export const ResetLimitsRequest = z
  .strictObject({ tenant: Tenant.optional(), key: z.string().max(64).optional() })
  .refine(({ tenant, key }) => (tenant === undefined) !== (key === undefined), 'give a tenant or a key');

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

/**
 * `POST /admin/tenants/limits` {@link TenantLimitsRequest} -> {@link TenantLimitsView}, as they are now;
 * `GET /admin/tenants/limits?cursor=` -> {@link TenantLimitsList};
 * `POST /admin/limits/reset` {@link ResetLimitsRequest} -> {@link ResetLimitsAnswer}: its counter begins anew.
 */
export function adminTenantLimitsRoutes(deps: TenantLimitsRouteDeps): Hono<AppEnv> {
  const { tenantLimits, keyLedger, quotas, now } = deps;
  const routes = new Hono<AppEnv>();

  routes.post('/admin/tenants/limits', async (context) => {
    const request = await readInput(context.req.raw, TenantLimitsRequest);
    if (!request.ok) return fail(request.error);
    const caller = context.get('admin');
    if (!caller.root) return fail(ROOT_ONLY);
    const { tenant } = request.value;
    const old = await tenantLimits.get(tenant);
    const limits = changedLimits(old?.limits ?? null, request.value.limits);
    const row = await tenantLimits.set({ tenant, limits, at: now(), actor: caller.keyId });
    return context.json(view(await syncTenantLimits(deps, row)));
  });

  routes.get('/admin/tenants/limits', async (context) => {
    const input = parseInput(TenantLimitsQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const { root, tenant } = context.get('admin');
    if (root) {
      const page = await tenantLimits.list({ cursor: input.value.cursor, limit: ADMIN_PAGE });
      return context.json({
        tenants: page.items.map(view),
        cursor: page.cursor,
      } satisfies TenantLimitsList);
    }
    const own = await tenantLimits.get(tenant);
    const tenants = own === null || own.limits === null ? [] : [view(own)];
    return context.json({ tenants, cursor: null } satisfies TenantLimitsList);
  });
  routes.all('/admin/tenants/limits', methodNotAllowed('GET, POST'));

  routes.post('/admin/limits/reset', async (context) => {
    const request = await readInput(context.req.raw, ResetLimitsRequest);
    if (!request.ok) return fail(request.error);
    if (!context.get('admin').root) return fail(ROOT_ONLY);
    const { tenant = null, key = null } = request.value;
    const row = key === null ? null : await keyLedger.get(key);
    if (key !== null && row === null) return fail({ code: 'not_found', message: 'There is no such key.' });
    await quotas?.reset(tenant === null ? (row?.counter ?? '') : tenantCounter(tenant));
    return context.json({ tenant, key } satisfies ResetLimitsAnswer);
  });
  routes.all('/admin/limits/reset', methodNotAllowed('POST'));
  return routes;
}
