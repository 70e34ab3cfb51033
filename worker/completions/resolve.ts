/**
 * Resolves a request's `model` and `adapters`: pins, aliases, inheritance, rights, and the resulting chain.
 */
import type { AdapterManifest, ManifestChainEntry, NameEntry } from '../../protocol/adapter-manifest.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import type { EdgeRequest } from '../../protocol/completion.ts';
import { chainId, nameProblem } from '../../protocol/identity.ts';
import { MAX_CHAIN } from '../../protocol/limits.ts';
import { registryUnavailable, modelWithdrawn } from '../errors.ts';
import type { RequestLife, VersionRow, NegativeCache } from '../registry/ports.ts';
import { RETRY_AFTER_MS } from '../limits.ts';
import type { OriginClient } from '../origins/client.ts';
import { StoreUnavailable, type Lookup, type BulkIndex, type Index } from '../platform/ports.ts';
import type { Caller, HeldGrants } from '../access/ports.ts';
import { type CallerRights, createCallerRights } from '../access/authenticate.ts';
import { explainNotFound, type ExplainDeps } from './usable-names.ts';
import { manifestOf, nameEntryOf } from '../registry/write-pointer.ts';
import { ancestorsOf, decoyOf } from '../registry/claims.ts';
import { logLine } from '../log.ts';
import type { TakeDropOnMiss } from '../kv-inbox/take-drops.ts';

export interface ResolveDeps extends FindDeps, ExplainDeps {
  origins: OriginClient;
}

/** What serves a request. */
export interface Resolution {
  /** null = the base model. */
  manifest: AdapterManifest | null;
  /** Id of the base; null = the default one. */
  base: string | null;
  /** The manifest's chain, plus the adapters that the request adds. */
  chain: readonly ManifestChainEntry[];
  chainId: string;
  /** `name@version=scale` of each adapter that the request adds. */
  composed: readonly string[];
  /** The requested name, if it is an alias. */
  alias: string | null;
  /** The manifest is an ancestor's. */
  inherited: boolean;
  /** From a cache, because the registry does not respond. */
  stale: boolean;
  /** Set if a fallback serves instead of an unavailable adapter. */
  degraded: 'ancestor' | 'base' | null;
}

export interface Resolved {
  resolution: Resolution;
  /** Alternatives if no origin can run the resolution, in order; the key's policy decides. */
  fallbacks(): Promise<Resolution[]>;
  /**
   * The requested name, if it means the live version; null for `name@n`, for the base, and if the request
   * adds adapters.
   */
  liveName: string | null;
  /** May the caller use another chain? */
  allows: CallerRights['allow'];
}

/** Looked up, but not decided: the caller may still be unknown. */
export type PendingModel = (
  caller: Caller,
  edge: EdgeRequest,
  life: RequestLife,
) => Promise<Result<Resolved, ApiError>>;

/** Looking up a single model: exactly this name, without additions. */
export const EXACTLY: EdgeRequest = { strict: true, adapters: [] };

/**
 * Starts all reads that `model` needs, concurrently with the key's. Usually that is one KV read.
 * @returns a function that decides once the caller is known.
 */
export async function lookUpModel(deps: ResolveDeps, model: string): Promise<PendingModel> {
  const guess = parseModelReference(model, []);
  const [bases, lookup] = await Promise.all([
    guess.kind === 'base' ? null : deps.origins.bases.ids(),
    guess.kind === 'name' ? deps.names.get(guess.name) : null,
  ]);
  const reference = parseModelReference(model, bases?.ok ? bases.value : []);
  return async (caller, edge, life) => {
    const finder = createFinder(deps, caller, life);
    const asked: Asked = { deps, caller, edge, model, reference, finder };
    const main = await resolveMain(asked, lookup);
    // The bases are unknown now, and it could be the id of one, which has no slash.
    const mayBeBase = guess.kind === 'name' && !guess.name.includes('/');
    if (!main.ok && main.error.code === 'model_not_found' && bases?.ok === false && mayBeBase) return bases;
    if (!main.ok) return main;
    if (main.value.stale && caller.degrade === 'refuse') return err(registryUnavailable(RETRY_AFTER_MS));
    const composed = await addAdapters(asked, main.value);
    if (!composed.ok) return composed;
    const resolution = composed.value;
    return ok({
      resolution,
      fallbacks: () => fallbacksOf(asked, resolution),
      liveName: reference.kind === 'name' && edge.adapters.length === 0 ? reference.name : null,
      allows: finder.allows,
    });
  };
}

