/**
 * One isolate's view of its origins' load and health, and the choice of origins for a completion: rendezvous
 * hashing with bounded load, and replica sets for hot names. No I/O, no clock.
 */
import { decayed, meanHeld, rowsAtOnce, USUAL_HELD_MS } from '../../protocol/demand.ts';
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
  MAX_SHARE_FACTOR,
  MIN_DEMAND_SEEN,
  REPLICA_SHRINK_AFTER_MS,
  REPLICA_SHRINK_FILL,
} from './limits.ts';
import type { PinLife } from './ports.ts';
import { BoundedMap } from '../platform/bounded-map.ts';

/** An origin from the configuration. */
export interface Origin {
  id: string;
  url: string;
  /** Id of its base; set for all of an edge's origins or for none. */
  base?: string | undefined;
}

/** This isolate's current view of an origin. */
export interface OriginState {
  /** Estimated running requests. */
  load: number;
  /** Those sent by this isolate. */
  own: number;
  /** Rows that it can run at once. */
  slots: number;
  /** It failed recently, or is shutting down: asked only if no other origin can serve. */
  ejected: boolean;
}

/** The origins that serve a name. */
interface ReplicaSet {
  /** The first so many origins in the name's rendezvous order; at least 1. */
  readonly count: number;
  /** Has the origin recently shown that it has the chain in memory? */
  isResident(origin: Origin): boolean;
}

/** An origin may have this many times its share of the load before its names move to others … */
const LOAD_FACTOR = 1.25;
/**
 * … and this many requests per row: other origins would have to load the adapters, which takes as long as
 * waiting for a row and evicts what others need (bench/LOG.md, a fleet in virtual time).
 */
const CROWDED_FILL = 1.5;
/** Origins of a hot adapter that are compared. Two random ones could both be busy. */
const PICKED = 4;
/**
 * A conversation stays where its earlier turns were read while this origin's requests per row are at most so many more
 * than the least loaded one's. More finds prompts more often, but turns more requests away (bench/LOG.md, a fleet with
 * conversations).
 */
const STAYING_FILL = 0.5;

/**
 * Rendezvous hashing (Thaler and Ravishankar 1998): each name ranks the origins in its own order, so a lost
 * origin moves only its own names.
 * @param origins not empty.
 * @returns all of them, best first.
 */
export function rankOrigins(name: string, origins: readonly Origin[]): Origin[] {
  return origins
    .map((origin) => ({ origin, weight: fnv1aMixed(`${origin.id}\n${name}`) }))
    .sort((a, b) => b.weight - a.weight || (a.origin.id < b.origin.id ? -1 : 1))
    .map(({ origin }) => origin);
}

/**
 * The order in which to ask origins for one request. A cold adapter stays at its first-ranked origin until
 * that has {@link CROWDED_FILL} requests per row. A hot adapter's requests are shared by the origins of its
 * set that have it in memory: the least loaded of {@link PICKED} random ones gets the request (Mitzenmacher
 * 2001: an isolate's view of loads is old). Then load is bounded (Mirrokni, Thorup and Zadimoghaddam 2016):
 * an origin with more than {@link LOAD_FACTOR} times its share comes after those with less. Every origin has
 * the base, so its requests go to the least loaded one. Ejected origins come last, but are not left out: if
 * all have failed, one may be back.
 * Turns of one conversation prefer the same few of the origins that could serve it, which have read its prompt.
 * @param origins those of the pool that may serve the request.
 * @param spread different for each request; breaks ties for the base, and picks from a set.
 * @param conversation the same for its turns; default null: none.
 * @param replicas the name's; default: one origin, with nothing known to be in memory.
 */
