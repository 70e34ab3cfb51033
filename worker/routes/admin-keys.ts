import { Hono } from 'hono';
import { z } from 'zod';
import { Digest, errorResponse, generateApiKey, hashApiKey, type ApiError } from '../../protocol/index.ts';
import { MAX_SCOPES } from '../limits.ts';
import { fail, methodNotAllowed, type AppEnv } from '../middleware/request-scope.ts';
import { scopeProblem, scopeWithin } from '../policy/authorize.ts';
import type { AdminCaller, KeyIndex, KeyLedger, KeyRow } from '../stores/types.ts';
import { readInput } from './parse-input.ts';

const Scope = z.string().superRefine((scope, context) => {
  const problem = scopeProblem(scope);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

const KeyRequest = z.strictObject({
  kind: z.enum(['api', 'admin']).default('api'),
  tenant: z
    .string()
    .regex(/^[a-z0-9._-]{1,64}$/, 'must be 1 to 64 of a-z, 0-9, ".", "_", "-"')
    .optional(),
  scopes: z.array(Scope).max(MAX_SCOPES).default([]),
  label: z
    .string()
    .max(128)
    .regex(/^[\x20-\x7e]*$/, 'must be printable ASCII')
    .default(''),
  /** sha256 of a key that the caller made itself, and keeps. */
  hash: Digest.optional(),
});

export interface KeyDeps {
  keyLedger: KeyLedger;
  keyIndex: KeyIndex;
  now: () => number;
}

const keyJson = (row: KeyRow) => ({
  id: row.id,
  kind: row.kind,
  tenant: row.tenant,
  scopes: row.scopes,
  label: row.label,
  created_at: row.createdAt,
  created_by: row.createdBy,
  revoked_at: row.revokedAt,
});

const ID_DIGITS = 16;

/**
 * `POST /admin/keys` -> 201 with `key`, which is shown once (not when the caller gave a `hash`; 200 when that is known);
 * `GET /admin/keys` -> `{keys: […]}`; `DELETE /admin/keys/<id>` -> 204.
 */
export function adminKeyRoutes(deps: KeyDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  /** Again on a repeat: an earlier attempt may have ended between the two stores. */
  const index = async (row: KeyRow) => {
    if (row.kind === 'api')
      await deps.keyIndex.put(row.hash, { id: row.id, tenant: row.tenant, scopes: row.scopes });
  };

  routes.post('/admin/keys', async (context) => {
    const request = await readInput(context.req.raw, KeyRequest);
    if (!request.ok) return fail(request.error);
    const { kind, label, scopes } = request.value;
    const caller = context.get('admin');
    const tenant = request.value.tenant ?? caller.tenant;
    const problem = grantProblem(caller, { kind, tenant, scopes, ownHash: request.value.hash !== undefined });
    if (problem !== null) return fail(problem);
    const key = request.value.hash === undefined ? generateApiKey(kind === 'api' ? 'gk' : 'ga') : null;
    const hash = key === null ? (request.value.hash as string) : await hashApiKey(key);
    const id = `key_${hash.slice(0, ID_DIGITS)}`;
    const known = await deps.keyLedger.get(id);
    if (known !== null) {
      if (known.revokedAt !== null || known.hash !== hash)
        return fail({ code: 'version_conflict', message: 'This key was revoked; make another.' });
      await index(known);
      return context.json(keyJson(known));
    }
    const row: KeyRow = {
      id,
      hash,
      kind,
      tenant,
      scopes,
      label,
      createdAt: deps.now(),
      createdBy: caller.keyId,
      revokedAt: null,
    };
    await deps.keyLedger.add(row);
    await index(row);
    return context.json({ ...keyJson(row), ...(key === null ? {} : { key }) }, 201);
  });

  routes.get('/admin/keys', async (context) => {
    const caller = context.get('admin');
    const rows = await deps.keyLedger.list(caller.root ? null : caller.tenant);
    return context.json({ keys: rows.map(keyJson) });
  });
  routes.all('/admin/keys', methodNotAllowed('GET, POST'));

  routes.delete('/admin/keys/:id', async (context) => {
    const caller = context.get('admin');
    const row = await deps.keyLedger.get(context.req.param('id'));
    if (row === null || !(caller.root || row.tenant === caller.tenant))
      return errorResponse({ code: 'not_found', message: 'There is no such key.' });
    await deps.keyLedger.revoke(row.id, deps.now());
    if (row.kind === 'api') await deps.keyIndex.revoke(row.hash);
    return context.body(null, 204);
  });
  routes.all('/admin/keys/:id', methodNotAllowed('DELETE'));
  return routes;
}

/** A key grants no more than its maker has. */
function grantProblem(
  caller: AdminCaller,
  wanted: { kind: 'api' | 'admin'; tenant: string; scopes: readonly string[]; ownHash: boolean },
): ApiError | null {
  if (caller.root) return null;
  const refuse = (message: string): ApiError => ({ code: 'insufficient_scope', message });
  if (wanted.kind === 'admin') return refuse('Only the bootstrap key makes admin keys.');
  if (wanted.ownHash) return refuse('Only the bootstrap key registers keys by their hash.');
  if (wanted.tenant !== caller.tenant) return refuse('This key makes keys for its own tenant only.');
  const wider = wanted.scopes.find((scope) => !caller.scopes.some((own) => scopeWithin(scope, own)));
  return wider === undefined ? null : refuse(`This key does not have the scope '${wider}'.`);
}
