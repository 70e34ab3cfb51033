import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { scopesHeld, scopeWithin } from './authorize.ts';
import { scopeOwner } from '../registry/claims.ts';
import type { AdminCaller, ScopeOwners } from './ports.ts';
import type { Registry } from '../registry/ports.ts';

/**
 * Whose adapters the scopes of a key open, in their order: whoever has the name or room now, so that nobody who comes to
 * own a name there later answers for it. A scope that the maker has for one owner is given on for that owner.
 * @param params.scopes such as the caller may give. @param params.tenant whose key it is: what nobody has is its own.
 * Error: `invalid_request` for a room in which several have names.
 */
export async function bindScopes(
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