interface Asked {
  deps: ResolveDeps;
  caller: Caller;
  edge: EdgeRequest;
  model: string;
  reference: ModelReference;
  finder: Finder;
}

const adapter = (found: FoundAdapter, more: Partial<Resolution> = {}): Resolution => ({
  manifest: found.manifest,
  base: found.manifest.base.id,
  chain: found.manifest.chain,
  chainId: found.manifest.chainId,
  composed: [],
  alias: found.alias,
  inherited: false,
  stale: found.stale,
  degraded: null,
  ...more,
});

const baseAlone = async (base: string | null, degraded: 'base' | null = null): Promise<Resolution> => ({
  manifest: null,
  base,
  chain: [],
  chainId: await chainId([]),
  composed: [],
  alias: null,
  inherited: false,
  stale: false,
  degraded,
});

/** Resolves `model` alone. */
async function resolveMain(
  asked: Asked,
  lookup: Lookup<NameEntry> | null,
): Promise<Result<Resolution, ApiError>> {
  const { deps, caller, model, reference, finder } = asked;
  const notFound = async () => err(await explainNotFound(deps, caller, model));
  if (reference.kind === 'base') return ok(await baseAlone(reference.id));
  if (reference.kind === 'illegal') return notFound();
  const strict = asked.edge.strict || caller.strict === true || reference.kind === 'version';
  const exact = await finder.exact(reference, lookup);
  if (exact.ok) return ok(adapter(exact.value));
  if (exact.error.kind === 'withdrawn') return err(exact.error.error);
  if (exact.error.kind === 'trouble') {
    const instead = await policyFallbacks(asked, reference.name, () => recordedScope(deps, reference.name));
    return instead[0] === undefined ? err(exact.error.error) : ok(instead[0]);
  }
  if (strict) return notFound();
  const ancestors = await finder.ancestors(reference.name, {
    ...{ limit: 1, skipTrouble: false, inheritance: exact.error.inheritance },
  });
  const nearest = ancestors.ok ? ancestors.value[0] : undefined;
  if (nearest !== undefined) return ok(adapter(nearest, { inherited: true }));
  return !ancestors.ok && ancestors.error.kind === 'trouble' ? err(ancestors.error.error) : notFound();
}

/** Adds the request's own adapters, each by its exact name. */
async function addAdapters(asked: Asked, main: Resolution): Promise<Result<Resolution, ApiError>> {
  const { deps, caller, edge, finder } = asked;
  if (edge.adapters.length === 0) return ok(main);
  const [info, parts] = await Promise.all([
    deps.origins.bases.info(main.base),
    Promise.all(
      edge.adapters.map(async ({ name, scale }) => {
        const reference = parseModelReference(name, []);
        const named = reference.kind === 'name' || reference.kind === 'version';
        const found = named ? await finder.exact(reference) : null;
        if (found?.ok) return ok({ ...found.value, scale });
        return found !== null && found.error.kind !== 'unusable' ? err(found.error.error) : err(name);
      }),
    ),
  ]);
  const failed = parts.find((part) => !part.ok);
  if (failed !== undefined && !failed.ok)
    // Only the first missing name is explained.
    return err(
      typeof failed.error === 'string' ? await explainNotFound(deps, caller, failed.error) : failed.error,
    );
  const found = parts.flatMap((part) => (part.ok ? [part.value] : []));
  const { declared } = deps.origins.bases;
  const runsOn = main.base ?? declared?.[0] ?? found[0]?.manifest.base.id;
  const stranger = found.find(({ manifest }) => manifest.base.id !== runsOn);
  if (stranger !== undefined)
    return err({
      code: 'invalid_request',
      message:
        `'${stranger.alias ?? stranger.manifest.name}' is for the base '${stranger.manifest.base.id}', ` +
        `but the model is for '${runsOn}'. Compose adapters of one base only.`,
      param: 'adapters',
    });
  const chain = composeChain(main.manifest, found, info.ok ? info.value.max_rank_sum : null);
  if (!chain.ok) return chain;
  const stale = main.stale || found.some((part) => part.stale);
  if (stale && caller.degrade === 'refuse') return err(registryUnavailable(RETRY_AFTER_MS));
  return ok({
    ...main,
    chain: chain.value,
    chainId: await chainId(chain.value),
    composed: found.map(({ manifest, scale }) => `${manifest.name}@${manifest.version}=${scale}`),
    stale,
  });
}

