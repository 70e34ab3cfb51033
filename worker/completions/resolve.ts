/**
 * Which adapter a request's `model` and `adapters` mean: pins, aliases, inheritance, rights, and the chain that they
 * make together.
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

/** What a request is answered with. */
export interface Resolution {
  /** null = the base model. */
  manifest: AdapterManifest | null;
  /** Id of the base that runs it; null = the default one. */
  base: string | null;
  /** What is run: the manifest's own chain, or with what the request adds. */
  chain: readonly ManifestChainEntry[];
  chainId: string;
  /** `name@version=scale` of each adapter that the request adds. */
  composed: readonly string[];
  /** The asked name, when it only points at the manifest's. */
  alias: string | null;
  /** The manifest is that of an ancestor. */
  inherited: boolean;
  /** Read from memory, because the registry does not answer. */
  stale: boolean;
  /** The fallback that serves in place of an adapter that cannot be had. */
  degraded: 'ancestor' | 'base' | null;
}

export interface Resolved {
  resolution: Resolution;
  /** What may be tried, in this order, when no origin can run the resolution; by the key's policy. */
  fallbacks(): Promise<Resolution[]>;
  /**
   * The name that was asked for, where that means whatever is live; null for `name@n`, for the base, and for a request
   * that makes a mixture of its own.
   */
  liveName: string | null;
  /** May the caller use another chain? */
  allows: CallerRights['allow'];
}

/** Looked up, not yet decided: the caller may still be unknown. */
export type PendingModel = (
  caller: Caller,
  edge: EdgeRequest,
  life: RequestLife,
) => Promise<Result<Resolved, ApiError>>;

/** The name itself or nothing, and nothing added: what asking about a model means. */
export const EXACTLY: EdgeRequest = { strict: true, adapters: [] };

/**
 * Starts every read that `model` needs, beside the key's. On the plain path that is one KV read.
 * @returns what decides once the caller is known.
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
    // It could be the base's id, which nobody could tell us; that has no slash.
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

/** What `model` means alone. */
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

/** Adds the request's own adapters, each exactly as it is named. */
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
    // One explanation, of the first that is missing, however many are.
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

/** How many ancestors are tried one after the other when an origin cannot run an adapter. */
const MAX_FALLBACKS = 3;

/** The fallbacks that the key's policy allows for the adapter that was asked for. */
async function policyFallbacks(
  asked: Asked,
  name: string,
  scopeOf: () => Promise<InheritanceScope>,
): Promise<Resolution[]> {
  const { caller, edge, reference, finder } = asked;
  // What asks for one adapter and no other, or for a mixture of its own, is not answered with something else.
  if (edge.strict || caller.strict === true || edge.adapters.length > 0) return [];
  if (reference.kind !== 'name') return [];
  const toBase = caller.degrade === 'base';
  if (!toBase && caller.degrade !== 'ancestor') return [];
  // Where there is one base, it need not be asked which.
  if (toBase && !hasSeveralBases(asked.deps)) return [await baseAlone(null, 'base')];
  const inheritance = await scopeOf();
  // Without the name's own base there is no fallback.
  if (toBase) return inheritance.base == null ? [] : [await baseAlone(inheritance.base, 'base')];
  const found = await finder.ancestors(name, { limit: MAX_FALLBACKS, skipTrouble: true, inheritance });
  return found.ok ? found.value.map((one) => adapter(one, { inherited: true, degraded: 'ancestor' })) : [];
}

const fallbacksOf = async (asked: Asked, { manifest }: Resolution): Promise<Resolution[]> =>
  manifest === null ? [] : policyFallbacks(asked, manifest.name, async () => scopeOf(manifest));

const hasSeveralBases = ({ origins }: Pick<ResolveDeps, 'origins'>): boolean =>
  (origins.bases.declared?.length ?? 1) > 1;

/** What the system of record says of a name that the index cannot tell now. */
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
  /** Takes in what was dropped for a name that does not exist. */
  takeDropOnMiss?: TakeDropOnMiss | undefined;
}

/** An adapter that the caller may use, with the whole chain. */
interface FoundAdapter {
  manifest: AdapterManifest;
  /** The name that was asked for, when it only points at the adapter's. */
  alias: string | null;
  /** Read from memory, because the registry does not answer. */
  stale: boolean;
}

/**
 * What a name is to the caller. `unusable`: unknown and forbidden come out alike; `known` is of a name which the caller may
 * know of, though it may not use the whole chain.
 */
type Seen =
  | { kind: 'usable'; adapter: FoundAdapter }
  | { kind: 'unusable'; known: Pick<AdapterManifest, 'owner' | 'base'> | null }
  /** `unread`: it is not even known what the name means. `manifest`: what the caller might be allowed to use. */
  | { kind: 'trouble'; error: ApiError; unread: boolean; manifest: AdapterManifest | null };

const unread = (lookup: Extract<Lookup<never>, { state: 'trouble' }>): Seen => {
  logLine('name_lookup_trouble', { reason: lookup.reason });
  return { kind: 'trouble', error: registryUnavailable(lookup.retryAfterMs), unread: true, manifest: null };
};