export function chooseOrigins(params: {
  /** null = only the base. */
  name: string | null;
  spread: string;
  conversation?: string | null;
  origins: readonly Origin[];
  stateOf: (origin: Origin) => OriginState;
  replicas?: ReplicaSet | null;
}): Origin[] {
  const { name, spread, conversation = null, stateOf, replicas = null } = params;
  const ranked = rankOrigins(name ?? spread, params.origins).map((origin) => ({
    origin,
    state: stateOf(origin),
  }));
  const well = ranked.filter(({ state }) => !state.ejected);
  const ejected = ranked.filter(({ state }) => state.ejected);
  const ordered =
    name === null
      ? // The sort is stable: ties keep the order that `spread` gave them.
        stayingFirst(
          [...well].sort((a, b) => fill(a) - fill(b)),
          conversation,
        )
      : orderForName(well, { spread, conversation, replicas });
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
  {
    spread,
    conversation,
    replicas,
  }: { spread: string; conversation: string | null; replicas: ReplicaSet | null },
): Candidate[] {
  const load = well.reduce((sum, { state }) => sum + state.load, 1);
  const slots = well.reduce((sum, { state }) => sum + state.slots, 0);
  const share = ({ state }: Candidate): number => Math.ceil((LOAD_FACTOR * load * state.slots) / slots);
  const isFree = (one: Candidate): boolean => one.state.load < Math.max(one.state.slots, share(one));
  const isCrowded = (one: Candidate): boolean =>
    one.state.load >= Math.max(one.state.slots * CROWDED_FILL, share(one));
  const holds = (one: Candidate): boolean => replicas?.isResident(one.origin) === true;
  const ofSet = well.slice(0, replicas?.count ?? 1);
  // Requests never wait for an origin of the set that is still loading.
  const warm = ofSet.length === 1 ? ofSet : ofSet.filter(holds);
  const others = well.filter((one) => !warm.includes(one) && !isCrowded(one));
  const byFill = (a: Candidate, b: Candidate): number => fill(a) - fill(b);
  return [
    ...stayingFirst(leastLoadedOfSome(warm.filter(isFree), spread), conversation),
    ...warm.filter((one) => !isFree(one) && !isCrowded(one)).sort(byFill),
    // An origin that still has it in memory comes before one that would have to load it.
    ...others.filter(holds),
    ...others.filter((one) => !holds(one)),
    ...well.filter(isCrowded).sort(byFill),
  ];
}

/** The least loaded of some random ones first, then the others by load. */
function leastLoadedOfSome(among: readonly Candidate[], spread: string): Candidate[] {
  const byLoad = [...among].sort((a, b) => fill(a) - fill(b));
  const start = fnv1aMixed(spread) % Math.max(1, among.length);
  const some = [...among.slice(start), ...among.slice(0, start)].slice(0, PICKED);
  const picked = some.sort((a, b) => fill(a) - fill(b))[0];
  return picked === undefined ? byLoad : [picked, ...byLoad.filter((one) => one !== picked)];
}

/** @returns the same, where the conversation's own origin comes first if it is hardly busier than the least loaded one. */
function stayingFirst(ordered: Candidate[], conversation: string | null): Candidate[] {
  if (conversation === null || ordered.length < 2) return ordered;
  const most = Math.min(...ordered.map(fill)) + STAYING_FILL;
  const own = rankOrigins(
    conversation,
    ordered.map(({ origin }) => origin),
  )
    .slice(0, PICKED)
    .map((origin) => ordered.find((one) => one.origin === origin))
    .find((one) => one !== undefined && fill(one) <= most);
  return own === undefined ? ordered : [own, ...ordered.filter((one) => one !== own)];
}

/** Characters of each part of a prompt that tell conversations apart. */
const TELLING = 2_048;

/**
 * What a conversation's turns have in common: its prompt up to the first user message, hashed.
 * @param request of any path that completes.
 */
export function conversationOf(request: Record<string, unknown>): string {
  const { messages, input, prompt, system, instructions } = request;
  const turns = messages ?? input ?? prompt;
  const first = Array.isArray(turns)
    ? turns.findIndex((turn: { role?: unknown }) => turn?.role === 'user')
    : -1;
  const parts: unknown[] = Array.isArray(turns)
    ? turns.slice(0, first === -1 ? TELLING : first + 1)
    : [turns];
  const text = (part: unknown): string =>
    typeof part === 'string' ? part.slice(0, TELLING) : (JSON.stringify(part) ?? '').slice(0, TELLING);
  return `${fnv1aMixed([system, instructions, ...parts].map(text).join('\n'))}`;
}

