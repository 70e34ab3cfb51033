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
  /** Rows that it runs at once. */
  slots: number;
  /** It failed lately, or is going away: only asked when no other can serve. */
  ejected: boolean;
}

/** An origin may have this many times its share of the load before its names go to others. */
const LOAD_FACTOR = 1.25;

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
 * In which order to ask the origins for one request. An adapter stays at the origin that its name ranks first while
 * this has a free row; after that with bounded load (Mirrokni, Thorup and Zadimoghaddam 2016): an origin with more
 * than {@link LOAD_FACTOR} times its share comes after those with less. The base is everywhere, so its requests go to
 * the least loaded. Ejected origins come last, but they come: when all have failed, one may be back.
 * @param spread breaks ties for the base; another value for each request.
 */
export function chooseOrigins(params: {
  /** null = the base alone. */
  name: string | null;
  spread: string;
  origins: readonly Origin[];
  stateOf: (origin: Origin) => OriginState;
}): Origin[] {
  const { name, stateOf } = params;
  const ranked = rankOrigins(name ?? params.spread, params.origins).map((origin) => ({
    origin,
    state: stateOf(origin),
  }));
  const well = ranked.filter(({ state }) => !state.ejected);
  const ejected = ranked.filter(({ state }) => state.ejected);
  const load = well.reduce((sum, { state }) => sum + state.load, 1);
  const slots = well.reduce((sum, { state }) => sum + state.slots, 0);
  const fill = ({ state }: { state: OriginState }): number => state.load / state.slots;
  const isFull = ({ state }: { state: OriginState }): boolean =>
    state.load >= Math.max(state.slots, Math.ceil((LOAD_FACTOR * load * state.slots) / slots));
  const ordered =
    name === null
      ? // A stable sort: equal ones keep the order that `spread` gave them.
        [...well].sort((a, b) => fill(a) - fill(b))
      : [...well.filter((one) => !isFull(one)), ...well.filter(isFull).sort((a, b) => fill(a) - fill(b))];
  return [...ordered, ...ejected].map(({ origin }) => origin);
}
