import { err, ok, type AdapterManifest, type ApiError, type Result } from '../../protocol/index.ts';
import { mayUse, mayUseChain } from '../policy/authorize.ts';
import { registryUnavailable } from '../policy/resolve-name.ts';
import { PUBLIC, type Caller, type Grant, type Index, type Lookup } from '../stores/types.ts';

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
export function createCallerRights(grants: Index<Grant[]>, caller: Caller): CallerRights {
  let reading: { everyone: Promise<Lookup<Grant[]>>; own: Promise<Lookup<Grant[]>> } | undefined;
  const read = () => (reading ??= { everyone: grants.get(PUBLIC), own: grants.get(caller.tenant) });

  async function decide(manifest: Chain | null): ReturnType<CallerRights['allow']> {
    const { everyone, own } = read();
    const held: Grant[] = [];
    let stale = false;
    let trouble: ApiError | null = null;
    // Everybody's are mostly in memory: what is public does not wait for the tenant's.
    for (const answer of [everyone, own]) {
      const lookup = await answer;
      if (lookup.state === 'found') {
        held.push(...lookup.value);
        stale ||= lookup.stale;
      } else if (lookup.state === 'trouble') {
        console.error(JSON.stringify({ event: 'grant_lookup_trouble', reason: lookup.reason }));
        trouble = registryUnavailable(lookup.retryAfterMs);
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
      const lookups = await Promise.all([everyone, own]);
      const grants = lookups.flatMap((lookup) => (lookup.state === 'found' ? lookup.value : []));
      return mayUse({ ...caller, grants }, manifest);
    },
    async asIfForbidden() {
      const decided = await decide(null);
      return decided.ok ? ok(null) : decided;
    },
  };
}