/** Ancestors to try one after the other if an origin cannot run an adapter. */
const MAX_FALLBACKS = 3;

/** The fallbacks for the requested adapter that the key's policy allows. */
async function policyFallbacks(
  asked: Asked,
  name: string,
  scopeOf: () => Promise<InheritanceScope>,
): Promise<Resolution[]> {
  const { caller, edge, reference, finder } = asked;
  // A request for exactly one adapter, or for a mixture, has no fallback.
  if (edge.strict || caller.strict === true || edge.adapters.length > 0) return [];
  if (reference.kind !== 'name') return [];
  const toBase = caller.degrade === 'base';
  if (!toBase && caller.degrade !== 'ancestor') return [];
  // With a single base there is nothing to look up.
  if (toBase && !hasSeveralBases(asked.deps)) return [await baseAlone(null, 'base')];
  const inheritance = await scopeOf();
  // The fallback must run on the name's own base.
  if (toBase) return inheritance.base == null ? [] : [await baseAlone(inheritance.base, 'base')];
  const found = await finder.ancestors(name, { limit: MAX_FALLBACKS, skipTrouble: true, inheritance });
  return found.ok ? found.value.map((one) => adapter(one, { inherited: true, degraded: 'ancestor' })) : [];
}

const fallbacksOf = async (asked: Asked, { manifest }: Resolution): Promise<Resolution[]> =>
  manifest === null ? [] : policyFallbacks(asked, manifest.name, async () => scopeOf(manifest));

const hasSeveralBases = ({ origins }: Pick<ResolveDeps, 'origins'>): boolean =>
  (origins.bases.declared?.length ?? 1) > 1;

/** What the system of record knows of a name that the index cannot read now. */
async function recordedScope({ registry, origins }: ResolveDeps, name: string): Promise<InheritanceScope> {
  try {
    const row = await registry.name(name);
    if (row === null) return UNKNOWN;
    const { owner } = row;
    if (!hasSeveralBases({ origins })) return { owner, base: undefined };
    const live = await registry.live(row.alias ?? name);
    return { owner, base: live?.base.id };
  } catch (error) {
    if (error instanceof StoreUnavailable)
      return { owner: null, base: hasSeveralBases({ origins }) ? null : undefined };
    throw error;
  }
}

interface SeeDeps {
  absence: NegativeCache;
  /** Publishes what was dropped in the KV inbox for a missing name. */
  takeDropOnMiss?: TakeDropOnMiss | undefined;
}

/** An adapter whose whole chain the caller may use. */
interface FoundAdapter {
  manifest: AdapterManifest;
  /** The requested name, if it is an alias. */
  alias: string | null;
  /** From a cache, because the registry does not respond. */
  stale: boolean;
}

/**
 * A name from the caller's view. `unusable`: missing or forbidden, indistinguishably. `known`: the caller may
 * know the name, but not use the whole chain.
 */
type Seen =
  | { kind: 'usable'; adapter: FoundAdapter }
  | { kind: 'unusable'; known: Pick<AdapterManifest, 'owner' | 'base'> | null }
  /** `unread`: even the name's entry could not be read. `manifest`: what the caller may be allowed to use. */
  | { kind: 'trouble'; error: ApiError; unread: boolean; manifest: AdapterManifest | null };

const unread = (lookup: Extract<Lookup<never>, { state: 'trouble' }>): Seen => {
  logLine('name_lookup_trouble', { reason: lookup.reason });
  return { kind: 'trouble', error: registryUnavailable(lookup.retryAfterMs), unread: true, manifest: null };
};

/**
 * Looks a name up for the caller. If it is usable, the first reads decide. Otherwise the reads are the same,
 * in the same order, for missing and forbidden names, aliases or not: the name, the grants, the alias's
 * target, the system of record, the KV inbox. Unneeded lookups use a decoy name, so timing does not reveal
 * whether a name exists.
 */
