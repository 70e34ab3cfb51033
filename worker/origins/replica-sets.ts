/** Which origins a name is served from, in one isolate: demand, and what is known of what they have in memory. */
import {
  FOLLOW_TIMEOUT_MS,
  MAX_FOLLOWED_NAMES,
  REPLICA_RETRY_MS,
  REPLICA_FILL,
  RESIDENT_FRESH_MS,
} from './limits.ts';
import { rankOrigins, type Origin, type OriginState, type ReplicaSet } from './choose-origin.ts';
import {
  newDemand,
  noteArrival,
  noteHeld,
  resize,
  rowsOf,
  shareFactor,
  type Demand,
} from './replica-demand.ts';

/** A request for an adapter has arrived. */
export interface ReplicaVisit {
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
  const followed = new Map<string, Followed>();

  const residentIn = (one: Followed | undefined, origin: Origin, now: number): boolean =>
    (one?.resident.get(origin.id) ?? -Infinity) > now;

  function follow(key: string, now: number): Followed {
    const known = followed.get(key);
    followed.delete(key);
    const one = known ?? { demand: newDemand(now), resident: new Map(), asked: new Map() };
    followed.set(key, one);
    const oldest = followed.keys().next();
    if (followed.size > maxNames && !oldest.done) followed.delete(oldest.value);
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
