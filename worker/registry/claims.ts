/**
 * What lies above a name, and whose it is to take. Names, and rooms that the operator reserved, claim all that lies below them and does not
 * exist yet; the nearest claim decides.
 */
import { MAX_NAME_LENGTH } from '../../protocol/limits.ts';
import type { Surroundings } from './ports.ts';

/**
 * May the tenant have this name? It is the owner's once it exists. Until then it is free when what is nearest above it is
 * the tenant's own, or nothing, and nobody else has anything below it, for whom it would come to answer. In a room that
 * was reserved for the tenant what others have below from before is no obstacle: the operator has decided.
 */
export function mayTake(tenant: string, { own, above, below }: Surroundings): boolean {
  if (own !== null) return own === tenant;
  if (above !== null && above.owner !== tenant) return false;
  return above?.by === 'room' || below.every((owner) => owner === tenant);
}

/** What the operator, who may do it, is told when `owner` gets a name among others' names; null = nothing. */
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

/** `several`: no single owner; `nobody`: nothing is there. */
export type ScopeOwner = { kind: 'owner'; owner: string } | { kind: 'several' } | { kind: 'nobody' };

/**
 * Whose adapters a scope means: the nearest name or room at or above its path decides, else whoever has all that lies
 * below.
 * @param scope not `**`. @param around of its path.
 */
export function scopeOwner(scope: string, { own, above, below }: Surroundings): ScopeOwner {
  const isRoom = scope.endsWith('/**');
  const reserved = isRoom && above?.by === 'room' && `${above.path}/**` === scope ? above.owner : null;
  const [first, second] = below;
  const owner = reserved ?? own ?? above?.owner ?? (second === undefined ? first : undefined);
  if (owner !== undefined) return { kind: 'owner', owner };
  return first === undefined ? { kind: 'nobody' } : { kind: 'several' };
}

/** @returns the names above `name`, the nearest first. */
export function ancestorsOf(name: string): string[] {
  const ancestors: string[] = [];
  for (let end = name.lastIndexOf('/'); end > 0; end = name.lastIndexOf('/', end - 1))
    ancestors.push(name.slice(0, end));
  return ancestors;
}

/**
 * @returns a name that nobody can have: to ask about it takes what it takes to ask about a missing one. What is asked
 * when a name is missing is asked of this one when the caller may not use the name, so that nobody can time which it is.
 */
export const decoyOf = (name: string): string => `base/${name}`.slice(0, MAX_NAME_LENGTH);
