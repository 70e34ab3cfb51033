/** The admin API's keys: create, list, change, rotate, revoke. */
import { Hono } from 'hono';
import {
  KeyView,
  KIND_OF_RIGHT,
  NO_RIGHTS,
  type AllRights,
  type KeyLimits,
  type KeyList,
  type NewKey,
  type RevocationView,
  type RotatedKey,
} from '../../protocol/admin-api/keys.ts';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { conflict, NO_SUCH_KEY } from '../errors.ts';
import { adminRoute, type AdminInput } from '../http/admin-route.ts';
import { fail, type AppEnv, carryThrough } from '../http/request.ts';
import { MIN_SELF_GRACE_MS, MAX_MADE_LISTED, REVOKED_PAGE } from './limits.ts';
import { grantWithin, scopesHeld, scopeWithin } from './authenticate.ts';
import { changedLimits, isRelaxed, limitsOf } from '../metering/key-limits.ts';
import {
  allRights,
  keyIdOf,
  type AdminCaller,
  type KeyRow,
  type RightsWriter,
  type ScopeOwners,
} from './ports.ts';
import type { KeyLedger, RevokedLine } from './d1-key-ledger.ts';
import type { KeptPrompts } from '../prompts/ports.ts';
import type { Registry } from '../registry/ports.ts';
import { scopeOwner } from '../registry/claims.ts';

export interface KeyDeps {
  registry: Registry;
  keyLedger: KeyLedger;
  rights: RightsWriter;
  keptPrompts: KeptPrompts;
  now: () => number;
}

const REVOKED_MEANWHILE = conflict('This key, or the key that you used, was revoked in the meantime.');
const CHANGED_MEANWHILE = conflict(
  'This key was changed or revoked in the meantime, or the key that you used was. Check it with ' +
    '`graft keys`, and try again.',
);