async function seeName(
  deps: SeeDeps,
  params: {
    name: string;
    /** The name's entry in the index. */
    lookup: Lookup<NameEntry>;
    rights: CallerRights;
    /** Reads the entry of the alias's target, or of the decoy. */
    second: () => Promise<Lookup<NameEntry>>;
    /** null = the KV inbox is not checked. */
    life: RequestLife | null;
  },
): Promise<Seen> {
  const { name, lookup, rights, second, life } = params;
  if (lookup.state === 'trouble') return unread(lookup);
  const entry = lookup.state === 'found' ? lookup.value : null;
  let adapter: FoundAdapter | null = null;
  let seen: Seen | null = null;
  if (lookup.state === 'found' && !('alias' in lookup.value)) {
    adapter = { manifest: lookup.value, alias: null, stale: lookup.stale };
    seen = await judge(rights, adapter);
    if (seen.kind === 'usable') return seen;
  } else await rights.asIfForbidden();
  const aliasTarget = await second();
  if (lookup.state === 'found' && entry !== null && 'alias' in entry) {
    if (aliasTarget.state === 'trouble') return unread(aliasTarget);
    adapter = behindAlias(name, aliasTarget, lookup.stale);
    seen = adapter === null ? null : await judge(rights, adapter);
    if (seen?.kind === 'usable') return seen;
  }
  if (adapter === null) {
    adapter = await fromRecord(deps.absence, name, entry);
    if (adapter !== null) seen = await judge(rights, adapter);
    if (seen?.kind === 'usable') return seen;
  } else await deps.absence.dummyLookup(name);
  if (life !== null) {
    const pretend = adapter === null && entry === null ? undefined : { decoy: decoyOf(name) };
    const dropped = await deps.takeDropOnMiss?.(name, life, pretend);
    if (dropped && pretend === undefined)
      seen = await judge(rights, { manifest: dropped, alias: null, stale: false });
  }
  if (seen !== null) return seen;
  const grants = await rights.asIfForbidden();
  return grants.ok
    ? { kind: 'unusable', known: null }
    : { kind: 'trouble', error: grants.error, unread: false, manifest: null };
}

/** What the caller may do with an adapter. */
async function judge(rights: CallerRights, adapter: FoundAdapter): Promise<Seen> {
  const { manifest } = adapter;
  const decided = await rights.allow(manifest);
  if (!decided.ok) return { kind: 'trouble', error: decided.error, unread: false, manifest };
  if (decided.value.allowed)
    return { kind: 'usable', adapter: { ...adapter, stale: adapter.stale || decided.value.stale } };
  return { kind: 'unusable', known: (await rights.knows(manifest)) ? manifest : null };
}

/**
 * @returns null also for an alias of an alias: these cannot be created, so the entry is outdated, and the
 * system of record is asked.
 */
const behindAlias = (alias: string, target: Lookup<NameEntry>, stale: boolean): FoundAdapter | null =>
  target.state === 'found' && !('alias' in target.value)
    ? { manifest: target.value, alias, stale: stale || target.stale }
    : null;

/** Looks up a name, or an alias's target, in the system of record if the index does not have it. */
async function fromRecord(
  absence: NegativeCache,
  name: string,
  entry: NameEntry | null,
): Promise<FoundAdapter | null> {
  const alias = entry !== null && 'alias' in entry ? entry.alias : null;
  const confirmed = await confirm(absence, alias ?? name);
  if (confirmed === null || !('alias' in confirmed))
    return confirmed && { manifest: confirmed, alias: alias === null ? null : name, stale: false };
  if (alias !== null) return null;
  const target = await confirm(absence, confirmed.alias);
  return target === null || 'alias' in target ? null : { manifest: target, alias: name, stale: false };
}

async function confirm(absence: NegativeCache, name: string): Promise<NameEntry | null> {
  const confirmed = await absence.confirm(name);
  return confirmed.state === 'found' ? nameEntryOf(name, confirmed.value) : null;
}

interface FindDeps extends SeeDeps {
  names: BulkIndex<NameEntry>;
  grants: Index<HeldGrants>;
  /** By `name@version`. */
  versions: Index<VersionRow>;
}

/**
 * Which ancestors a name may inherit from: those of the caller's tenant or of the owner of the nearest
 * existing name on the way up, and only with that name's base. null = a name exists, but its owner or base is
 * unknown; undefined = no name was found yet.
 */
interface InheritanceScope {
  owner: string | null | undefined;
  base: string | null | undefined;
}

/** For a name that does not exist, as far as the caller may know. */
const UNKNOWN: InheritanceScope = { owner: undefined, base: undefined };

