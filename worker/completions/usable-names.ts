import { MAX_LIST_READS, MAX_OVERLAPPING_GIVERS } from './limits.ts';
import { mayUse, mayUseChain, type Rights, usableRanges } from '../access/authorize.ts';
import type { GrantLedger } from '../access/ports-grants.ts';
import type { NameWindow, Registry, UsableName } from '../registry/ports.ts';

export interface ListDeps {
  registry: Registry;
  grantLedger: GrantLedger;
}

/** Above all names that begin with `prefix`; names are ASCII. */
const endOf = (prefix: string): string => `${prefix}\u007f`;

/** All names that begin with `prefix`. @param limit names that are looked at. */
export const windowOf = (prefix: string, limit: number): NameWindow => ({
  from: prefix,
  to: endOf(prefix),
  limit,
});

const usable = (rights: Rights) => (row: UsableName) =>
  mayUse(rights, row) && mayUseChain(rights, row.version);

/**
 * Names in windows whose whole chain may be used; one read of the registry. An alias is one of them when it lies within
 * the rights as well as what it stands for: more can be asked for by those who know their names.
 * @throws StoreUnavailable
 */
export async function usableIn(
  { registry }: Pick<ListDeps, 'registry'>,
  rights: Rights,
  windows: readonly NameWindow[],
): Promise<UsableName[]> {
  const { tenant } = rights;
  const layers = usableRanges(rights, MAX_OVERLAPPING_GIVERS);
  const answers = await registry.usable({ tenant, layers, windows });
  return answers.flatMap(({ names }) => names).filter(usable(rights));
}

/**
 * The first `wanted` of them after `after`, or as many as {@link MAX_LIST_READS} reads find.
 * @returns `more`: where to go on, when there are, or may be, more of them. @throws StoreUnavailable
 */
export async function usableNames(
  { registry }: Pick<ListDeps, 'registry'>,
  rights: Rights,
  params: { prefix: string; after: string; wanted: number },
): Promise<{ names: UsableName[]; more: string | null }> {
  const { prefix, wanted } = params;
  const { tenant } = rights;
  const layers = usableRanges(rights, MAX_OVERLAPPING_GIVERS);
  const found: UsableName[] = [];
  let after: string | null = params.after;
  for (let read = 0; read < MAX_LIST_READS && found.length <= wanted && after !== null; read += 1) {
    // A blank comes before what names have in them.
    const from: string = after < prefix ? prefix : `${after} `;
    // One more than wanted tells whether there is more.
    const window = { from: after === '' ? prefix : from, to: endOf(prefix), limit: wanted + 1 };
    const [page] = await registry.usable({ tenant, layers, windows: [window] });
    found.push(...(page?.names ?? []).filter(usable(rights)));
    after = page?.end ?? null;
  }
  const names = found.slice(0, wanted);
  if (found.length > wanted) return { names, more: names.at(-1)?.name ?? null };
  // A name that can be used, where there is one, rather than one that was only looked at.
  return { names, more: after === null ? null : (names.at(-1)?.name ?? after) };
}