/** Origins grouped by base: all origins of one base are a pool. */
export interface Pools {
  readonly all: readonly Origin[];
  /** Ids of the bases, the default one first; null = the origins name no base, and share one. */
  readonly declared: readonly string[] | null;
  /**
   * @param base its id; null = the default one.
   * @returns empty if no origin serves it. If the origins name no base: all of them, whatever the id.
   */
  of(base: string | null): readonly Origin[];
}

/**
 * @param origins from the configuration: all name their base, or none does.
 * @param defaultBase one of theirs; default: the first origin's.
 */
export function createPools(origins: readonly Origin[], defaultBase: string | null = null): Pools {
  const ids = [...new Set(origins.flatMap(({ base }) => base ?? []))];
  if (ids.length === 0) return { all: origins, declared: null, of: () => origins };
  const first = defaultBase ?? ids[0];
  const declared = ids.sort((a, b) => Number(b === first) - Number(a === first));
  const pools = new Map(declared.map((id) => [id, origins.filter(({ base }) => base === id)]));
  return { all: origins, declared, of: (base) => pools.get(base ?? declared[0] ?? '') ?? [] };
}

/** A name's demand. All of it decays, so an interrupted request leaves nothing to clean up. */
interface Demand {
  /** This isolate's requests in the last {@link DEMAND_WINDOW_MS}, decayed to the time `at`. */
  seen: number;
  /** An estimate of the same for all isolates, from the origins' load. */
  estimated: number;
  /** Unix ms. */
  at: number;
  /** How long its requests occupy a row, ms: a moving average. */
  heldMs: number;
  /** Origins that serve it; at least 1. */
  replicas: number;
  /** When that many were last needed, unix ms. */
  neededAt: number;
}

export const newDemand = (now: number): Demand => ({
  ...{ seen: 0, estimated: 0, at: now, heldMs: USUAL_HELD_MS, replicas: 1, neededAt: now },
});

/**
 * The ratio of all requests at the origins to this isolate's. Assumes that other isolates serve the same
 * names.
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

/**
 * Counts a request for the name.
 * @param factor current {@link shareFactor}.
 */
export function noteArrival(demand: Demand, { now, factor }: { now: number; factor: number }): Demand {
  return {
    ...demand,
    seen: decayed(demand.seen, now - demand.at) + 1,
    estimated: decayed(demand.estimated, now - demand.at) + factor,
    at: now,
  };
}

/**
 * Counts the end of a request for the name, or its move to another origin.
 * @param ms how long it occupied a row.
 */
export const noteHeld = (demand: Demand, ms: number): Demand => ({
  ...demand,
  heldMs: meanHeld(demand.heldMs, ms),
});

/** Rows that the name occupies at once. */
export const rowsOf = ({ estimated, heldMs }: Demand): number => rowsAtOnce(estimated, heldMs);

/**
 * Sets the replicas so that the name takes at most {@link REPLICA_FILL} of each one's rows. Grows at once to
 * what is needed, if enough requests were seen here or the origins say so. Shrinks by one when {@link REPLICA_SHRINK_FILL} of the
 * smaller set's share was enough for {@link REPLICA_SHRINK_AFTER_MS}.
 * @param slots rows of each origin that may serve it, in its order; not empty.
 * @param told rows that it takes, by the origins' own word.
 */
export function resize(
  demand: Demand,
  { now, slots, told = 0 }: { now: number; slots: readonly number[]; told?: number },
): Demand {
  const rows = Math.max(rowsOf(demand), told);
  const replicas = Math.min(demand.replicas, slots.length);
  const wanted = howMany(Math.max(seenRows(demand), told), slots);
  if (wanted > replicas) return { ...demand, replicas: wanted, neededAt: now };
  if (howMany(rows / REPLICA_SHRINK_FILL, slots) >= replicas) return { ...demand, replicas, neededAt: now };
  if (now - demand.neededAt < REPLICA_SHRINK_AFTER_MS) return { ...demand, replicas };
  return { ...demand, replicas: replicas - 1, neededAt: now - REPLICA_SHRINK_AFTER_MS / 2 };
}

/** As far as enough requests were seen here to tell. */
const seenRows = (demand: Demand): number => (demand.seen >= MIN_DEMAND_SEEN ? rowsOf(demand) : 0);