const scopeOf = ({ owner, base }: Pick<AdapterManifest, 'owner' | 'base'>): InheritanceScope => ({
  owner,
  base: base.id,
});

/**
 * `unusable`: missing or forbidden, indistinguishably. `trouble` means neither. `withdrawn`: the caller may
 * use it, but it is not served.
 */
type NotFound =
  | { kind: 'unusable'; inheritance: InheritanceScope }
  | { kind: 'trouble'; error: ApiError }
  | { kind: 'withdrawn'; error: ApiError };

type Named = Extract<ModelReference, { kind: 'name' | 'version' }>;
type Found = Result<FoundAdapter, NotFound>;

interface Finder {
  /**
   * Exactly the named adapter.
   * @param lookup its entry in `names`, if that was read already.
   */
  exact(reference: Named, lookup?: Lookup<NameEntry> | null): Promise<Found>;
  /**
   * The nearest ancestors that the caller may use, nearest first, between 1 and `limit`. The search stops at
   * an ancestor that is strict, that is unreadable and may be strict, that is neither the caller's own nor in
   * scope, or that has another base: a name never inherits from unrelated owners, or from another base.
   * @param options.inheritance of the name itself.
   * @param options.skipTrouble skips ancestors for which the caller's rights cannot be read now.
   */
  ancestors(
    name: string,
    options: { limit: number; skipTrouble: boolean; inheritance: InheritanceScope },
  ): Promise<Result<FoundAdapter[], NotFound>>;
  /** May the caller use this chain? */
  allows: CallerRights['allow'];
}

const unusable = (inheritance: InheritanceScope): Result<never, NotFound> =>
  err({ kind: 'unusable', inheritance });
const trouble = (error: ApiError): Result<never, NotFound> => err({ kind: 'trouble', error });

/** The name that is read second: the alias's target, or a decoy. */
const behind = (name: string, lookup: Lookup<NameEntry>): string =>
  lookup.state === 'found' && 'alias' in lookup.value ? lookup.value.alias : decoyOf(name);

/** Looks up adapters for one caller and one request. */
function createFinder(deps: FindDeps, caller: Caller, life: RequestLife): Finder {
  const rights = createCallerRights(deps.grants, caller);

  /** Reads all ancestors at once and, only if needed, everything behind them in one more read. */
  async function* readAncestors(name: string): AsyncGenerator<Seen> {
    const paths = ancestorsOf(name);
    const lookups = await deps.names.getMany(paths);
    let reading: Promise<Lookup<NameEntry>[]> | undefined;
    const seconds = () =>
      (reading ??= deps.names.getMany(paths.map((path, i) => behind(path, lookups[i] as Lookup<NameEntry>))));
    for (const [i, path] of paths.entries()) {
      const second = async () => (await seconds())[i] as Lookup<NameEntry>;
      yield await seeName(deps, {
        ...{ name: path, lookup: lookups[i] as Lookup<NameEntry>, rights, second },
        life: null,
      });
    }
  }

  return {
    allows: rights.allow,

    async exact(reference, known) {
      if (reference.kind === 'name') {
        const { name } = reference;
        const lookup = known ?? (await deps.names.get(name));
        const second = () => deps.names.get(behind(name, lookup));
        return foundOf(await seeName(deps, { name, lookup, rights, second, life }));
      }
      const pinned = await deps.versions.get(`${reference.name}@${reference.version}`);
      if (pinned.state === 'trouble') {
        logLine('version_lookup_trouble', { reason: pinned.reason });
        return trouble(registryUnavailable(pinned.retryAfterMs));
      }
      if (pinned.state === 'found' && pinned.value.retiredAt === null)
        return foundOf(
          await judge(rights, { manifest: manifestOf(pinned.value), alias: null, stale: pinned.stale }),
        );
      const read = await rights.asIfForbidden();
      return read.ok ? unusable(UNKNOWN) : trouble(read.error);
    },

    async ancestors(name, { limit, skipTrouble, inheritance }) {
      let { owner, base } = inheritance;
      const found: FoundAdapter[] = [];
      for await (const seen of readAncestors(name)) {
        // It may be the nearest usable one, or strict, so a farther one must not replace it.
        if (seen.kind === 'trouble' && (seen.unread || seen.manifest?.strict === true || !skipTrouble))
          return found.length > 0 ? ok(found) : trouble(seen.error);
        const met = knownOf(seen);
        if (met === null) continue;
        if (met.owner !== caller.tenant && owner !== undefined && met.owner !== owner) break;
        if (base !== undefined && met.base.id !== base) break;
        if (owner === undefined) owner = met.owner;
        base = met.base.id;
        if (seen.kind !== 'usable') continue;
        if (seen.adapter.manifest.strict === true) break;
        if (seen.adapter.manifest.withdrawn === true) continue;
        found.push(seen.adapter);
        if (found.length >= limit) break;
      }
      return found.length > 0 ? ok(found) : unusable({ owner, base });
    },
  };
}

