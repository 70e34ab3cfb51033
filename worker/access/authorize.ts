import type { AdapterManifest } from '../../protocol/index.ts';
import type { Grant } from './ports-grants.ts';
import type { ScopeOwners } from './ports.ts';

export function scopeCovers(scope: string, name: string): boolean {
  if (scope === '**' || scope === name) return true;
  if (!scope.endsWith('/**')) return false;
  const path = scope.slice(0, -3);
  return name === path || name.startsWith(`${path}/`);
}

/** What decides who may use what. */
export interface Rights {
  tenant: string;
  /** Of the key itself. */
  scopes: readonly string[];
  owners?: ScopeOwners | undefined;
  /** What others gave to the tenant or to everybody. */
  grants?: readonly Grant[] | undefined;
}

interface Published {
  name: string;
  owner: string;
}

/** A grant is worth no more than what its giver owns, whoever publishes below the same name. */
export const grantCovers = (grant: Grant, member: Published): boolean =>
  (grant.owner === null || grant.owner === member.owner) && scopeCovers(grant.scope, member.name);

/** A key's scopes, each with the owner whose adapters it opens. */
export const scopesHeld = ({ scopes, owners = [] }: Pick<Rights, 'scopes' | 'owners'>): Grant[] =>
  scopes.map((scope, i) => ({ scope, owner: owners[i] ?? null }));

/** May the caller use what `owner` published under `name`? */
export function mayUse(rights: Rights, member: Published): boolean {
  const { tenant, grants = [] } = rights;
  return (
    member.owner === tenant || [...scopesHeld(rights), ...grants].some((grant) => grantCovers(grant, member))
  );
}

/** A chain may be used when every member may be. The version's own name counts too: a chain can be shared. */
export function mayUseChain(
  caller: Rights,
  manifest: Pick<AdapterManifest, 'name' | 'owner' | 'chain'>,
): boolean {
  return mayUse(caller, manifest) && manifest.chain.every((member) => mayUse(caller, member));
}

/** Does `outer` cover everything that `inner` covers? */
export function scopeWithin(inner: string, outer: string): boolean {
  if (outer === '**' || inner === outer) return true;
  if (inner === '**') return false;
  if (!inner.endsWith('/**')) return scopeCovers(outer, inner);
  return outer.endsWith('/**') && scopeCovers(outer, inner.slice(0, -3));
}

/** Does `outer` open everything that `inner` opens? */
export const grantWithin = (inner: Grant, outer: Grant): boolean =>
  (outer.owner === null || outer.owner === inner.owner) && scopeWithin(inner.scope, outer.scope);