/** Create, rotate, change, list and revoke ({@link revokeKeyRoute}) keys. */
export function adminKeyRoutes(deps: KeyDeps): Hono<AppEnv> {
  const { keyLedger, now } = deps;
  const routes = new Hono<AppEnv>();
  /** Also on a repeat: an earlier attempt may have failed before KV. */
  const index = async (row: KeyRow) => {
    if (row.kind === 'api') await deps.rights.syncKey(row.hash);
  };

  adminRoute(routes, 'POST /admin/keys', async ({ context, caller, request }) => {
    const { kind, label, scopes, hash: ownHash, expires_in: life, ...rest } = request;
    const { tenant = caller.tenant, ...rights } = rest;
    const problem =
      grantProblem(caller, { kind, tenant, scopes, rights, ownHash: ownHash !== undefined }) ??
      irrelevantRight(kind, rights);
    if (problem !== null) return fail(problem);
    const { hash, ...key } = ownHash === undefined ? await newKey(kind) : { hash: ownHash };
    const id = keyIdOf(hash);
    const registered = async (known: KeyRow): Promise<Response> => {
      if (known.revoked_at !== null || known.hash !== hash)
        return fail(conflict('This key was revoked. Create another.'));
      await index(known);
      return context.json(keyJson(known));
    };
    const known = await keyLedger.get(id);
    if (known !== null) return registered(known);
    const bound = await bindScopes(deps, { caller, tenant, scopes });
    if (!bound.ok) return fail(bound.error);
    const limits = limitsOf(rights.limits);
    const row: KeyRow = {
      id,
      hash,
      kind,
      tenant,
      scopes,
      scope_owners: [...bound.value],
      label,
      created_at: now(),
      created_by: caller.keyId,
      revoked_at: null,
      expires_at: life === undefined ? null : now() + life,
      ...allRights({ ...rights, limits }),
      limits_fixed: caller.root && limits !== null,
      tenant_limits: null,
      counter: id,
      replaced_by: null,
      replaces: null,
    };
    if (!(await keyLedger.add(row))) {
      // A client may register the same hash twice at once.
      const meanwhile = await keyLedger.get(id);
      return meanwhile === null ? fail(REVOKED_MEANWHILE) : registered(meanwhile);
    }
    await index(row);
    return context.json({ ...keyJson(row), ...key } satisfies NewKey, 201);
  });

  adminRoute(routes, 'POST /admin/keys/rotate', async ({ context, caller, request }) => {
    const { id: oldId, grace, expires_in: asked } = request;
    const old = await visibleKey(keyLedger, caller, oldId);
    if (old === null) return fail(NO_SUCH_KEY);
    // A key may always be rotated with itself: the new one has the same rights.
    const problem =
      caller.keyId === old.id ? null : grantProblem(caller, { ...old, rights: old, ownHash: false });
    if (problem !== null) return fail(problem);
    const at = now();
    if (old.revoked_at !== null || (old.expires_at !== null && old.expires_at <= at)) {
      // An earlier rotation may have failed before KV, where the old key would stay valid forever.
      await index(old);
      return fail(conflict('This key was revoked or has expired. Create a new one with POST /admin/keys.'));
    }
    const { key, hash } = await newKey(old.kind);
    const id = keyIdOf(hash);
    const life = asked ?? (old.expires_at === null ? null : old.expires_at - old.created_at);
    const wished = life === null ? null : at + life;
    // An admin key cannot extend its own life.
    const cap = caller.root || old.kind === 'api' ? null : old.expires_at;
    const expiresAt = cap === null ? wished : Math.min(wished ?? Infinity, cap);
    const row = {
      ...old,
      id,
      hash,
      created_at: at,
      created_by: caller.keyId,
      expires_at: expiresAt,
      replaced_by: null,
      replaces: old.id,
    };
    // A stolen admin key cannot lock its owner out at once.
    const least = old.kind === 'admin' && !caller.root ? MIN_SELF_GRACE_MS : 0;
    const until = Math.min(old.expires_at ?? Infinity, at + Math.max(grace, least));
    if (!(await keyLedger.rotate({ row, expiresAt: until }))) return fail(CHANGED_MEANWHILE);
    await Promise.all([index(row), index(old)]);
    const rotated: RotatedKey = { ...keyJson(row), key, replaces: old.id, old_expires_at: until };
    return context.json(rotated, 201);
  });

  adminRoute(routes, 'POST /admin/keys/change', async ({ context, caller, request }) => {
    const old = await visibleKey(keyLedger, caller, request.id);
    if (old === null) return fail(NO_SUCH_KEY);
    const { id: _, scopes, label, ...rights } = request;
    const wanted = scopes === undefined ? old : { ...old, scopes, scope_owners: undefined };
    const limits = changedLimits(old.limits, rights.limits);
    const problem =
      grantProblem(caller, { ...wanted, rights, ownHash: false }) ??
      fixedProblem(caller, old, limits) ??
      irrelevantRight(old.kind, rights);
    if (problem !== null) return fail(problem);
    if (old.revoked_at !== null) return fail(conflict('This key was revoked.'));
    const bound = await bindScopes(deps, { caller, tenant: old.tenant, scopes: scopes ?? [] });
    if (!bound.ok) return fail(bound.error);
    const row: KeyRow = {
      ...old,
      ...(scopes === undefined ? {} : { scopes, scope_owners: [...bound.value] }),
      label: label ?? old.label,
      ...changedRights(old, rights),
      limits,
      limits_fixed: rights.limits !== undefined && caller.root ? limits !== null : old.limits_fixed,
    };
    if (!(await keyLedger.change(row, old))) return fail(CHANGED_MEANWHILE);
    await index(row);
    // Also on a repeat: an earlier attempt may have failed before this.
    if (rights.keep_prompts !== undefined)
      await deps.keptPrompts.limit({ tenant: row.tenant, keyIds: [row.id], hours: rights.keep_prompts });
    return context.json(keyJson(row));
  });

  adminRoute(routes, 'GET /admin/keys', async ({ context, caller, query }) => {
    const page = await keyLedger.list({ tenant: caller.root ? null : caller.tenant, ...query });
    return context.json({ keys: page.items.map(keyJson), cursor: page.cursor } satisfies KeyList);
  });

  adminRoute(routes, 'DELETE /admin/keys/:id', revokeKeyRoute(deps));
  return routes;
}

async function newKey(kind: KeyRow['kind']): Promise<{ key: string; hash: string }> {
  const key = generateApiKey(kind === 'api' ? 'gk' : 'ga');
  return { key, hash: await hashApiKey(key) };
}

