/**
 * Who may take a name. Existing names, and rooms that the operator reserved, claim everything below them that
 * does not exist yet; the nearest claim decides.
 */
import { MAX_NAME_LENGTH } from '../../protocol/limits.ts';
import type { Surroundings } from './ports.ts';

/**
 * May the tenant take this name? An existing name belongs to its owner. A new one is free if its nearest
 * claim is the tenant's own or absent, and nobody else has names below it, which would inherit from it. In a
 * room reserved for the tenant, others' older names do not matter: the operator has decided.
 */
export function mayTake(tenant: string, { own, above, below }: Surroundings): boolean {
  if (own !== null) return own === tenant;
  if (above !== null && above.owner !== tenant) return false;
  return above?.by === 'room' || below.every((owner) => owner === tenant);
}

/**
 * A notice for the operator, who may take any name, when `owner` gets one among others' names; null = none.
 */
export function takenAmong(name: string, owner: string, { own, above, below }: Surroundings): string | null {
  if (own !== null) return null;
  const others = below.filter((other) => other !== owner);
  const parts = [
    ...(above === null || above.owner === owner ? [] : [`above it is '${above.path}' of '${above.owner}'`]),
    ...(others.length === 0 ? [] : [`below it are names or prefixes of '${others.join("', '")}'`]),
  ];
  return parts.length === 0
    ? null
    : `'${name}' of '${owner}' lies between names of others: ${parts.join('; ')}.`;
}

/** `several`: no single owner; `nobody`: nothing exists there. */
export type ScopeOwner = { kind: 'owner'; owner: string } | { kind: 'several' } | { kind: 'nobody' };

/**
 * Whose adapters a scope covers: the nearest name or room at or above its path decides, otherwise the owner
 * of all names below, if there is only one.
 * @param scope not `**`.
 * @param around of its path.
 */
export function scopeOwner(scope: string, { own, above, below }: Surroundings): ScopeOwner {
  const isRoom = scope.endsWith('/**');
  const reserved = isRoom && above?.by === 'room' && `${above.path}/**` === scope ? above.owner : null;
  const [first, second] = below;
  const owner = reserved ?? own ?? above?.owner ?? (second === undefined ? first : undefined);
  if (owner !== undefined) return { kind: 'owner', owner };
  return first === undefined ? { kind: 'nobody' } : { kind: 'several' };
}

/** @returns the names above `name`, nearest first. */
export function ancestorsOf(name: string): string[] {
  const ancestors: string[] = [];
  for (let end = name.lastIndexOf('/'); end > 0; end = name.lastIndexOf('/', end - 1))
    ancestors.push(name.slice(0, end));
  return ancestors;
}

/**
 * @returns an impossible name that takes as long to look up as a missing one. Lookups that only a missing
 * name needs are made with it for a forbidden name, so timing does not reveal which it is.
 */
export const decoyOf = (name: string): string => `base/${name}`.slice(0, MAX_NAME_LENGTH);
