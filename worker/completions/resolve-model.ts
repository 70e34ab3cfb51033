import {
  chainId,
  err,
  ok,
  type AdapterManifest,
  type ApiError,
  type EdgeRequest,
  type ManifestChainEntry,
  type NameEntry,
  type Result,
} from '../../protocol/index.ts';
import { registryUnavailable } from '../errors.ts';
import type { RequestLife } from '../registry/registry-deps.ts';
import { RETRY_AFTER_MS } from '../limits.ts';
import type { OriginClient } from '../origins/client.ts';
import { composeChain } from './compose-chain.ts';
import { parseModelReference, type ModelReference } from './kinds.ts';
import { StoreUnavailable, type Lookup } from '../platform/ports.ts';
import type { Caller } from '../access/ports.ts';
import type { CallerRights } from '../access/authenticate.ts';
import {
  createFinder,
  kinOf,
  type FindDeps,
  type Finder,
  STRANGER,
  type FoundAdapter,
  type Kin,
} from './find-adapter.ts';
import { explainNotFound, type ExplainDeps } from './usable-names.ts';

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
  /** What stands in for an adapter that cannot be had. */
  degraded: 'ancestor' | 'base' | null;
}

export interface Resolved {
  resolution: Resolution;
  /** What may be tried, in this order, when no origin can run the resolution; by the key's policy. */
  standIns(): Promise<Resolution[]>;
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
      standIns: () => standIns(asked, resolution),
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
    const instead = await standIn(asked, reference.name, () => recordedKin(deps, reference.name));
    return instead[0] === undefined ? err(exact.error.error) : ok(instead[0]);
  }
  if (strict) return notFound();
  const ancestors = await finder.ancestors(reference.name, {
    ...{ limit: 1, skipTrouble: false, kin: exact.error.kin },
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
      message: `'${stranger.alias ?? stranger.manifest.name}' is for the base '${stranger.manifest.base.id}', and the model for '${runsOn}': what is composed has one base.`,
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
const MAX_STAND_INS = 3;

/** What the key's policy lets stand in for the adapter that was asked for. */
async function standIn(asked: Asked, name: string, kinOf: () => Promise<Kin>): Promise<Resolution[]> {
  const { caller, edge, reference, finder } = asked;
  // What asks for one adapter and no other, or for a mixture of its own, is not answered with something else.
  if (edge.strict || caller.strict === true || edge.adapters.length > 0) return [];
  if (reference.kind !== 'name') return [];
  const toBase = caller.degrade === 'base';
  if (!toBase && caller.degrade !== 'ancestor') return [];
  // Where there is one base, it need not be asked which.
  if (toBase && !hasSeveralBases(asked.deps)) return [await baseAlone(null, 'base')];
  const kin = await kinOf();
  // What cannot be told to be of the name's own base stands in for nothing.
  if (toBase) return kin.base == null ? [] : [await baseAlone(kin.base, 'base')];
  const found = await finder.ancestors(name, { limit: MAX_STAND_INS, skipTrouble: true, kin });
  return found.ok ? found.value.map((one) => adapter(one, { inherited: true, degraded: 'ancestor' })) : [];
}

const standIns = async (asked: Asked, { manifest }: Resolution): Promise<Resolution[]> =>
  manifest === null ? [] : standIn(asked, manifest.name, async () => kinOf(manifest));

const hasSeveralBases = ({ origins }: Pick<ResolveDeps, 'origins'>): boolean =>
  (origins.bases.declared?.length ?? 1) > 1;

/** What the system of record says of a name that the index cannot tell now. */
async function recordedKin({ registry, origins }: ResolveDeps, name: string): Promise<Kin> {
  try {
    const row = await registry.name(name);
    if (row === null) return STRANGER;
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