/** Rights that have no meaning for this kind of key are mistakes. */
function irrelevantRight(kind: KeyRow['kind'], rights: Partial<Record<keyof AllRights, unknown>>) {
  for (const [param, of] of Object.entries(KIND_OF_RIGHT)) {
    if (of === 'both' || of === kind || rights[param as keyof AllRights] === undefined) continue;
    const message =
      kind === 'api'
        ? `'${param}' is for admin keys; API keys cannot have it.`
        : `'${param}' is for API keys; admin keys cannot have it.`;
    return { code: 'invalid_request', message, param } satisfies ApiError;
  }
  return null;
}

/** @returns the key's rights after the change. */
const changedRights = (old: AllRights, change: Partial<Record<keyof AllRights, unknown>>): AllRights =>
  Object.fromEntries(
    Object.keys(NO_RIGHTS).map((field) => {
      const value = change[field as keyof AllRights];
      return [field, value === undefined ? old[field as keyof AllRights] : value];
    }),
  ) as AllRights;

/** A tenant may not raise limits that the operator set. */
function fixedProblem(caller: AdminCaller, old: KeyRow, limits: KeyLimits | null): ApiError | null {
  if (caller.root || !old.limits_fixed || !isRelaxed(old.limits, limits)) return null;
  return {
    code: 'insufficient_scope',
    message: "The operator set the limits of this key. The tenant's admin keys may only lower them.",
  };
}

/** Rights that only a key with the same right can give, and how messages describe them. */
const HELD_TO_GIVE = {
  download: 'download',
  prompts: 'read prompts',
  trust_trace: 'trust traces',
} as const satisfies Partial<Record<keyof AllRights, string>>;

/**
 * A key cannot give more than its creator has.
 * @param wanted.scope_owners the scopes' owners; undefined if they are not bound yet.
 */
function grantProblem(
  caller: AdminCaller,
  wanted: {
    kind: 'api' | 'admin';
    tenant: string;
    scopes: readonly string[];
    scope_owners?: ScopeOwners | undefined;
    /** The requested ones. */
    rights: { [Right in keyof typeof HELD_TO_GIVE]?: boolean | undefined };
    ownHash: boolean;
  },
): ApiError | null {
  if (caller.root) return null;
  const refuse = (message: string): ApiError => ({ code: 'insufficient_scope', message });
  if (wanted.kind === 'admin') return refuse('Only the bootstrap key may create or change admin keys.');
  if (wanted.ownHash) return refuse('Only the bootstrap key may register keys by hash.');
  if (wanted.tenant !== caller.tenant) return refuse('This key may create keys for its own tenant only.');
  for (const [right, what] of Object.entries(HELD_TO_GIVE) as [keyof typeof HELD_TO_GIVE, string][])
    if (wanted.rights[right] === true && caller[right] !== true)
      return refuse(`This key has no right to ${what}, and gives none.`);
  const wider = scopesHeld(wanted).find(
    (scope) =>
      !scopesHeld(caller).some((own) =>
        wanted.scope_owners === undefined ? scopeWithin(scope.scope, own.scope) : grantWithin(scope, own),
      ),
  );
  return wider === undefined ? null : refuse(`This key does not have the scope '${wider.scope}'.`);
}

/** To the caller, other tenants' keys do not exist. */
async function visibleKey(
  ledger: KeyLedger,
  caller: AdminCaller,
  id: string,
  { toRevoke = false } = {},
): Promise<KeyRow | null> {
  const row = await ledger.get(id, { toRevoke });
  return row !== null && (caller.root || row.tenant === caller.tenant) ? row : null;
}

/**
 * Revokes a key: 204, or with `report=true` 200 {@link RevocationView}. A thief may have rotated a stolen
 * key, so its successors end too. One statement revokes all of them in D1; KV follows page by page.
 */