/**
 * Finds out what a name is to the caller. What the caller may use is settled by the first reads. Else the same is asked
 * in the same order whether the name is missing or forbidden, an alias or not: the name, the grants, what an alias
 * stands for, the system of record, what was dropped; in place of what there is no cause to ask, a name that nobody can
 * have. So nobody can time which it is.
 */
async function seeName(
  deps: SeeDeps,
  params: {
    name: string;
    /** What the index says of it. */
    lookup: Lookup<NameEntry>;
    rights: CallerRights;
    /** What the index says of the name that an alias stands for, or of the decoy; read when it is called. */
    second: () => Promise<Lookup<NameEntry>>;
    /** null = nothing that was dropped is taken in for this name. */
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
 * @returns null also for an alias of an alias: it cannot be made, so one that is read is out of date, and the system of
 * record knows better.
 */
const behindAlias = (alias: string, target: Lookup<NameEntry>, stale: boolean): FoundAdapter | null =>
  target.state === 'found' && !('alias' in target.value)
    ? { manifest: target.value, alias, stale: stale || target.stale }
    : null;

/** What the system of record says of a name that the index does not have, or of what the alias stands for. */
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
 * Which ancestors may answer for a name: besides the caller's own tenant's, those of the owner of the nearest name that
 * exists on the way up; and those for that name's base. null = there is a name, of an owner or a base that nobody can
 * tell; undefined = no name was met yet.
 */
interface InheritanceScope {
  owner: string | null | undefined;
  base: string | null | undefined;
}

/** Of a name that does not exist, as far as the caller may know. */
const UNKNOWN: InheritanceScope = { owner: undefined, base: undefined };

const scopeOf = ({ owner, base }: Pick<AdapterManifest, 'owner' | 'base'>): InheritanceScope => ({
  owner,
  base: base.id,
});

/** `unusable`: unknown and forbidden come out alike. `trouble` is never taken for either. `withdrawn`: the caller may use it, but nobody is served it. */
type NotFound =
  | { kind: 'unusable'; inheritance: InheritanceScope }
  | { kind: 'trouble'; error: ApiError }
  | { kind: 'withdrawn'; error: ApiError };

type Named = Extract<ModelReference, { kind: 'name' | 'version' }>;
type Found = Result<FoundAdapter, NotFound>;

interface Finder {
  /** The very adapter that is named. @param lookup what `names` said of it, when it has been asked. */
  exact(reference: Named, lookup?: Lookup<NameEntry> | null): Promise<Found>;
  /**
   * The nearest ancestors of the name that the caller may use, nearest first, at most `limit`; not empty. They end below
   * one that is strict, below one that cannot be read now, which may be, and below one that is neither the caller's own
   * nor in scope, and below one for another base: nobody's adapter answers for a name among somebody else's, and no
   * base for another.
   * @param options.inheritance of the name itself.
   * @param options.skipTrouble goes past ancestors of which nobody can tell now whether the caller may use them.
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

/** The name whose entry is read second: what an alias stands for, or one that nobody can have. */
const behind = (name: string, lookup: Lookup<NameEntry>): string =>
  lookup.state === 'found' && 'alias' in lookup.value ? lookup.value.alias : decoyOf(name);

/** Looks adapters up for one caller and one request. */
function createFinder(deps: FindDeps, caller: Caller, life: RequestLife): Finder {
  const rights = createCallerRights(deps.grants, caller);

  /** All ancestors in one read, and, only when it is needed, all that is behind them in one more. */
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
        // It may be the caller's nearest, or strict: a farther one must not be its fallback.
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

/** What a name holds that the caller may know of; null = of none. */
function knownOf(seen: Seen): Pick<AdapterManifest, 'owner' | 'base'> | null {
  if (seen.kind === 'unusable') return seen.known;
  return seen.kind === 'usable' ? seen.adapter.manifest : seen.manifest;
}

type Part = Pick<AdapterManifest, 'chain' | 'rank'>;

/** Ranks of a part's members; `rank` of the manifest is that of its last one. */
const ranked = ({ chain, rank }: Part): ManifestChainEntry[] =>
  chain.map((entry, i) => (i === chain.length - 1 && entry.rank === undefined ? { ...entry, rank } : entry));

const refuse = (message: string): Result<never, ApiError> =>
  err({ code: 'invalid_request', message, param: 'adapters' });

/**
 * Adds further adapters to a chain for one request. What an adapter was trained on comes along, once: a member that is
 * there already keeps its scale; others are appended with `scale` times their own.
 * @param main null = the base model.
 * @param maxRankSum what the base takes, or null when it is not known here: the origin checks it again.
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
      // + 0: a scale of -0 is 0, also in the chain's id.
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

/** What a client's `model` asks for. */
export type ModelReference =
  | { kind: 'base'; /** null = the default one. */ id: string | null }
  | { kind: 'name'; name: string }
  | { kind: 'version'; name: string; version: number }
  | { kind: 'illegal' };

/** @param baseIds ids of the bases, as far as they are known. */
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
