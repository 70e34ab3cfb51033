import { Hono } from 'hono';
import { z } from 'zod';
import { err, ok, type ApiError, type GrantList, type GrantView, type Result } from '../../protocol/index.ts';
import { syncGrants } from '../intake/sync-grants.ts';
import { ADMIN_PAGE, MAX_GRANTS } from '../limits.ts';
import { fail, methodNotAllowed, type AppEnv } from '../middleware/request-scope.ts';
import { scopeProblem } from '../policy/authorize.ts';
import { ancestorsOf, modelNotFound } from '../policy/resolve-name.ts';
import {
  PUBLIC,
  type AdminCaller,
  type GrantIndex,
  type GrantLedger,
  type GrantRow,
  type Registry,
} from '../stores/types.ts';
import { parseInput, readInput } from './parse-input.ts';

export const GrantRequest = z.strictObject({
  scope: z.string().superRefine((scope, context) => {
    const problem = scopeProblem(scope);
    if (problem !== null) context.addIssue({ code: 'custom', message: problem });
  }),
  tenant: z
    .string()
    .regex(
      /^([a-z0-9._-]{1,64}|\*)$/,
      'must be a tenant (1 to 64 of a-z, 0-9, ".", "_", "-"), or "*" for everybody',
    ),
});

export const GrantQuery = z.strictObject({
  /** `true`: what the caller's tenant was given, rather than what it gave. */
  held: z.enum(['true', 'false']).default('false'),
  cursor: z.string().max(512).nullable().default(null),
});

export interface GrantDeps {
  registry: Registry;
  grantLedger: GrantLedger;
  grantIndex: GrantIndex;
  now: () => number;
}

const grantJson = ({ scope, tenant, owner, createdAt, createdBy }: GrantRow): GrantView => ({
  scope,
  tenant,
  owner,
  created_at: createdAt,
  created_by: createdBy,
});

/**
 * `GET /admin/grants?held=&cursor=` -> {@link GrantList};
 * `POST /admin/grants` `{scope, tenant}` -> 201 {@link GrantView}, 200 when it was given before;
 * `DELETE /admin/grants?scope=&tenant=` -> 204.
 * `tenant` `*` is everybody. `owner` is whose adapters it opens; null = whoever owns them.
 */
export function adminGrantRoutes(deps: GrantDeps): Hono<AppEnv> {
  const { grantLedger, now } = deps;
  const routes = new Hono<AppEnv>();

  routes.get('/admin/grants', async (context) => {
    const input = parseInput(GrantQuery, context.req.query());
    if (!input.ok) return fail(input.error);
    const { tenant, root } = context.get('admin');
    const { held, cursor } = input.value;
    const page =
      held === 'true'
        ? { items: await grantLedger.heldBy([tenant, PUBLIC]), cursor: null }
        : await grantLedger.list({ owner: root ? null : tenant, cursor, limit: ADMIN_PAGE });
    return context.json({
      grants: page.items.map(grantJson),
      cursor: page.cursor,
    } satisfies GrantList);
  });

  routes.post('/admin/grants', async (context) => {
    const request = await readInput(context.req.raw, GrantRequest);
    if (!request.ok) return fail(request.error);
    const { scope, tenant } = request.value;
    const caller = context.get('admin');
    const owner = await giverOf(deps, caller, scope);
    if (!owner.ok) return fail(owner.error);
    const held = await grantLedger.heldBy([tenant]);
    const known = held.find((row) => row.scope === scope && row.owner === owner.value);
    if (known === undefined && held.length >= MAX_GRANTS)
      return fail({
        code: 'invalid_request',
        message: `'${tenant}' has ${held.length} grants, the most that one can have. Grant a room ('<name>/**') instead of single names.`,
        param: 'tenant',
      });
    const row = known ?? { scope, tenant, owner: owner.value, createdAt: now(), createdBy: caller.keyId };
    const added = known === undefined && (await grantLedger.add(row));
    // Also when it was there: an earlier attempt may have ended between the two stores.
    await syncGrants(deps, tenant);
    return context.json(grantJson(row), added ? 201 : 200);
  });

  routes.delete('/admin/grants', async (context) => {
    const input = parseInput(GrantRequest, context.req.query());
    if (!input.ok) return fail(input.error);
    const caller = context.get('admin');
    const { scope, tenant } = input.value;
    const removed = await grantLedger.remove({
      scope,
      tenant,
      ...(caller.root ? {} : { owner: caller.tenant }),
    });
    // Also when there was none: an earlier attempt may have ended between the two stores.
    await syncGrants(deps, tenant);
    if (removed > 0) return context.body(null, 204);
    return fail({ code: 'not_found', message: `'${scope}' is not granted to '${tenant}' by you.` });
  });
  routes.all('/admin/grants', methodNotAllowed('GET, POST, DELETE'));
  return routes;
}

/**
 * @returns whose adapters a grant of `scope` by the caller opens; null = everyone's.
 * Errors: `model_not_found` when the name or room is another's, or nobody's; `insufficient_scope`.
 */
async function giverOf(
  { registry }: Pick<GrantDeps, 'registry'>,
  caller: AdminCaller,
  scope: string,
): Promise<Result<string | null, ApiError>> {
  if (scope === '**')
    return caller.root
      ? ok(null)
      : err({
          code: 'insufficient_scope',
          message: "Only the bootstrap key grants '**'. Grant a room of yours, such as 'alice/**'.",
        });
  const isRoom = scope.endsWith('/**');
  const path = isRoom ? scope.slice(0, -3) : scope;
  for (const name of [path, ...ancestorsOf(path)]) {
    const row = await registry.name(name);
    if (row === null) continue;
    if (caller.root) return ok(row.owner);
    return row.owner === caller.tenant ? ok(row.owner) : err(modelNotFound(path, []));
  }
  if (caller.root) return ok(null);
  const below = isRoom
    ? await registry.names({ prefix: `${path}/`, cursor: null, limit: 1, owner: caller.tenant })
    : null;
  return below !== null && below.items.length > 0 ? ok(caller.tenant) : err(modelNotFound(path, []));
}