const revokeKeyRoute =
  (deps: { keyLedger: KeyLedger; rights: RightsWriter; keptPrompts: KeptPrompts; now: () => number }) =>
  async ({ context, caller, params, query }: AdminInput<'DELETE /admin/keys/:id'>): Promise<Response> => {
    const row = await visibleKey(deps.keyLedger, caller, params.id, { toRevoke: true });
    if (row === null) return fail(NO_SUCH_KEY);
    const { report, cursor } = query;
    const line = {
      id: row.id,
      successors: query.successors === 'true',
      made: query.made === 'true',
      forget: query.forget_prompts === 'true',
    };
    if (!line.successors && row.kind === 'admin' && !caller.root)
      return fail({
        code: 'insufficient_scope',
        message: 'Only the bootstrap key may end an admin key without ending the keys that replaced it.',
      });
    const done = await carryThrough<RevocationView | null>(context, () =>
      report === 'true' ? revokePage(deps, line, cursor) : revokeAll(deps, line),
    );
    return done === null ? context.body(null, 204) : context.json(done);
  };

type Deps = Parameters<typeof revokeKeyRoute>[0];

type Wanted = RevokedLine & { /** Also deletes their stored prompts. */ forget: boolean };

async function revokeAll(deps: Deps, line: Wanted): Promise<null> {
  for (let cursor: string | null = null; ;) {
    ({ cursor } = await revokePage(deps, line, cursor));
    if (cursor === null) return null;
  }
}

async function revokePage(
  { keyLedger, rights, keptPrompts, now }: Deps,
  { forget, ...line }: Wanted,
  after: string | null,
): Promise<RevocationView> {
  await keyLedger.revoke({ ...line, at: now() });
  const [rows, made] = await Promise.all([
    keyLedger.line({ ...line, after, limit: REVOKED_PAGE }),
    line.made ? [] : keyLedger.madeBy({ id: line.id, at: now(), limit: MAX_MADE_LISTED + 1 }),
  ]);
  // Also those that were revoked before: an earlier attempt may have failed before KV.
  await Promise.all(rows.map(({ kind, hash }) => (kind === 'api' ? rights.syncKey(hash) : undefined)));
  const [{ tenant } = { tenant: '' }] = rows;
  if (forget && rows.length > 0)
    await keptPrompts.limit({ tenant, keyIds: rows.map(({ id }) => id), hours: null });
  return {
    id: line.id,
    revoked: rows.map(keyJson),
    made: made.slice(0, MAX_MADE_LISTED).map(keyJson),
    more_made: made.length > MAX_MADE_LISTED,
    cursor: rows.length === REVOKED_PAGE ? (rows.at(-1)?.id ?? null) : null,
  };
}

/** Never contains the key or its hash. */
const keyJson = (row: KeyRow): KeyView => KeyView.parse(row);

/**
 * The owner that each scope is bound to: whoever owns the name or prefix now, so that later owners of
 * names in it are not covered. A scope that the creator has for one owner is passed on for that owner.
 * @param params.scopes must be ones that the caller may give.
 * @param params.tenant the key's; it owns names that have no owner yet.
 * Error: `invalid_request` for a prefix in which several tenants have names.
 */
async function bindScopes(
  { registry }: { registry: Registry },
  params: { caller: AdminCaller; tenant: string; scopes: readonly string[] },
): Promise<Result<ScopeOwners, ApiError>> {
  const { caller, tenant, scopes } = params;
  const bound: (string | null)[] = [];
  for (const [i, scope] of scopes.entries()) {
    // The bootstrap key has one scope: `**`, of any owner.
    const held = scopesHeld(caller).filter((own) => scopeWithin(scope, own.scope));
    const limits = held.some(({ owner }) => owner === null) ? [] : held.map(({ owner }) => owner);
    if (scope === '**') {
      bound.push(limits[0] ?? null);
      continue;
    }
    const path = scope.endsWith('/**') ? scope.slice(0, -3) : scope;
    const found = scopeOwner(scope, await registry.around(path));
    const owner = found.kind === 'owner' ? found.owner : found.kind === 'nobody' ? tenant : null;
    if (limits.length > 0) bound.push(owner !== null && limits.includes(owner) ? owner : (limits[0] ?? null));
    else if (owner !== null) bound.push(owner);
    else return err(severalOwners(scope, path, i));
  }
  return ok(bound);
}

const severalOwners = (scope: string, path: string, index: number): ApiError => ({
  code: 'invalid_request',
  message:
    `Invalid value for 'scopes.${index}': '${scope}' covers names of several tenants, but a scope ` +
    `opens those of one. List each prefix or name separately, such as '${path}/<name>/**', or ask the ` +
    `operator to reserve '${path}' for one tenant.`,
  param: `scopes.${index}`,
});