function foundOf(seen: Seen): Found {
  if (seen.kind === 'usable') {
    const { manifest, alias } = seen.adapter;
    if (manifest.withdrawn !== true) return ok(seen.adapter);
    return err({ kind: 'withdrawn', error: modelWithdrawn(alias ?? manifest.name) });
  }
  if (seen.kind === 'trouble') return trouble(seen.error);
  return unusable(seen.known === null ? UNKNOWN : scopeOf(seen.known));
}

/** What the caller may know of a name; null = nothing. */
function knownOf(seen: Seen): Pick<AdapterManifest, 'owner' | 'base'> | null {
  if (seen.kind === 'unusable') return seen.known;
  return seen.kind === 'usable' ? seen.adapter.manifest : seen.manifest;
}

type Part = Pick<AdapterManifest, 'chain' | 'rank'>;

/** Chain members with ranks; the manifest's `rank` is the last member's. */
const ranked = ({ chain, rank }: Part): ManifestChainEntry[] =>
  chain.map((entry, i) => (i === chain.length - 1 && entry.rank === undefined ? { ...entry, rank } : entry));

const refuse = (message: string): Result<never, ApiError> =>
  err({ code: 'invalid_request', message, param: 'adapters' });

/**
 * Adds adapters to a chain for one request. Each one's bases come along, once: members that exist already
 * keep their scale; new ones are appended with `scale` times their own.
 * @param main null = the base model.
 * @param maxRankSum the base's limit; null if unknown here: the origin checks it again.
 */
export function composeChain(
  main: Part | null,
  parts: readonly { manifest: Part; scale: number }[],
  maxRankSum: number | null,
): Result<ManifestChainEntry[], ApiError> {
  const chain = main === null ? [] : ranked(main);
  const there = new Set(chain.map(({ digest }) => digest));
  for (const { manifest, scale } of parts)
    for (const entry of ranked(manifest)) {
      if (there.has(entry.digest)) continue;
      there.add(entry.digest);
      // + 0 turns -0 into 0, also in the chain's id.
      chain.push({ ...entry, scale: entry.scale * scale + 0 });
    }
  if (chain.length > MAX_CHAIN)
    return refuse(
      `The model and 'adapters' form a chain of ${chain.length} adapters, parents included; at most ` +
        `${MAX_CHAIN} are allowed. Use fewer adapters.`,
    );
  const rankSum = chain.reduce((sum, { rank }) => sum + (rank ?? 0), 0);
  if (maxRankSum !== null && rankSum > maxRankSum)
    return refuse(
      `The ranks of the model and 'adapters' add up to ${rankSum}; this base serves at most ` +
        `${maxRankSum}. Use fewer adapters, or adapters of lower rank.`,
    );
  return ok(chain);
}

/** A parsed `model`. */
export type ModelReference =
  | { kind: 'base'; /** null = the default one. */ id: string | null }
  | { kind: 'name'; name: string }
  | { kind: 'version'; name: string; version: number }
  | { kind: 'illegal' };

/** @param baseIds ids of the known bases. */
export function parseModelReference(model: string, baseIds: readonly string[]): ModelReference {
  if (model === 'base') return { kind: 'base', id: null };
  if (baseIds.includes(model)) return { kind: 'base', id: model };
  const at = model.lastIndexOf('@');
  const name = at < 0 ? model : model.slice(0, at);
  if (nameProblem(name) !== null) return { kind: 'illegal' };
  if (at < 0) return { kind: 'name', name };
  const version = model.slice(at + 1);
  if (!/^[1-9]\d{0,8}$/.test(version)) return { kind: 'illegal' };
  return { kind: 'version', name, version: Number(version) };
}
