import { err, ok, type AdapterManifest, type ApiError, type Result } from '../../protocol/index.ts';
import { registryUnavailable } from '../errors.ts';
import { mayUse, mayUseChain } from './authorize.ts';
import { PUBLIC, unrefused, type Grant, type HeldGrants } from './ports-grants.ts';
import type { Caller } from './ports.ts';
import type { Index, Lookup } from '../platform/ports.ts';
import { logLine } from '../log.ts';

type Chain = Pick<AdapterManifest, 'name' | 'owner' | 'chain'>;

export interface CallerRights {
  /**
   * May the caller use the whole chain? Grants are read only when its own scopes do not cover it.
   * Error: `registry_unavailable` when what decides cannot be read; that is no refusal.
   */
  allow(manifest: Chain): Promise<Result<{ allowed: boolean; stale: boolean }, ApiError>>;
  /**
   * Reads the grants for a name that is missing, as for one that is forbidden: both take as long and fail alike.
   */
  asIfForbidden(): Promise<Result<null, ApiError>>;
  /** May the caller know that there is this name, whether or not it may use the whole chain? No, where nobody can say. */
  knows(manifest: Chain): Promise<boolean>;
}

/** What one caller may use, for one request: grants are read at most once, the tenant's and everybody's together. */
export function createCallerRights(grants: Index<HeldGrants>, caller: Caller): CallerRights {
  let reading: { everyone: Promise<Lookup<HeldGrants>>; own: Promise<Lookup<HeldGrants>> } | undefined;
  const read = () => (reading ??= { everyone: grants.get(PUBLIC), own: grants.get(caller.tenant) });

  async function decide(manifest: Chain | null): ReturnType<CallerRights['allow']> {
    const { everyone, own } = read();
    const held: Grant[] = [];
    let refused: readonly string[] = [];
    let stale = false;
    let trouble: ApiError | null = null;
    // The tenant's own first: it says whose grants to everybody are to open nothing.
    for (const answer of [own, everyone]) {
      const lookup = await answer;
      if (lookup.state === 'found') {
        ({ refused } = answer === own ? lookup.value : { refused });
        held.push(...unrefused(lookup.value.grants, refused));
        stale ||= lookup.stale;
      } else if (lookup.state === 'trouble') {
        logLine('grant_lookup_trouble', { reason: lookup.reason });
        trouble = registryUnavailable(lookup.retryAfterMs);
        // What is public may be refused.
        if (answer === own) break;
      }
      if (manifest !== null && mayUseChain({ ...caller, grants: held }, manifest))
        return ok({ allowed: true, stale });
    }
    return trouble === null ? ok({ allowed: false, stale: false }) : err(trouble);
  }

  return {
    allow: async (manifest) =>
      mayUseChain(caller, manifest) ? ok({ allowed: true, stale: false }) : decide(manifest),
    async knows(manifest) {
      if (mayUse(caller, manifest)) return true;
      const { everyone, own } = read();
      const [mine, all] = await Promise.all([own, everyone]);
      if (mine.state === 'trouble') return false;
      const refused = mine.state === 'found' ? mine.value.refused : [];
      const held = [mine, all].flatMap((lookup) => (lookup.state === 'found' ? lookup.value.grants : []));
      return mayUse({ ...caller, grants: unrefused(held, refused) }, manifest);
    },
    async asIfForbidden() {
      const decided = await decide(null);
      return decided.ok ? ok(null) : decided;
    },
  };
}
