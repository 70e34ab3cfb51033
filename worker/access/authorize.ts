/** Who may use what: scopes and grants over names, and where the names lie that they open. */
import type { AdapterManifest } from '../../protocol/index.ts';
import type { NameRange } from '../registry/ports.ts';
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

/** Above all names that begin with `path`; names are ASCII. */
const after = (path: string): string => `${path}\u007f`;

/** A scope as ranges of names: a room is not one, since `a-b` lies between `a` and `a/b`. */
function rangesOf(scope: string, owner: string | null): NameRange[] {
  if (scope === '**') return [{ from: '', to: after(''), owner }];
  // No name has a blank, and all of their characters come after it.
  const alone = (name: string): NameRange => ({ from: name, to: `${name} `, owner });
  if (!scope.endsWith('/**')) return [alone(scope)];
  const path = scope.slice(0, -3);
  return [alone(path), { from: `${path}/`, to: after(`${path}/`), owner }];
}

/** Two ranges overlap only where one lies in the other, which comes first; of two that are the same, anybody's. */
function widestFirst(a: NameRange, b: NameRange): number {
  if (a.from !== b.from) return a.from < b.from ? -1 : 1;
  if (a.to !== b.to) return a.to > b.to ? -1 : 1;
  return Number(a.owner !== null) - Number(b.owner !== null);
}

/**
 * Where the names lie that scopes and grants open, besides the tenant's own, as layers of ranges that are sorted and do
 * not overlap: each can be read in the order of names. What a wider range covers is left out.
 * O(n log n).
 * @param maxOwned layers of ranges that have an owner. Rooms overlap when several tenants have granted them; what is
 * more than that is left out.
 * @returns first the layer of what anybody may own, then the others; none is empty.
 */
export function usableRanges(rights: Rights, maxOwned: number): NameRange[][] {
  const { tenant, grants = [] } = rights;
  const ranges = [
    ...[...scopesHeld(rights), ...grants].flatMap(({ scope, owner }) =>
      owner === tenant ? [] : rangesOf(scope, owner),
    ),
  ].sort(widestFirst);
  const anybody: NameRange[] = [];
  const owned: NameRange[][] = [];
  /** Where the last range of each owner ends. */
  const ends = new Map<string | null, string>();
  for (const range of ranges) {
    const covered = (owner: string | null) => range.from < (ends.get(owner) ?? '');
    if (covered(range.owner) || covered(null)) continue;
    ends.set(range.owner, range.to);
    if (range.owner === null) {
      anybody.push(range);
      continue;
    }
    const free = owned.find((layer) => (layer.at(-1)?.to ?? '') <= range.from);
    if (free !== undefined) free.push(range);
    else if (owned.length < maxOwned) owned.push([range]);
  }
  return [anybody, ...owned].filter((layer) => layer.length > 0);
}