/** How many origins, in order, it takes to provide these rows; at most all. */
function howMany(rows: number, slots: readonly number[]): number {
  let room = 0;
  for (const [index, each] of slots.entries()) {
    room += each * REPLICA_FILL;
    if (room >= rows) return index + 1;
  }
  return slots.length;
}

/** Result of a request's arrival. */
interface ReplicaVisit {
  set: ReplicaSet;
  /** The previous {@link ReplicaSet.count}, if this request changed it. */
  before: number | null;
  /**
   * Origins of the set that should load the chain now, in the background. Each is listed only once in a
   * while.
   */
  toWarm: readonly Origin[];
}

/** What origins say of a chain. */
export interface ToldDemand {
  /** That it takes at all of them. */
  rows: number;
  /** Id of an origin -> the part of these rows that it told. */
  by: ReadonlyMap<string, number>;
  /** Id of each origin that has it in memory -> when it said so, unix ms. */
  holders: Map<string, number>;
}

interface Followed {
  demand: Demand;
  /** Origin's id -> until when we assume that it has the chain in memory, unix ms. */
  resident: Map<string, number>;
  /** Origin's id -> unix ms until which it is not asked again to load it. */
  asked: Map<string, number>;
}

/**
 * Replica sets of requested names. They are sticky: growing adds the next origin in the name's rendezvous
 * order, and shrinking removes the last. A set belongs to a chain, so a new version gets a new one. Untracked
 * names have one origin, like cold ones.
 * @param maxNames bounds the memory; the least recently requested is forgotten.
 */
