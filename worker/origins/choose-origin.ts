import { fnv1aMixed } from '../../protocol/index.ts';

/** An origin as the configuration names it. */
export interface Origin {
  id: string;
  url: string;
  /** Id of the base that it serves; either all origins of an edge say it or none. */
  base?: string | undefined;
}

/** What this isolate knows of an origin at the moment. */
export interface OriginState {
  /** Requests that it is thought to be answering. */
  load: number;
  /** Those of them that this isolate has sent. */
  own: number;
  /** Rows that it runs at once. */
  slots: number;
  /** It failed lately, or is going away: only asked when no other can serve. */
  ejected: boolean;
}

/** Where a name is served from. */
export interface ReplicaSet {
  /** Origins that the name may be served from, in its rendezvous order; at least 1. */
  readonly count: number;
  /** Has the origin shown lately that it has the chain in memory? */
  isResident(origin: Origin): boolean;
}

/** An origin may have this many times its share of the load before its names go to others … */
const LOAD_FACTOR = 1.25;
/**
 * … and this many requests a row: elsewhere they would have to load their adapters, which takes as long as waiting for
 * a row does, and puts out what others need (bench/LOG.md, a fleet in virtual time).
 */
const CROWDED_FILL = 1.5;
/** Of those that hold a hot adapter, so many are compared: of two that chance picks, both may be the busy ones. */
const PICKED = 4;

/**
 * Rendezvous hashing (Thaler and Ravishankar 1998): each name ranks the origins in an order of its own, so that an
 * origin that leaves moves only its own names.
 * @param origins not empty. @returns all of them, the preferred one first.
 */
export function rankOrigins(name: string, origins: readonly Origin[]): Origin[] {
  return origins
    .map((origin) => ({ origin, weight: fnv1aMixed(`${origin.id}\n${name}`) }))
    .sort((a, b) => b.weight - a.weight || (a.origin.id < b.origin.id ? -1 : 1))
    .map(({ origin }) => origin);
}

/**
 * In which order to ask the origins for one request. A cold adapter stays at the origin that its name ranks first until
 * {@link CROWDED_FILL} requests a row are there. A hot one has a set of origins, of which those that have it in memory share its requests: of
 * {@link PICKED} by chance the least loaded (Mitzenmacher 2001: what an isolate knows of loads is old). After that with bounded load
 * (Mirrokni, Thorup and Zadimoghaddam 2016): an origin with more than {@link LOAD_FACTOR} times its share comes after
 * those with less. The base is everywhere, so its requests go to the least loaded. Ejected origins come last, but they
 * come: when all have failed, one may be back.
 * @param origins those of the pool that may serve the request.
 * @param spread breaks ties for the base, and picks among a set; another value for each request.
 * @param replicas of the name; one origin, of which nothing is known, unless given.
 */
export function chooseOrigins(params: {
  /** null = the base alone. */
  name: string | null;
  spread: string;
  origins: readonly Origin[];
  stateOf: (origin: Origin) => OriginState;
  replicas?: ReplicaSet | null;
}): Origin[] {
  const { name, spread, stateOf, replicas = null } = params;
  const ranked = rankOrigins(name ?? spread, params.origins).map((origin) => ({
    origin,
    state: stateOf(origin),
  }));
  const well = ranked.filter(({ state }) => !state.ejected);
  const ejected = ranked.filter(({ state }) => state.ejected);
  const ordered =
    name === null
      ? // A stable sort: equal ones keep the order that `spread` gave them.
        [...well].sort((a, b) => fill(a) - fill(b))
      : orderForName(well, { spread, replicas });
  return [...ordered, ...ejected].map(({ origin }) => origin);
}

interface Candidate {
  origin: Origin;
  state: OriginState;
}

const fill = ({ state }: Candidate): number => state.load / state.slots;

/** @param well in the name's order. */
function orderForName(
  well: readonly Candidate[],
  { spread, replicas }: { spread: string; replicas: ReplicaSet | null },
): Candidate[] {
  const load = well.reduce((sum, { state }) => sum + state.load, 1);
  const slots = well.reduce((sum, { state }) => sum + state.slots, 0);
  const share = ({ state }: Candidate): number => Math.ceil((LOAD_FACTOR * load * state.slots) / slots);
  const isFree = (one: Candidate): boolean => one.state.load < Math.max(one.state.slots, share(one));
  const isCrowded = (one: Candidate): boolean =>
    one.state.load >= Math.max(one.state.slots * CROWDED_FILL, share(one));
  const holds = (one: Candidate): boolean => replicas?.isResident(one.origin) === true;
  const ofSet = well.slice(0, replicas?.count ?? 1);
  // Requests never wait for what is only being brought to an origin of the set.
  const warm = ofSet.length === 1 ? ofSet : ofSet.filter(holds);
  const others = well.filter((one) => !warm.includes(one) && !isCrowded(one));
  const byFill = (a: Candidate, b: Candidate): number => fill(a) - fill(b);
  return [
    ...leastLoadedOfSome(warm.filter(isFree), spread),
    ...warm.filter((one) => !isFree(one) && !isCrowded(one)).sort(byFill),
    // One that has it from before, or for others that did not fit, before one that would have to load it.
    ...others.filter(holds),
    ...others.filter((one) => !holds(one)),
    ...well.filter(isCrowded).sort(byFill),
  ];
}

/** The least loaded of those that chance picks first, the others by load. */
function leastLoadedOfSome(among: readonly Candidate[], spread: string): Candidate[] {
  const byLoad = [...among].sort((a, b) => fill(a) - fill(b));
  const start = fnv1aMixed(spread) % Math.max(1, among.length);
  const some = [...among.slice(start), ...among.slice(0, start)].slice(0, PICKED);
  const picked = some.sort((a, b) => fill(a) - fill(b))[0];
  return picked === undefined ? byLoad : [picked, ...byLoad.filter((one) => one !== picked)];
}

/** The origins by the base that they serve; those of one base are a pool. */
export interface Pools {
  readonly all: readonly Origin[];
  /** Ids of the bases, the default one first; null = the origins do not name their base, and are all of one. */
  readonly declared: readonly string[] | null;
  /**
   * @param base its id; null = the default one.
   * @returns empty where no origin serves it. Of origins that do not name their base: all, whatever is asked for.
   */
  of(base: string | null): readonly Origin[];
}

/**
 * @param origins as the configuration has them: all name their base, or none does.
 * @param defaultBase one of theirs; that of the first origin unless given.
 */
export function createPools(origins: readonly Origin[], defaultBase: string | null = null): Pools {
  const ids = [...new Set(origins.flatMap(({ base }) => base ?? []))];
  if (ids.length === 0) return { all: origins, declared: null, of: () => origins };
  const first = defaultBase ?? ids[0];
  const declared = ids.sort((a, b) => Number(b === first) - Number(a === first));
  const pools = new Map(declared.map((id) => [id, origins.filter(({ base }) => base === id)]));
  return { all: origins, declared, of: (base) => pools.get(base ?? declared[0] ?? '') ?? [] };
}
