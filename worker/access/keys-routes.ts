/** The admin API's keys: create, list, change, rotate, revoke. */
import { Hono } from 'hono';
import type {
  KeyList,
  KeyRequest,
  NewKey,
  RotatedKey,
  RevocationView,
  ChangeKeyRequest,
  KeyView,
} from '../../protocol/admin-api/keys.ts';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { conflict, NO_SUCH_KEY } from '../errors.ts';
import { adminRoute, type AdminInput } from '../http/admin-route.ts';
import { fail, type AppEnv, carryThrough } from '../http/request.ts';
import { MIN_SELF_GRACE_MS, MAX_MADE_LISTED, REVOKED_PAGE } from './limits.ts';
import { grantWithin, scopesHeld, scopeWithin } from './authenticate.ts';
import { changedLimits, limitsOf, relaxedLimit, limitsJson } from '../metering/key-limits.ts';
import type { KeyLimits } from '../metering/ports.ts';
import {
  keyIdOf,
  type AdminCaller,
  type KeyLedger,
  type KeyRow,
  type RightsWriter,
  type ScopeOwners,
  type RevokedLine,
} from './ports.ts';
import type { KeptPrompts } from '../prompts/ports.ts';
import type { Registry } from '../registry/ports.ts';
import { scopeOwner } from '../registry/claims.ts';

export interface KeyDeps {
  registry: Pick<Registry, 'around'>;
  keyLedger: KeyLedger;
  rights: RightsWriter;
  keptPrompts: Pick<KeptPrompts, 'limit'>;
  now: () => number;
}

const REVOKED_MEANWHILE = conflict('The key was revoked meanwhile, or the one that asks for this.');
const CHANGED_MEANWHILE = conflict(
  'The key was changed or revoked meanwhile, or the one that asks for this. See what it is now (graft keys), and ask again.',
);