export function createReplicaSets({ maxNames = MAX_FOLLOWED_NAMES }: { maxNames?: number } = {}) {
  /** By {@link chainKey}, least recently requested first. */
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
    /** @param origins the name's pool, not empty. */
    arrived(
      key: string,
      call: {
        name: string;
        origins: readonly Origin[];
        stateOf: (origin: Origin) => OriginState;
        now: number;
        /** Default: nothing. */
        told?: ToldDemand;
        /** The same request was turned away: it does not count twice. */
        isAgain?: boolean;
      },
    ): ReplicaVisit {
      const { name, origins, stateOf, now, told, isAgain = false } = call;
      const one = follow(key, now);
      for (const [id, at] of told?.holders ?? [])
        one.resident.set(id, Math.max(at + RESIDENT_FRESH_MS, one.resident.get(id) ?? -Infinity));
      const before = one.demand.replicas;
      const well = origins.filter((origin) => !stateOf(origin).ejected);
      const demand = isAgain
        ? one.demand
        : noteArrival(one.demand, { now, factor: shareFactor(well, stateOf) });
      // Ranking costs one hash per origin, and cold names don't need it.
      const isCold =
        before === 1 &&
        Math.max(rowsOf(demand), told?.rows ?? 0) <=
          Math.min(...well.map((origin) => stateOf(origin).slots)) * REPLICA_FILL;
      const ranked = isCold || well.length === 0 ? [] : rankOrigins(name, well);
      one.demand =
        ranked.length === 0
          ? demand
          : resize(demand, {
              now,
              slots: ranked.map((origin) => stateOf(origin).slots),
              told: told?.rows ?? 0,
            });
      const count = one.demand.replicas;
      const set: ReplicaSet = { count, isResident: (origin) => residentIn(one, origin, now) };
      const toWarm: Origin[] = [];
      const slots = ranked.map((origin) => stateOf(origin).slots);
      if (count > 1)
        for (const [index, origin] of ranked.slice(0, count).entries()) {
          if (set.isResident(origin) || (one.asked.get(origin.id) ?? -Infinity) > now) continue;
          // Nobody gets an adapter by its own word that many ask for it.
          const byOthers = (told?.rows ?? 0) - (told?.by.get(origin.id) ?? 0);
          if (told !== undefined && howMany(Math.max(seenRows(one.demand), byOthers), slots) <= index)
            continue;
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

    /** The origin was asked to load the chain, but did not. */
    didNotLoad(key: string, origin: Origin, now: number): void {
      followed.get(key)?.asked.set(origin.id, now + REPLICA_RETRY_MS);
    },

    /** A request for it has released its row. */
    held(key: string, ms: number): void {
      const one = followed.get(key);
      if (one !== undefined) one.demand = noteHeld(one.demand, ms);
    },

    /** The origin failed: it may come back with nothing in memory. */
    lost(origin: Origin): void {
      for (const { resident } of followed.values()) resident.delete(origin.id);
    },

    /** Tracked names. */
    size: () => followed.size,
  };
}

export type ReplicaSets = ReturnType<typeof createReplicaSets>;

/** Key of a chain: one with different adapters is not in memory at the same origins. */
export const chainKey = (name: string, chain: readonly { digest: string }[]): string =>
  [name, ...chain.map(({ digest }) => digest)].join('\n');

/** A request running at an origin. */
export interface Lease {
  /** Keeps it alive: a part of the answer has arrived. */
  renew(): void;
  /** May be called more than once. */
  end(): void;
}

interface Known {
  /** Each expires at `until`, unix ms, because a request that is cut off never runs its `finally`. */
  leases: Set<{ until: number }>;
  /** The origin's last report and its time: rows of other isolates, and all of its slots. */
  said: { others: number; slots: number; at: number } | null;
  /** Its slots by its own word; null = it has not said. */
  slots: number | null;
  /** Failures since its last good answer. */
  failures: number;
  ejectedUntil: number;
  /** When anything last arrived from it, unix ms. */
  heardAt: number;
}

export function createOriginHealth(params: { now: () => number }) {
  const { now } = params;
  const origins = new Map<string, Known>();

  function known({ id }: Origin): Known {
    let found = origins.get(id);
    if (found === undefined) {
      found = {
        leases: new Set(),
        said: null,
        slots: null,
        failures: 0,
        ejectedUntil: 0,
        heardAt: -Infinity,
      };
      origins.set(id, found);
    }
    return found;
  }

  function inFlight(of: Known): number {
    for (const lease of of.leases) if (lease.until <= now()) of.leases.delete(lease);
    return of.leases.size;
  }

  /** Others' load probably continues, but the last report counts less the older it is. */
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

    /** A request is sent to the origin. */
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

    /**
     * Has anything arrived from it since then: an answer, or a part of a stream?
     * @param at unix ms.
     */
    heardSince: (origin: Origin, at: number): boolean => known(origin).heardAt > at,

    /**
     * Half-open: failed origins whose pause is over. They stay ejected until they answer a probe, which the
     * caller must send; no other caller gets them for a while.
     */
    toProbe(among: readonly Origin[]): Origin[] {
      return among.filter((origin) => {
        const of = known(origin);
        if (of.failures === 0 || of.ejectedUntil > now()) return false;
        eject(of, PULSE_MS);
        return true;
      });
    },

    /**
     * It responded like an origin, whatever the status.
     * @param header its `x-graft-load`.
     */
    answered(origin: Origin, header: string | null): void {
      const of = known(origin);
      of.failures = 0;
      of.ejectedUntil = 0;
      of.heardAt = now();
      const said = readLoad(header);
      if (said === null) return;
      of.slots = said.slots;
      of.said = { others: Math.max(0, said.rows - inFlight(of)), slots: said.slots, at: now() };
      if (said.draining) eject(of, EJECT_MS);
    },

    /**
     * Another origin's word for its load. It takes no origin for crowded, or for smaller than usual: only its own
     * word does, or a liar could draw the requests of all names.
     * @param at unix ms.
     */
    heard(origin: Origin, { rows, slots }: { rows: number; slots: number }, at: number): void {
      const of = known(origin);
      if (of.said !== null && of.said.at >= at) return;
      const likely = of.slots ?? Math.max(slots, UNKNOWN_SLOTS);
      of.said = { others: Math.max(0, Math.min(rows, likely) - inFlight(of)), slots: likely, at };
    },

    /** Its queue is full. */
    full(origin: Origin): void {
      const of = known(origin);
      const slots = of.said?.slots ?? UNKNOWN_SLOTS;
      of.said = { others: Math.max(othersNow(of), 2 * slots - inFlight(of)), slots, at: now() };
    },

    /**
     * It did not respond, or not like a serving origin.
     * @param forMs minimum pause, if it asked for one.
     */
    failed(origin: Origin, forMs = 0): void {
      const of = known(origin);
      of.failures += 1;
      eject(of, Math.min(MAX_EJECT_MS, Math.max(forMs, EJECT_MS * 2 ** Math.min(of.failures - 1, 10))));
    },
  };
}

