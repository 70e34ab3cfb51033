import { Hono } from 'hono';
import { z } from 'zod';
import type { RefusalList, RefusalView } from '../../protocol/index.ts';
import { MAX_REFUSALS } from './limits.ts';
import { fail, keepAlive, methodNotAllowed, type AppEnv } from '../http/request-scope.ts';
import type { GrantLedger, RefusalRow } from './ports-grants.ts';
import type { RightsWriter } from './ports.ts';
import { parseInput, readInput } from '../http/parse-input.ts';

/** Whose grants are refused, or accepted again. */
export const RefusalInput = z.strictObject({
  from: z.string().regex(/^[a-z0-9._-]{1,64}$/, 'must be a tenant (1 to 64 of a-z, 0-9, ".", "_", "-")'),
});

const refusalJson = ({ owner, createdAt, createdBy }: RefusalRow): RefusalView => ({
  from: owner,
  created_at: createdAt,
  created_by: createdBy,
});

/**
 * `POST /admin/grants/refuse` `{from}` -> 201 {@link RefusalView}, 200 when it was refused before;
 * `DELETE /admin/grants/refuse?from=` -> 204; `GET /admin/grants/refuse` -> {@link RefusalList}.
 * What a tenant refuses are grants of another's adapters, to it or to everybody. The other is not told.
 */
export function adminRefusalRoutes(deps: {
  grantLedger: GrantLedger;
  rights: RightsWriter;
  now: () => number;
}): Hono<AppEnv> {
  const { grantLedger, rights, now } = deps;
  const routes = new Hono<AppEnv>();

  routes.get('/admin/grants/refuse', async (context) => {
    const rows = await grantLedger.refusedBy(context.get('admin').tenant);
    return context.json({ refusals: rows.map(refusalJson) } satisfies RefusalList);
  });

  routes.post('/admin/grants/refuse', async (context) => {
    const request = await readInput(context.req.raw, RefusalInput);
    if (!request.ok) return fail(request.error);
    const { tenant, keyId } = context.get('admin');
    const { from } = request.value;
    if (from === tenant)
      return fail({ code: 'invalid_request', message: 'A tenant has no grants of its own.', param: 'from' });
    const row = { tenant, owner: from, createdAt: now(), createdBy: keyId };
    const work = (async () => {
      const outcome = await grantLedger.refuse(row, MAX_REFUSALS);
      // Also when it was there: an earlier attempt may have ended between the two stores.
      if (outcome !== 'full') await rights.syncGrants(tenant);
      return outcome;
    })();
    keepAlive(context, work);
    const outcome = await work;
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

  routes.delete('/admin/grants/refuse', async (context) => {
    const input = parseInput(RefusalInput, context.req.query());
    if (!input.ok) return fail(input.error);
    const { tenant } = context.get('admin');
    const { from } = input.value;
    const work = (async () => {
      const accepted = await grantLedger.accept({ tenant, owner: from });
      await rights.syncGrants(tenant);
      return accepted;
    })();
    keepAlive(context, work);
    if (await work) return context.body(null, 204);
    return fail({ code: 'not_found', message: `'${tenant}' does not refuse grants of '${from}'.` });
  });
  routes.all('/admin/grants/refuse', methodNotAllowed('GET, POST, DELETE'));
  return routes;
}
