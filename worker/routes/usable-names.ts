import { MAX_SCOPES } from '../limits.ts';
import { mayUse, mayUseChain, scopeWithin, type Rights } from '../policy/authorize.ts';
import { PUBLIC, type Grant, type GrantLedger, type Registry, type UsableName } from '../stores/types.ts';

export interface ListDeps {
  registry: Registry;
  grantLedger: GrantLedger;
}

/** What was given to the tenant and to everybody, from the system of record. @throws StoreUnavailable */
export const grantsHeld = (deps: Pick<ListDeps, 'grantLedger'>, tenant: string): Promise<Grant[]> =>
  deps.grantLedger.heldBy([tenant, PUBLIC]);

/**
 * Reads pages until `wanted` names whose whole chain may be used are found, or there are no more. An alias is one of them
 * when it lies within the rights as well as what it stands for: more can be asked for by those who know their names.
 * @param params.maxPages gives up after so many; none unless given. @throws StoreUnavailable
 */
export async function usableNames(
  deps: Pick<ListDeps, 'registry'>,
  rights: Rights,
  params: { prefix: string; after: string; wanted: number; maxPages?: number },
): Promise<UsableName[]> {
  const { prefix, wanted, maxPages = Infinity } = params;
  const batches = scopeBatches(rights);
  const found: UsableName[] = [];
  let after = params.after;
  for (let page = 0; page < maxPages && found.length < wanted; page += 1) {
    const limit = wanted - found.length;
    const answers = await Promise.all(
      batches.map((scopes) => deps.registry.usable({ tenant: rights.tenant, scopes, prefix, after, limit })),
    );
    const rows = [...new Map(answers.flat().map((row) => [row.name, row])).values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .slice(0, limit);
    found.push(...rows.filter((row) => mayUse(rights, row) && mayUseChain(rights, row.version)));
    if (rows.length < limit) break;
    after = rows.at(-1)?.name ?? after;
  }
  return found;
}

/** A query takes 100 parameters, three a scope. @returns at least one batch. */
function scopeBatches({ scopes, grants = [] }: Rights): string[][] {
  const all = [...new Set([...scopes, ...grants.map(({ scope }) => scope)])];
  const widest = all.filter((scope) => !all.some((other) => other !== scope && scopeWithin(scope, other)));
  const batches: string[][] = [];
  for (let at = 0; at === 0 || at < widest.length; at += MAX_SCOPES)
    batches.push(widest.slice(at, at + MAX_SCOPES));
  return batches;
}