export type OriginHealth = ReturnType<typeof createOriginHealth>;

/** The path of one completion. */
export interface Route {
  /** Order in which to ask the origins. */
  order: readonly Origin[];
  /** Chooses again, by what is known now. @param left origins to choose from. */
  again(left: readonly Origin[]): readonly Origin[];
  /** It is sent to this one. */
  start(origin: Origin): Lease;
  /** This one answered it, with its chain. */
  served(origin: Origin): void;
}

/** Paths that use no rows and no adapters in memory, so they say nothing about demand. */
const COUNTING = new Set([
  '/tokenize',
  '/detokenize',
  '/v1/messages/count_tokens',
  '/v1/responses/input_tokens',
]);

/** Has one origin load a chain, copying missing files to it. Never throws. */
export type PrefetchAt = (
  origin: Origin,
  call: PinLife & {
    chain: readonly ChainEntry[];
    /** Only if it has this adapter in memory. */
    instead?: string;
    timeoutMs: number;
  },
) => Promise<WarmedOrigin>;

/**
 * Chooses origins for completions and tracks the demand for names. Hot names get more origins: each loads the
 * chain in the background, and gets requests once it has it.
 */
export function createRouting(params: {
  health: OriginHealth;
  /** What the pool's origins say of a chain. */
  told: (origins: readonly Origin[], chain: readonly ChainEntry[]) => ToldDemand;
  prefetchAt: PrefetchAt;
  now: () => number;
  log: (event: string, fields: Record<string, string | number | boolean>) => void;
}) {
  const { health, told, prefetchAt, now, log } = params;
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
    // Not the request's own signal: a client that disconnects must not stop this.
    const { signal } = new AbortController();
    const warmed = await prefetchAt(origin, { chain, timeoutMs: FOLLOW_TIMEOUT_MS, signal, keepAlive });
    if (warmed.ok) sets.showed(key, origin, now());
    else sets.didNotLoad(key, origin, now());
    log('replica_warmed', { origin: origin.id, name, ok: warmed.ok, ms: warmed.ms });
    return warmed;
  }

  return {
    /** @param origins those of the pool that may serve it, not empty. */
    choose(
      call: {
        path: string;
        name: string | null;
        request: Record<string, unknown>;
        requestId: string;
        keepAlive: (work: Promise<unknown>) => void;
      },
      { origins, chain }: { origins: readonly Origin[]; chain: readonly ChainEntry[] },
    ): Route {
      const { path, name, keepAlive } = call;
      // Each state is looked up more than once.
      const states = new Map(origins.map((origin) => [origin.id, health.stateOf(origin)]));
      const stateOf = (origin: Origin) => states.get(origin.id) ?? health.stateOf(origin);
      const conversation = origins.length < 2 ? null : conversationOf(call.request);
      const choice = { name, spread: call.requestId, conversation, origins, stateOf };
      // A single origin leaves no choice.
      if (name === null || chain.length === 0 || origins.length < 2 || COUNTING.has(path))
        return {
          order: chooseOrigins(choice),
          again: (left) => chooseOrigins({ ...choice, origins: left, stateOf: health.stateOf }),
          start: (origin) => health.start(origin),
          served: () => undefined,
        };
      const key = chainKey(name, chain);
      const visit = (isAgain: boolean): ReplicaSet => {
        const { set, before, toWarm } = sets.arrived(key, {
          ...{ name, origins, now: now(), told: told(origins, chain), isAgain },
          stateOf: isAgain ? health.stateOf : stateOf,
        });
        if (before !== null) log('replicas', { name, before, origins: set.count });
        for (const origin of toWarm) keepAlive(warm(origin, { key, name, chain, keepAlive }));
        return set;
      };
      const order = chooseOrigins({ ...choice, replicas: visit(false) });
      let answering: Origin | null = null;
      return {
        order,
        again: (left) =>
          chooseOrigins({ ...choice, origins: left, stateOf: health.stateOf, replicas: visit(true) }),
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