/** Keys: made, rotated, changed, listed and revoked ({@link revokeKeyRoute}). */
export function adminKeyRoutes(deps: KeyDeps): Hono<AppEnv> {
  const { keyLedger, rights, now } = deps;
  const routes = new Hono<AppEnv>();
  /** Again on a repeat: an earlier attempt may have ended between the two stores. */
  const index = async (row: KeyRow) => {
    if (row.kind === 'api') await rights.syncKey(row.hash);
  };

  adminRoute(routes, 'POST /admin/keys', async ({ context, caller, request }) => {
    const { kind, label, scopes, limits, strict, degrade, expires_in: life } = request;
    const { strict_fields: strictFields, download, keep_prompts: keepPrompts, prompts } = request;
    const tenant = request.tenant ?? caller.tenant;
    const problem =
      grantProblem(caller, {
        kind,
        tenant,
        scopes,
        download,
        prompts,
        ownHash: request.hash !== undefined,
      }) ?? irrelevantField(request);
    if (problem !== null) return fail(problem);
    const key = request.hash === undefined ? generateApiKey(kind === 'api' ? 'gk' : 'ga') : null;
    const hash = key === null ? (request.hash as string) : await hashApiKey(key);
    const id = keyIdOf(hash);
    const registered = async (known: KeyRow): Promise<Response> => {
      if (known.revokedAt !== null || known.hash !== hash)
        return fail(conflict('This key was revoked; make another.'));
      await index(known);
      return context.json(keyJson(known));
    };
    const known = await keyLedger.get(id);
    if (known !== null) return registered(known);
    const bound = await bindScopes(deps, { caller, tenant, scopes });
    if (!bound.ok) return fail(bound.error);
    const row: KeyRow = {
      id,
      hash,
      kind,
      tenant,
      scopes,
      owners: bound.value,
      label,
      createdAt: now(),
      createdBy: caller.keyId,
      revokedAt: null,
      expiresAt: life === undefined ? null : now() + life,
      strict: strict ?? false,
      strictFields: strictFields ?? false,
      degrade: degrade ?? null,
      download: download ?? false,
      keepPrompts: keepPrompts ?? null,
      prompts: prompts ?? false,
      limits: limitsOf(limits),
      limitsFixed: caller.root && limitsOf(limits) !== null,
      tenantLimits: null,
      counter: id,
      replacedBy: null,
      replaces: null,
    };
    if (!(await keyLedger.add(row))) {
      // Whoever gives a key's hash may be registering it twice at once.
      const meanwhile = await keyLedger.get(id);
      return meanwhile === null ? fail(REVOKED_MEANWHILE) : registered(meanwhile);
    }
    await index(row);
    const made: NewKey = { ...keyJson(row), ...(key === null ? {} : { key }) };
    return context.json(made, 201);
  });

  adminRoute(routes, 'POST /admin/keys/rotate', async ({ context, caller, request }) => {
    const { id: oldId, grace, expires_in: asked } = request;
    const old = await visibleKey(keyLedger, caller, oldId);
    if (old === null) return fail(NO_SUCH_KEY);
    // A key may always have itself replaced: the new one has no other rights.
    const problem = caller.keyId === old.id ? null : grantProblem(caller, { ...old, ownHash: false });
    if (problem !== null) return fail(problem);
    const at = now();
    if (old.revokedAt !== null || (old.expiresAt !== null && old.expiresAt <= at)) {
      // By a rotation perhaps of which KV was not told: the old key would be good there without end.
      await index(old);
      return fail(conflict('This key was revoked or has expired; make a new one with POST /admin/keys.'));
    }
    const key = generateApiKey(old.kind === 'api' ? 'gk' : 'ga');
    const hash = await hashApiKey(key);
    const id = keyIdOf(hash);
    const life = asked ?? (old.expiresAt === null ? null : old.expiresAt - old.createdAt);
    const wished = life === null ? null : at + life;
    // An admin key does not prolong its own life.
    const cap = caller.root || old.kind === 'api' ? null : old.expiresAt;
    const expiresAt = cap === null ? wished : Math.min(wished ?? Infinity, cap);
    const fresh = { createdAt: at, createdBy: caller.keyId, expiresAt, replacedBy: null };
    const row = { ...old, id, hash, ...fresh, replaces: old.id };
    // Whoever stole an admin key cannot lock its owner out with it at once.
    const least = old.kind === 'admin' && !caller.root ? MIN_SELF_GRACE_MS : 0;
    const until = Math.min(old.expiresAt ?? Infinity, at + Math.max(grace, least));
    if (!(await keyLedger.rotate({ row, expiresAt: until }))) return fail(CHANGED_MEANWHILE);
    await Promise.all([index(row), index(old)]);
    const rotated: RotatedKey = { ...keyJson(row), key, replaces: old.id, old_expires_at: until };
    return context.json(rotated, 201);
  });

  adminRoute(routes, 'POST /admin/keys/change', async ({ context, caller, request }) => {
    const old = await visibleKey(keyLedger, caller, request.id);
    if (old === null) return fail(NO_SUCH_KEY);
    const { scopes, limits, strict, degrade, strict_fields, download, keep_prompts, prompts } = request;
    const wanted = scopes === undefined ? old : { ...old, scopes, owners: undefined };
    const problem =
      grantProblem(caller, { ...wanted, download, prompts, ownHash: false }) ??
      fixedProblem(caller, old, changedLimits(old.limits, limits)) ??
      irrelevantField({ kind: old.kind, limits, strict, strict_fields, degrade, keep_prompts, prompts });
    if (problem !== null) return fail(problem);
    if (old.revokedAt !== null) return fail(conflict('This key was revoked.'));
    const bound = await bindScopes(deps, { caller, tenant: old.tenant, scopes: scopes ?? [] });
    if (!bound.ok) return fail(bound.error);
    const changed = changedKey(old, request, bound.value);
    const limitsFixed = limits !== undefined && caller.root ? changed.limits !== null : old.limitsFixed;
    const row = { ...changed, limitsFixed };
    if (!(await keyLedger.change(row, old))) return fail(CHANGED_MEANWHILE);
    await index(row);
    // Also on a repeat: an earlier attempt may have ended between the two.
    if (keep_prompts !== undefined)
      await deps.keptPrompts.limit({ tenant: row.tenant, keyIds: [row.id], hours: keep_prompts });
    return context.json(keyJson(row));
  });

  adminRoute(routes, 'GET /admin/keys', async ({ context, caller }) => {
    const rows = await keyLedger.list(caller.root ? null : caller.tenant);
    return context.json({ keys: rows.map(keyJson) } satisfies KeyList);
  });

  adminRoute(routes, 'DELETE /admin/keys/:id', revokeKeyRoute(deps));
  return routes;
}

/** Fields that mean nothing for a key of this kind are mistakes. */
function irrelevantField({
  kind,
  limits,
  strict,
  strict_fields,
  degrade,
  keep_prompts,
  prompts,
}: Pick<KeyRequest, 'kind'> & {
  limits?: unknown;
  strict?: unknown;
  strict_fields?: unknown;
  degrade?: unknown;
  keep_prompts?: unknown;
  prompts?: unknown;
}): ApiError | null {
  const fields = kind === 'api' ? { prompts } : { limits, strict, strict_fields, degrade, keep_prompts };
  const param = Object.entries(fields).find(([, value]) => value !== undefined)?.[0];
  if (param === undefined) return null;
  const message =
    kind === 'api'
      ? `'${param}' is for admin keys; an API key reads nothing of the kind.`
      : `'${param}' is for API keys; an admin key has none.`;
  return { code: 'invalid_request', message, param };
}

/** Limits that the operator gave to a key are not the tenant's to raise. */
function fixedProblem(caller: AdminCaller, old: KeyRow, limits: KeyLimits | null): ApiError | null {
  if (caller.root || !old.limitsFixed || relaxedLimit(old.limits, limits) === null) return null;
  return {
    code: 'insufficient_scope',
    message: 'The operator set the limits of this key; an admin key of the tenant may only lower them.',
  };
}

