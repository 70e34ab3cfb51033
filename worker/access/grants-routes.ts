import { Hono } from 'hono';
import type { GrantList, GrantView, RefusalList, RefusalView } from '../../protocol/admin-api/grants.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { conflict, modelNotFound } from '../errors.ts';
import { ADMIN_PAGE } from '../limits.ts';
import { MAX_GRANTS, MAX_GRANTS_FROM_ONE, MAX_GRANTS_GIVEN, MAX_REFUSALS } from './limits.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, carryThrough, type AppEnv } from '../http/request.ts';
import { ancestorsOf } from '../registry/claims.ts';
import {
  PUBLIC,
  type GrantCaps,
  type GrantRow,
  type RefusalRow,
  type AdminCaller,
  type RightsWriter,
} from './ports.ts';
import type { GrantIndex } from '../registry/kv-indexes.ts';
import type { GrantLedger } from './d1-grants.ts';
import type { KeyLedger } from './d1-key-ledger.ts';
import type { Registry } from '../registry/ports.ts';

export interface GrantDeps {
  registry: Registry;
  grantLedger: GrantLedger;
  grantIndex: GrantIndex;
  rights: RightsWriter;
  keyLedger: KeyLedger;
  now: () => number;
}

/** Maximum grants that a tenant holds in all and from one giver, and that it gives. */
const CAPS: GrantCaps = { holder: MAX_GRANTS, pair: MAX_GRANTS_FROM_ONE, giver: MAX_GRANTS_GIVEN };
/** The bootstrap key may give a tenant as many as it can hold. */
const ROOT_CAPS: GrantCaps = { ...CAPS, pair: MAX_GRANTS, giver: Number.MAX_SAFE_INTEGER };
const REVOKED_MEANWHILE = conflict('The key that you used was revoked in the meantime.');

/**
 * Grants. `tenant` `*` is everybody. `owner` is the tenant whose adapters a grant covers; null = any owner.
 */
export function adminGrantRoutes(deps: GrantDeps): Hono<AppEnv> {
  const { grantLedger, grantIndex, rights, now } = deps;
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'GET /admin/grants', async ({ context, caller, query }) => {
    const { tenant, root } = caller;
    const { held, cursor } = query;
    if (held === 'true') {
      const [rows, refusals] = await Promise.all([
        grantLedger.heldBy([tenant, PUBLIC]),
        grantLedger.refusedBy(tenant),
      ]);
      const refused = new Set<string | null>(refusals.map(({ owner }) => owner));
      const grants = rows.map((row) => ({ ...row, refused: refused.has(row.owner) }));
      return context.json({ grants, cursor: null } satisfies GrantList);
    }
    const page = await grantLedger.list({ owner: root ? null : tenant, cursor, limit: ADMIN_PAGE });
    return context.json({
      grants: page.items,
      cursor: page.cursor,
    } satisfies GrantList);
  });

  adminRoute(routes, 'POST /admin/grants', async ({ context, caller, request }) => {
    const { scope, tenant, made_from_prompts: confirmed } = request;
    const owner = await giverOf(deps, caller, scope);
    if (!owner.ok) return fail(owner.error);
    if (owner.value === tenant)
      return fail({
        code: 'invalid_request',
        message: `'${tenant}' owns '${scope}' and may use it without a grant.`,
        param: 'tenant',
      });
    if (confirmed !== true) {
      const made = await grantLedger.madeFromPrompts({
        name: scope === '**' ? null : scope.replace(/\/\*\*$/, ''),
        below: scope.endsWith('/**'),
        owner: owner.value,
      });
      if (made !== null) return fail(madeFromPrompts(made));
    }
    const row = { scope, tenant, owner: owner.value, created_at: now(), created_by: caller.keyId };
    const caps = caller.root ? ROOT_CAPS : CAPS;
    const outcome = await carryThrough(context, async () => {
      const added = await grantLedger.add(row, caps);
      // Also if it existed: an earlier attempt may have failed before KV.
      if (added === 'added' || added === 'known') await rights.syncGrants(tenant);
      return added;
    });
    if (outcome === 'revoked') return fail(REVOKED_MEANWHILE);
    if (outcome === 'full')
      return fail({
        code: 'invalid_request',
        message: whyFull(row, await grantLedger.counts(row), caps),
        param: 'tenant',
      });
    const known = outcome === 'known' ? await grantLedger.get(row) : null;
    const notice = caller.root ? await keyless(deps, tenant) : null;
    const answer: GrantView = { ...(known ?? row), ...(notice === null ? {} : { notice }) };
    return context.json(answer, outcome === 'added' ? 201 : 200);
  });

  adminRoute(routes, 'DELETE /admin/grants', async ({ context, caller, query }) => {
    const { scope, tenant } = query;
    const removed = await carryThrough(context, async () => {
      const count = await grantLedger.remove({
        scope,
        tenant,
        ...(caller.root ? {} : { owner: caller.tenant }),
      });
      // Also if there was none, but KV has some: an earlier attempt may have failed before KV.
      if (count > 0 || (await grantIndex.get(tenant)).state !== 'absent') await rights.syncGrants(tenant);
      return count;
    });
    if (removed > 0) return context.body(null, 204);
    return fail({ code: 'not_found', message: `You have not granted '${scope}' to '${tenant}'.` });
  });
  return routes;
}

