import { Hono } from 'hono';
import type { RefusalList, RefusalView } from '../../protocol/index.ts';
import { MAX_REFUSALS } from './limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, carryThrough, type AppEnv } from '../http/request-scope.ts';
import type { GrantLedger, RefusalRow } from './ports-grants.ts';
import type { RightsWriter } from './ports.ts';

const refusalJson = ({ owner, createdAt, createdBy }: RefusalRow): RefusalView => ({
  from: owner,
  created_at: createdAt,
  created_by: createdBy,
});

/** What a tenant refuses are grants of another's adapters, to it or to everybody. The other is not told. */
export function adminRefusalRoutes(deps: {
  grantLedger: GrantLedger;
  rights: RightsWriter;
  now: () => number;
}): Hono<AppEnv> {
  const { grantLedger, rights, now } = deps;
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'GET /admin/grants/refuse', async ({ context, caller }) => {
    const rows = await grantLedger.refusedBy(caller.tenant);
    return context.json({ refusals: rows.map(refusalJson) } satisfies RefusalList);
  });

  adminRoute(routes, 'POST /admin/grants/refuse', async ({ context, caller, request }) => {
    const { tenant, keyId } = caller;
    const { from } = request;
    if (from === tenant)
      return fail({ code: 'invalid_request', message: 'A tenant has no grants of its own.', param: 'from' });
    const row = { tenant, owner: from, createdAt: now(), createdBy: keyId };
    const outcome = await carryThrough(context, async () => {
      const refused = await grantLedger.refuse(row, MAX_REFUSALS);
      // Also when it was there: an earlier attempt may have ended between the two stores.
      if (refused !== 'full') await rights.syncGrants(tenant);
      return refused;
    });
    if (outcome === 'full')
      return fail({
        code: 'invalid_request',
        message: `'${tenant}' refuses ${MAX_REFUSALS} tenants already, the most that one can. Accept others again.`,
        param: 'from',
      });
    const known =
      outcome === 'known' ? (await grantLedger.refusedBy(tenant)).find(({ owner }) => owner === from) : null;
    return context.json(refusalJson(known ?? row), outcome === 'added' ? 201 : 200);
  });

  adminRoute(routes, 'DELETE /admin/grants/refuse', async ({ context, caller, query }) => {
    const { tenant } = caller;
    const { from } = query;
    const accepted = await carryThrough(context, async () => {
      const wasRefused = await grantLedger.accept({ tenant, owner: from });
      await rights.syncGrants(tenant);
      return wasRefused;
    });
    if (accepted) return context.body(null, 204);
    return fail({ code: 'not_found', message: `'${tenant}' does not refuse grants of '${from}'.` });
  });
  return routes;
}
