import { nameProblem, type AdapterManifest } from '../../protocol/index.ts';
import type { Caller } from '../stores/types.ts';

/**
 * A scope is a name, `<path>/**` (the path itself and all below it: a child cannot be used without its parents) or
 * `**`.
 * @returns why `scope` is none of these, or null.
 */
export function scopeProblem(scope: string): string | null {
  if (scope === '**') return null;
  const path = scope.endsWith('/**') ? scope.slice(0, -3) : scope;
  const problem = nameProblem(path);
  return problem === null ? null : `a scope is a name, "<name>/**" or "**": ${problem}`;
}

export function scopeCovers(scope: string, name: string): boolean {
  if (scope === '**' || scope === name) return true;
  if (!scope.endsWith('/**')) return false;
  const path = scope.slice(0, -3);
  return name === path || name.startsWith(`${path}/`);
}

/** May the caller use what `owner` published under `name`? */
export function mayUse(
  caller: Pick<Caller, 'tenant' | 'scopes'>,
  member: { name: string; owner: string },
): boolean {
  return member.owner === caller.tenant || caller.scopes.some((scope) => scopeCovers(scope, member.name));
}

/** A chain may be used when every member may be. The version's own name counts too: a chain can be shared. */
export function mayUseChain(
  caller: Pick<Caller, 'tenant' | 'scopes'>,
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
