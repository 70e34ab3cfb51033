/**
 * What one isolate knows of its origins: how busy they are, which are better left alone for a while, and so to which a
 * completion goes: by rendezvous hashing with bounded load, and by replica sets for names in demand. No I/O, no clock.
 */
import type { WarmedOrigin } from '../../protocol/admin-api/origins.ts';
import { type ChainEntry, fnv1aMixed } from '../../protocol/identity.ts';
import { readLoad } from '../../protocol/origin-wire.ts';
import { REQUEST_BUDGET_MS } from '../limits.ts';
import {
  EJECT_MS,
  ORIGIN_LEASE_MS,
  LOAD_ANSWER_FRESH_MS,
  MAX_EJECT_MS,
  PULSE_MS,
  UNKNOWN_SLOTS,
  FOLLOW_TIMEOUT_MS,
  MAX_FOLLOWED_NAMES,
  REPLICA_RETRY_MS,
  REPLICA_FILL,
  RESIDENT_FRESH_MS,
  DEMAND_WINDOW_MS,
  MAX_SHARE_FACTOR,
  MIN_DEMAND_SEEN,
  REPLICA_SHRINK_AFTER_MS,
  REPLICA_SHRINK_FILL,
  USUAL_HELD_MS,
} from './limits.ts';
import type { PinLife } from './ports.ts';
import { BoundedMap } from '../platform/bounded-map.ts';

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
interface ReplicaSet {
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

/** What is known of one name's demand. All of it decays: nothing here has to be ended by a request that is cut off. */
interface Demand {
  /** Requests of this isolate in the last {@link DEMAND_WINDOW_MS}, the older the less; at `at`. */
  seen: number;
  /** The same for all isolates together, as far as the origins' load tells. */
  estimated: number;
  /** Unix ms. */
  at: number;
  /** How long a request of it takes a row, ms, as a moving average over {@link HELD_SAMPLES} requests. */
  heldMs: number;
  /** Origins that it is served from; at least 1. */
  replicas: number;
  /** When that many were needed last, unix ms. */
  neededAt: number;
}

const HELD_SAMPLES = 20;

export const newDemand = (now: number): Demand => ({
  ...{ seen: 0, estimated: 0, at: now, heldMs: USUAL_HELD_MS, replicas: 1, neededAt: now },
});

/**
 * How many times this isolate's requests the origins run: they answer other isolates too. Assumes that these ask for
 * the same names.
 */
function shareFactor(origins: readonly Origin[], stateOf: (origin: Origin) => OriginState): number {
  let own = 1;
  let all = 1;
  for (const origin of origins) {
    const state = stateOf(origin);
    own += state.own;
    all += Math.max(state.load, state.own);
  }
  return Math.min(MAX_SHARE_FACTOR, all / own);
}

/** A request for the name comes. @param factor {@link shareFactor} now. */
export function noteArrival(demand: Demand, { now, factor }: { now: number; factor: number }): Demand {
  const kept = Math.exp(-Math.max(0, now - demand.at) / DEMAND_WINDOW_MS);
  return {
    ...demand,
    seen: demand.seen * kept + 1,
    estimated: demand.estimated * kept + factor,
    at: now,
  };
}

/** A request for the name has ended, or was handed on. @param ms how long it took a row. */
export const noteHeld = (demand: Demand, ms: number): Demand => ({
  ...demand,
  heldMs: demand.heldMs + (Math.max(0, ms) - demand.heldMs) / HELD_SAMPLES,
});

/** Rows that the name takes at once, by Little's law: arrivals a ms times ms that each holds one. */
export const rowsOf = ({ estimated, heldMs }: Demand): number => (estimated / DEMAND_WINDOW_MS) * heldMs;

/**
 * As many replicas as keep the name to {@link REPLICA_FILL} of the rows of each. Grows at once to what is needed, when
 * enough was seen to tell; shrinks by one at a time, when {@link REPLICA_SHRINK_FILL} of what one fewer may give was
 * enough for {@link REPLICA_SHRINK_AFTER_MS}.
 * @param slots rows of each origin that may serve it, in its order; not empty.
 */
export function resize(demand: Demand, { now, slots }: { now: number; slots: readonly number[] }): Demand {
  const rows = rowsOf(demand);
  const replicas = Math.min(demand.replicas, slots.length);
  const wanted = howMany(rows, slots);
  if (wanted > replicas && demand.seen >= MIN_DEMAND_SEEN)
    return { ...demand, replicas: wanted, neededAt: now };
  if (howMany(rows / REPLICA_SHRINK_FILL, slots) >= replicas) return { ...demand, replicas, neededAt: now };
  if (now - demand.neededAt < REPLICA_SHRINK_AFTER_MS) return { ...demand, replicas };
  return { ...demand, replicas: replicas - 1, neededAt: now - REPLICA_SHRINK_AFTER_MS / 2 };
}

/** The first so many of them give that many rows, or all do. */
function howMany(rows: number, slots: readonly number[]): number {
  let room = 0;
  for (const [index, each] of slots.entries()) {
    room += each * REPLICA_FILL;
    if (room >= rows) return index + 1;
  }
  return slots.length;
}

/** A request for an adapter has arrived. */
interface ReplicaVisit {
  set: ReplicaSet;
  /** What {@link ReplicaSet.count} was before, when this request has changed it. */
  before: number | null;
  /** Origins of the set that are to load the chain now, in the background. Each is named once in a while. */
  toWarm: readonly Origin[];
}

interface Followed {
  demand: Demand;
  /** Origin's id -> until when it is taken to have the chain, unix ms. */
  resident: Map<string, number>;
  /** Origin's id -> until when it is not asked to load it, since it was a moment ago, unix ms. */
  asked: Map<string, number>;
}

/**
 * Sets for the names that are asked for: sticky, since growing adds the next origin in the name's rendezvous order and
 * shrinking takes the last one off. A chain is followed by what it consists of, so a name's new version is one of its
 * own. Names that are not followed have one origin, as cold ones.
 * @param maxNames bounds the memory; the least recently asked for is forgotten.
 */
export function createReplicaSets({ maxNames = MAX_FOLLOWED_NAMES }: { maxNames?: number } = {}) {
  /** By {@link chainKey}, the least recently asked for first. */
  const followed = new BoundedMap<string, Followed>(maxNames);

  const residentIn = (one: Followed | undefined, origin: Origin, now: number): boolean =>
    (one?.resident.get(origin.id) ?? -Infinity) > now;

  function follow(key: string, now: number): Followed {
    const known = followed.get(key);
    const one = known ?? { demand: newDemand(now), resident: new Map(), asked: new Map() };
    followed.set(key, one);
    return one;
  }

  return {
    /** @param origins of the name's pool, not empty. */
    arrived(
      key: string,
      call: {
        name: string;
        origins: readonly Origin[];
        stateOf: (origin: Origin) => OriginState;
        now: number;
      },
    ): ReplicaVisit {
      const { name, origins, stateOf, now } = call;
      const one = follow(key, now);
      const before = one.demand.replicas;
      const well = origins.filter((origin) => !stateOf(origin).ejected);
      const demand = noteArrival(one.demand, { now, factor: shareFactor(well, stateOf) });
      // Ranking costs a hash an origin, and cold names need none.
      const isCold =
        before === 1 &&
        rowsOf(demand) <= Math.min(...well.map((origin) => stateOf(origin).slots)) * REPLICA_FILL;
      const ranked = isCold || well.length === 0 ? [] : rankOrigins(name, well);
      one.demand =
        ranked.length === 0
          ? demand
          : resize(demand, { now, slots: ranked.map((origin) => stateOf(origin).slots) });
      const count = one.demand.replicas;
      const set: ReplicaSet = { count, isResident: (origin) => residentIn(one, origin, now) };
      const toWarm: Origin[] = [];
      if (count > 1)
        for (const origin of ranked.slice(0, count)) {
          if (set.isResident(origin) || (one.asked.get(origin.id) ?? -Infinity) > now) continue;
          one.asked.set(origin.id, now + FOLLOW_TIMEOUT_MS);
          toWarm.push(origin);
        }
      return { set, before: count === before ? null : before, toWarm };
    },

    /** The origin has the chain in memory: it answered with it, or has loaded it. */
    showed(key: string, origin: Origin, now: number): void {
      const one = followed.get(key);
      one?.resident.set(origin.id, now + RESIDENT_FRESH_MS);
      one?.asked.delete(origin.id);
    },

    /** The origin was asked to load the chain, and has not. */
    didNotLoad(key: string, origin: Origin, now: number): void {
      followed.get(key)?.asked.set(origin.id, now + REPLICA_RETRY_MS);
    },

    /** A request for it has given its row back. */
    held(key: string, ms: number): void {
      const one = followed.get(key);
      if (one !== undefined) one.demand = noteHeld(one.demand, ms);
    },

    /** The origin failed: it may come back with nothing in memory. */
    lost(origin: Origin): void {
      for (const { resident } of followed.values()) resident.delete(origin.id);
    },

    /** Names that are followed. */
    size: () => followed.size,
  };
}

export type ReplicaSets = ReturnType<typeof createReplicaSets>;

/** What a chain is followed by: one that differs in its adapters is not in memory where the other is. */
export const chainKey = (name: string, chain: readonly { digest: string }[]): string =>
  [name, ...chain.map(({ digest }) => digest)].join('\n');

/** A request that an origin is answering. */
export interface Lease {
  /** It still is: a part of the answer came. */
  renew(): void;
  /** Once or more often. */
  end(): void;
}

interface Known {
  /** Each ends by itself `until`, unix ms: the work of a request that is cut off never comes to its `finally`. */
  leases: Set<{ until: number }>;
  /** What the origin last said, and when: rows of others than this isolate, and all of its slots. */
  said: { others: number; slots: number; at: number } | null;
  /** Failures since its last good answer. */
  failures: number;
  ejectedUntil: number;
  /** When anything of it last came here, unix ms. */
  heardAt: number;
}

export function createOriginHealth(params: { now: () => number }) {
  const { now } = params;
  const origins = new Map<string, Known>();

  function known({ id }: Origin): Known {
    let found = origins.get(id);
    if (found === undefined) {
      found = { leases: new Set(), said: null, failures: 0, ejectedUntil: 0, heardAt: -Infinity };
      origins.set(id, found);
    }
    return found;
  }

  function inFlight(of: Known): number {
    for (const lease of of.leases) if (lease.until <= now()) of.leases.delete(lease);
    return of.leases.size;
  }

  /** Others go on sending as they did, the less surely the longer nothing was heard of it. */
  const othersNow = ({ said }: Known): number => {
    if (said === null) return 0;
    return said.others * Math.max(0, 1 - (now() - said.at) / LOAD_ANSWER_FRESH_MS);
  };

  const eject = (of: Known, ms: number): void => {
    of.ejectedUntil = Math.max(of.ejectedUntil, now() + ms);
  };

  return {
    stateOf(origin: Origin): OriginState {
      const of = known(origin);
      const mine = inFlight(of);
      return {
        load: mine + othersNow(of),
        own: mine,
        slots: of.said?.slots ?? UNKNOWN_SLOTS,
        ejected: of.failures > 0 || of.ejectedUntil > now(),
      };
    },

    /** A request goes to the origin. */
    start(origin: Origin): Lease {
      const of = known(origin);
      const lease = { until: now() + REQUEST_BUDGET_MS };
      of.leases.add(lease);
      return {
        renew() {
          of.heardAt = now();
          lease.until = of.heardAt + ORIGIN_LEASE_MS;
        },
        end: () => void of.leases.delete(lease),
      };
    },

    /** Has anything of it come since then, an answer or a part of a stream? @param at unix ms. */
    heardSince: (origin: Origin, at: number): boolean => known(origin).heardAt > at,

    /**
     * Half-open: those that failed and whose time is up. They stay ejected until they answer a question, which is for
     * the caller to ask; nobody else is told to for a while.
     */
    toProbe(among: readonly Origin[]): Origin[] {
      return among.filter((origin) => {
        const of = known(origin);
        if (of.failures === 0 || of.ejectedUntil > now()) return false;
        eject(of, PULSE_MS);
        return true;
      });
    },

    /** It answered as an origin does, whatever it said. @param header its `x-graft-load`. */
    answered(origin: Origin, header: string | null): void {
      const of = known(origin);
      of.failures = 0;
      of.ejectedUntil = 0;
      of.heardAt = now();
      const said = readLoad(header);
      if (said === null) return;
      of.said = { others: Math.max(0, said.rows - inFlight(of)), slots: said.slots, at: now() };
      if (said.draining) eject(of, EJECT_MS);
    },

    /** Its queue is full. */
    full(origin: Origin): void {
      const of = known(origin);
      const slots = of.said?.slots ?? UNKNOWN_SLOTS;
      of.said = { others: Math.max(othersNow(of), 2 * slots - inFlight(of)), slots, at: now() };
    },

    /** It did not answer, or not as an origin that serves. @param forMs at least this long, when it said so. */
    failed(origin: Origin, forMs = 0): void {
      const of = known(origin);
      of.failures += 1;
      eject(of, Math.min(MAX_EJECT_MS, Math.max(forMs, EJECT_MS * 2 ** Math.min(of.failures - 1, 10))));
    },
  };
}

export type OriginHealth = ReturnType<typeof createOriginHealth>;

/** The way of one completion. */
export interface Route {
  /** In which to ask the origins. */
  order: readonly Origin[];
  /** It goes to this one. */
  start(origin: Origin): Lease;
  /** It was answered by this one, with its chain. */
  served(origin: Origin): void;
}

/** Paths that run no rows and need no adapter in memory: they say nothing of demand or of what is there. */
const COUNTING = new Set([
  '/tokenize',
  '/detokenize',
  '/v1/messages/count_tokens',
  '/v1/responses/input_tokens',
]);

/** Has one origin load a chain, brought to it if need be. Never throws. */
export type PrefetchAt = (
  origin: Origin,
  call: PinLife & {
    chain: readonly ChainEntry[];
    /** Only where it has this adapter in memory. */
    instead?: string;
    timeoutMs: number;
  },
) => Promise<WarmedOrigin>;

/**
 * Says to which origins a completion goes, and follows what names are asked for: hot ones get more origins, which load
 * the chain behind the answer to the request that made it so, and get requests when they have it.
 */
export function createRouting(params: {
  health: OriginHealth;
  prefetchAt: PrefetchAt;
  now: () => number;
  log: (event: string, fields: Record<string, string | number | boolean>) => void;
}) {
  const { health, prefetchAt, now, log } = params;
  const sets = createReplicaSets();

  async function warm(
    origin: Origin,
    call: {
      key: string;
      name: string;
      chain: readonly ChainEntry[];
      keepAlive: (work: Promise<unknown>) => void;
    },
  ): Promise<WarmedOrigin> {
    const { key, name, chain, keepAlive } = call;
    // Not the request's own: whoever leaves does not stop what is for all.
    const { signal } = new AbortController();
    const warmed = await prefetchAt(origin, { chain, timeoutMs: FOLLOW_TIMEOUT_MS, signal, keepAlive });
    if (warmed.ok) sets.showed(key, origin, now());
    else sets.didNotLoad(key, origin, now());
    log('replica_warmed', { origin: origin.id, name, ok: warmed.ok, ms: warmed.ms });
    return warmed;
  }

  return {
    /** @param origins of the pool that may serve it, not empty. */
    choose(
      call: {
        path: string;
        name: string | null;
        requestId: string;
        keepAlive: (work: Promise<unknown>) => void;
      },
      { origins, chain }: { origins: readonly Origin[]; chain: readonly ChainEntry[] },
    ): Route {
      const { path, name, keepAlive } = call;
      // Each state is looked up more than once.
      const states = new Map(origins.map((origin) => [origin.id, health.stateOf(origin)]));
      const stateOf = (origin: Origin) => states.get(origin.id) ?? health.stateOf(origin);
      const choice = { name, spread: call.requestId, origins, stateOf };
      // With one origin there is nothing to choose.
      if (name === null || chain.length === 0 || origins.length < 2 || COUNTING.has(path))
        return {
          order: chooseOrigins(choice),
          start: (origin) => health.start(origin),
          served: () => undefined,
        };
      const key = chainKey(name, chain);
      const { set, before, toWarm } = sets.arrived(key, { name, origins, stateOf, now: now() });
      if (before !== null) log('replicas', { name, before, origins: set.count });
      const order = chooseOrigins({ ...choice, replicas: set });
      for (const origin of toWarm) keepAlive(warm(origin, { key, name, chain, keepAlive }));
      let answering: Origin | null = null;
      return {
        order,
        start(origin) {
          const since = now();
          const lease = health.start(origin);
          let isHeld = true;
          return {
            renew: lease.renew,
            end() {
              lease.end();
              if (isHeld && answering === origin) sets.held(key, now() - since);
              isHeld = false;
            },
          };
        },
        served(origin) {
          answering = origin;
          sets.showed(key, origin, now());
        },
      };
    },

    /** The origin failed. */
    lost: (origin: Origin): void => sets.lost(origin),
  };
}

export type Routing = ReturnType<typeof createRouting>;
