import type { NameRange } from '../registry/ports.ts';
import { scopesHeld, type Rights } from './authorize.ts';

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