const madeFromPrompts = (version: string): ApiError =>
  conflict(
    `${version} was made from prompts of users, and may repeat what they say. To let others use it all the same, ` +
      'confirm it: graft grant … --made-from-prompts (made_from_prompts).',
    'made_from_prompts',
  );

/** Only the operator is told: nobody else may find out which tenants exist. */
async function keyless({ keyLedger }: Pick<GrantDeps, 'keyLedger'>, tenant: string): Promise<string | null> {
  if (tenant === PUBLIC) return null;
  const { items } = await keyLedger.ofTenant({ tenant, cursor: null, limit: 1 });
  return items.length > 0
    ? null
    : `'${tenant}' has no API key, so nobody can use this grant yet. Check the spelling, or create a ` +
        `key: graft keys create --tenant ${tenant}`;
}

function whyFull({ tenant }: GrantRow, counts: GrantCaps, caps: GrantCaps): string {
  const advice = "Grant everything below a name ('<name>/**') instead of single names.";
  if (counts.giver >= caps.giver) return `You have given ${counts.giver} grants, the most allowed. ${advice}`;
  return counts.pair >= caps.pair
    ? `You have given '${tenant}' ${counts.pair} grants, the most allowed for one tenant. ${advice}`
    : `'${tenant}' holds ${counts.holder} grants, the most allowed. ${advice}`;
}

/**
 * @returns the tenant whose adapters a grant of `scope` by the caller covers; null = every owner's.
 * Errors: `model_not_found` if the name or prefix has another owner, or none; `insufficient_scope`.
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
          message: "Only the bootstrap key may grant '**'. Grant names of your own, such as 'alice/**'.",
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

const refusalJson = ({ owner: from, created_at, created_by }: RefusalRow): RefusalView => ({
  from,
  created_at,
  created_by,
});

/** A tenant can refuse all grants of another one's adapters, to it or to everybody. The other is not told. */
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
    const row = { tenant, owner: from, created_at: now(), created_by: keyId };
    const outcome = await carryThrough(context, async () => {
      const refused = await grantLedger.refuse(row, MAX_REFUSALS);
      // Also if it was refused before: an earlier attempt may have failed before KV.
      if (refused === 'added' || refused === 'known') await rights.syncGrants(tenant);
      return refused;
    });
    if (outcome === 'revoked') return fail(REVOKED_MEANWHILE);
    if (outcome === 'full')
      return fail({
        code: 'invalid_request',
        message: `'${tenant}' refuses ${MAX_REFUSALS} tenants, the most allowed. Accept some of them again first.`,
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
    return fail({ code: 'not_found', message: `'${tenant}' does not refuse grants from '${from}'.` });
  });
  return routes;
}
