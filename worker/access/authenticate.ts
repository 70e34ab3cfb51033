/** Authenticates and admits inference requests, and decides which names a key may use. */
import type { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { checkApiKey, hashApiKey, type ApiKeyKind } from '../../protocol/identity.ts';
import { MAX_BODY_BYTES } from '../../protocol/limits.ts';
import { STRICT_FIELDS_HEADER } from '../../protocol/parse-body.ts';
import { registryUnavailable } from '../errors.ts';
import { readJson } from '../http/request.ts';
import { logLine } from '../log.ts';
import type { Index, Lookup } from '../platform/ports.ts';
import { enterGate, type Gates, refusalCost } from './rate-limits.ts';
import { LARGE_BODY_BYTES } from './limits.ts';
import {
  PUBLIC,
  unrefused,
  type Grant,
  type HeldGrants,
  type Caller,
  type KeyRecord,
  type ScopeOwners,
} from './ports.ts';
import type { NameRange } from '../registry/ports.ts';

/** Anthropic's clients send their key in this header. */
const ANTHROPIC_KEY_HEADER = 'x-api-key';

export const refused = (message: string): Result<never, ApiError> =>
  err({ code: 'invalid_api_key', message });

/** @returns the header's key, if it is well-formed. No I/O. */
export function bearer(request: Request, kind: ApiKeyKind): Result<string, ApiError> {
  const own = request.headers.get(ANTHROPIC_KEY_HEADER);
  const header = request.headers.get('authorization') ?? (own === null ? null : `Bearer ${own}`);
  if (header === null) return refused("Missing API key. Send it as 'Authorization: Bearer <key>'.");
  const key = /^Bearer +(\S{1,64})$/i.exec(header.trim())?.[1];
  const found = key === undefined ? null : checkApiKey(key);
  if (key === undefined || found === null) return refused('The API key is malformed.');
  if (found !== kind)
    return refused(
      kind === 'ga'
        ? 'This route needs an admin key (ga_…).'
        : 'Admin keys (ga_…) are not accepted here. Use an API key (gk_…).',
    );
  return ok(key);
}

/** @returns an error if a known key has expired, otherwise null. */
export function expired(expiresAt: number | null | undefined, now: number): Result<never, ApiError> | null {
  if (expiresAt == null || now < expiresAt) return null;
  return refused(`The API key expired on ${new Date(expiresAt).toISOString()}. Request a new one.`);
}

/**
 * Authenticates an inference request with one KV read. Never throws.
 * @param now unix ms.
 */
export async function authenticate(
  request: Request,
  keys: Index<KeyRecord>,
  now: () => number,
): Promise<Result<Caller, ApiError>> {
  const key = bearer(request, 'gk');
  if (!key.ok) return key;
  const lookup = await keys.get(await hashApiKey(key.value));
  switch (lookup.state) {
    case 'found': {
      const { id, expires_at, ...rest } = lookup.value;
      return expired(expires_at, now()) ?? ok({ keyId: id, ...rest, stale: lookup.stale });
    }
    case 'absent':
    case 'gone':
      return refused('Unknown API key.');
    case 'trouble':
      logLine('key_lookup_trouble', { reason: lookup.reason });
      return err(registryUnavailable(lookup.retryAfterMs));
  }
}

export interface AuthDeps {
  keys: Index<KeyRecord>;
  gates: Gates;
  /** Unix ms. */
  now: () => number;
}

/** An inference request during admission. */
export interface AdmittedRequest {
  /** The caller, unless too many of its tenant's requests were refused. Never rejects. */
  asking: Promise<Result<Caller, ApiError>>;
  /** The body, read while the key is looked up. A large body is read only after its key is checked. */
  read: () => Promise<Result<unknown, ApiError>>;
  /**
   * Charges a refused request to its tenant.
   * @param names that it asked for; 0 if it could not be read.
   */
  refused: (by: { tenant: string; status: number; names: number }) => void;
}

/** Admits a completion. Limits what a tenant's refused requests and large bodies may cost the others. */
export function admitRequest({ keys, gates, now }: AuthDeps, request: Request): AdmittedRequest {
  const asking = admit();
  /** Set only for a large body. */
  let bytes = 0;

  async function admit(): Promise<Result<Caller, ApiError>> {
    const caller = await authenticate(request, keys, now);
    if (!caller.ok) return caller;
    const retryAfterMs = gates.refusals.waitMs(caller.value.tenant);
    if (retryAfterMs === null) return caller;
    const message = `Too many of this tenant's requests were refused. Please try again in ${retryAfterMs}ms.`;
    return err({ code: 'rate_limit_exceeded', message, retryAfterMs });
  }

  async function enter(): Promise<Result<(bytes: number) => void, ApiError>> {
    const caller = await asking;
    if (!caller.ok) return caller;
    const entered = enterGate(gates.largeBodies, caller.value.tenant);
    if (!entered.ok) return entered;
    return ok((size) => {
      bytes = size;
      entered.value();
    });
  }

  /** Settles only if the key is refused, so that nobody waits for an unauthenticated body. */
  async function refusal(): Promise<Result<never, ApiError>> {
    const caller = await asking;
    return caller.ok ? new Promise(() => undefined) : caller;
  }

  return {
    asking,
    read: () =>
      Promise.race([
        readJson(request, MAX_BODY_BYTES, { large: { from: LARGE_BODY_BYTES, enter } }),
        refusal(),
      ]),
    refused: ({ tenant, status, names }) =>
      gates.refusals.spend(tenant, refusalCost({ status, names, bytes })),
  };
}

/**
 * Whether to refuse unknown fields: the request's header decides, then its key.
 * @param caller null if the key is not known yet.
 */
export function refusesUnknownFields(
  request: Request,
  caller: Pick<Caller, 'strict_fields'> | null,
): boolean {
  const asked = request.headers.get(STRICT_FIELDS_HEADER);
  return asked === 'true' || (asked !== 'false' && caller?.strict_fields === true);
}

type Chain = Pick<AdapterManifest, 'name' | 'owner' | 'chain'>;

export interface CallerRights {
  /**
   * May the caller use the whole chain? Reads the grants only if the caller's own scopes do not cover it.
   * Error: `registry_unavailable` when the grants cannot be read; this does not mean forbidden.
   */
  allow(manifest: Chain): Promise<Result<{ allowed: boolean; stale: boolean }, ApiError>>;
  /**
   * Reads the grants for a missing name too, so that it takes as long and fails the same way as a forbidden
   * name.
   */
  asIfForbidden(): Promise<Result<null, ApiError>>;
  /**
   * May the caller know that this name exists, even if it may not use the whole chain? False if the grants
   * cannot be read.
   */
  knows(manifest: Chain): Promise<boolean>;
}

/**
 * A caller's rights during one request. Reads the grants at most once: the tenant's and the public ones
 * together.
 */
export function createCallerRights(grants: Index<HeldGrants>, caller: Caller): CallerRights {
  let reading: { everyone: Promise<Lookup<HeldGrants>>; own: Promise<Lookup<HeldGrants>> } | undefined;
  const read = () => (reading ??= { everyone: grants.get(PUBLIC), own: grants.get(caller.tenant) });

  async function decide(manifest: Chain | null): ReturnType<CallerRights['allow']> {
    const { everyone, own } = read();
    const held: Grant[] = [];
    let refused: readonly string[] = [];
    let stale = false;
    let trouble: ApiError | null = null;
    // The tenant's own first: they say whose public grants it refuses.
    for (const answer of [own, everyone]) {
      const lookup = await answer;
      if (lookup.state === 'found') {
        ({ refused } = answer === own ? lookup.value : { refused });
        held.push(...unrefused(lookup.value.grants, refused));
        stale ||= lookup.stale;
      } else if (lookup.state === 'trouble') {
        logLine('grant_lookup_trouble', { reason: lookup.reason });
        trouble = registryUnavailable(lookup.retryAfterMs);
        // Without them, we don't know which public grants the tenant refuses.
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

export function scopeCovers(scope: string, name: string): boolean {
  if (scope === '**' || scope === name) return true;
  if (!scope.endsWith('/**')) return false;
  const path = scope.slice(0, -3);
  return name === path || name.startsWith(`${path}/`);
}

/** Everything that decides what a caller may use. */
export interface Rights {
  tenant: string;
  /** The key's own. */
  scopes: readonly string[];
  scope_owners?: ScopeOwners | undefined;
  /** Given to the tenant or to everybody. */
  grants?: readonly Grant[] | undefined;
}

interface Published {
  name: string;
  owner: string;
}

/** A grant covers only what its giver owns, even if others publish below the same name. */
export const grantCovers = (grant: Grant, member: Published): boolean =>
  (grant.owner === null || grant.owner === member.owner) && scopeCovers(grant.scope, member.name);

/** A key's scopes, each with the owner whose adapters it covers. */
export const scopesHeld = ({ scopes, scope_owners = [] }: Pick<Rights, 'scopes' | 'scope_owners'>): Grant[] =>
  scopes.map((scope, i) => ({ scope, owner: scope_owners[i] ?? null }));

/** May the caller use what `owner` published under `name`? */
export function mayUse(rights: Rights, member: Published): boolean {
  const { tenant, grants = [] } = rights;
  return (
    member.owner === tenant || [...scopesHeld(rights), ...grants].some((grant) => grantCovers(grant, member))
  );
}

/**
 * A chain may be used if every member may be used. The version's own name counts too, because chains can be
 * shared.
 */
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

/** Does `outer` cover everything that `inner` covers? */
export const grantWithin = (inner: Grant, outer: Grant): boolean =>
  (outer.owner === null || outer.owner === inner.owner) && scopeWithin(inner.scope, outer.scope);

/** Sorts after all names that begin with `path`; names are ASCII. */
const after = (path: string): string => `${path}\u007f`;

/** A scope as ranges of names. A prefix takes two, since `a-b` sorts between `a` and `a/b`. */
function rangesOf(scope: string, owner: string | null): NameRange[] {
  if (scope === '**') return [{ from: '', to: after(''), owner }];
  // Names contain no space, and all of their characters sort after it.
  const alone = (name: string): NameRange => ({ from: name, to: `${name} `, owner });
  if (!scope.endsWith('/**')) return [alone(scope)];
  const path = scope.slice(0, -3);
  return [alone(path), { from: `${path}/`, to: after(`${path}/`), owner }];
}

/**
 * Overlapping ranges are always nested: the wider one sorts first. If both are equal, the one for any owner
 * does.
 */
function widestFirst(a: NameRange, b: NameRange): number {
  if (a.from !== b.from) return a.from < b.from ? -1 : 1;
  if (a.to !== b.to) return a.to > b.to ? -1 : 1;
  return Number(a.owner !== null) - Number(b.owner !== null);
}

/**
 * The ranges of names that scopes and grants cover, except the tenant's own, as layers of sorted, disjoint
 * ranges. So each layer can be read in the order of names. Drops ranges that a wider one covers. O(n log n).
 * @param maxOwned layers of ranges with an owner; ranges that do not fit are dropped. Prefixes overlap when
 * several tenants have granted them.
 * @returns first the layer for any owner, then the others; none is empty.
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
  /** End of each owner's last range. */
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