/** A key grants no more than its maker has. @param wanted.owners of scopes that are bound; those to come will be. */
function grantProblem(
  caller: AdminCaller,
  wanted: {
    kind: 'api' | 'admin';
    tenant: string;
    scopes: readonly string[];
    owners?: ScopeOwners | undefined;
    download?: boolean | undefined;
    prompts?: boolean | undefined;
    ownHash: boolean;
  },
): ApiError | null {
  if (caller.root) return null;
  const refuse = (message: string): ApiError => ({ code: 'insufficient_scope', message });
  if (wanted.kind === 'admin') return refuse('Only the bootstrap key makes admin keys.');
  if (wanted.ownHash) return refuse('Only the bootstrap key registers keys by their hash.');
  if (wanted.tenant !== caller.tenant) return refuse('This key makes keys for its own tenant only.');
  if (wanted.download === true && caller.download !== true)
    return refuse('This key has no right to download, and gives none.');
  if (wanted.prompts === true && caller.prompts !== true)
    return refuse('This key has no right to read prompts, and gives none.');
  const wider = scopesHeld(wanted).find(
    (scope) =>
      !scopesHeld(caller).some((own) =>
        wanted.owners === undefined ? scopeWithin(scope.scope, own.scope) : grantWithin(scope, own),
      ),
  );
  return wider === undefined ? null : refuse(`This key does not have the scope '${wider.scope}'.`);
}

/** Keys of other tenants do not exist. */
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
 * Revokes a key: 204, or with `report=true` 200 {@link RevocationView}.
 * Whoever stole a key may have rotated it: those that it was rotated into end with it. All end in the system of record
 * in one statement; in KV a page after the other.
 */
const revokeKeyRoute =
  (deps: {
    keyLedger: KeyLedger;
    rights: RightsWriter;
    keptPrompts: Pick<KeptPrompts, 'limit'>;
    now: () => number;
  }) =>
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
        message: 'Only the bootstrap key ends an admin key and lets what it was rotated into live.',
      });
    const done = await carryThrough<RevocationView | null>(context, () =>
      report === 'true' ? revokePage(deps, line, cursor) : revokeAll(deps, line),
    );
    return done === null ? context.body(null, 204) : context.json(done);
  };

type Deps = Parameters<typeof revokeKeyRoute>[0];

type Wanted = RevokedLine & { /** What is kept of them is deleted, too. */ forget: boolean };

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
  // Also those that were revoked before: an earlier attempt may have ended between the two stores.
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

/** @param owners of the scopes that are asked for. @returns the row as it is to be. */
function changedKey(row: KeyRow, change: ChangeKeyRequest, owners: ScopeOwners): KeyRow {
  const { scopes = row.scopes, label = row.label, strict = row.strict, degrade, limits } = change;
  const { strict_fields: strictFields = row.strictFields, download = row.download } = change;
  const { keep_prompts: keepPrompts = row.keepPrompts, prompts = row.prompts } = change;
  return {
    ...row,
    scopes,
    owners: change.scopes === undefined ? row.owners : owners,
    label,
    strict,
    strictFields,
    degrade: degrade === undefined ? row.degrade : degrade,
    download,
    keepPrompts,
    prompts,
    limits: changedLimits(row.limits, limits),
  };
}

/** Never the key nor its hash. */
const keyJson = (row: KeyRow): KeyView => ({
  id: row.id,
  kind: row.kind,
  tenant: row.tenant,
  scopes: row.scopes,
  scope_owners: row.scopes.map((_, i) => row.owners[i] ?? null),
  label: row.label,
  created_at: row.createdAt,
  created_by: row.createdBy,
  revoked_at: row.revokedAt,
  expires_at: row.expiresAt,
  limits: row.limits === null ? null : limitsJson(row.limits),
  strict: row.strict,
  strict_fields: row.strictFields,
  degrade: row.degrade,
  download: row.download,
  keep_prompts: row.keepPrompts,
  prompts: row.prompts,
  replaced_by: row.replacedBy,
  replaces: row.replaces,
});

/**
 * Whose adapters the scopes of a key open, in their order: whoever has the name or room now, so that nobody who comes to
 * own a name there later answers for it. A scope that the maker has for one owner is given on for that owner.
 * @param params.scopes such as the caller may give. @param params.tenant whose key it is: what nobody has is its own.
 * Error: `invalid_request` for a room in which several have names.
 */
async function bindScopes(
  { registry }: { registry: Pick<Registry, 'around'> },
  params: { caller: AdminCaller; tenant: string; scopes: readonly string[] },
): Promise<Result<ScopeOwners, ApiError>> {
  const { caller, tenant, scopes } = params;
  const bound: (string | null)[] = [];
  for (const [i, scope] of scopes.entries()) {
    // The bootstrap key has one scope, `**`, of whoever owns what it covers.
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
    `Invalid value for 'scopes.${index}': several tenants have names in '${scope}', and a scope opens those of one. ` +
    `Name each room or name that the key is to open, such as '${path}/<room>/**', or have the operator reserve '${path}' for one of them.`,
  param: `scopes.${index}`,
});
