/** How many origins a name is served from: by its demand, as one isolate sees it. Time comes in as a value. */
import {
  DEMAND_WINDOW_MS,
  MAX_SHARE_FACTOR,
  MIN_DEMAND_SEEN,
  REPLICA_FILL,
  REPLICA_SHRINK_AFTER_MS,
  REPLICA_SHRINK_FILL,
  USUAL_HELD_MS,
} from './limits.ts';
import type { Origin, OriginState } from './choose-origin.ts';

/** What is known of one name's demand. All of it decays: nothing here has to be ended by a request that is cut off. */
export interface Demand {
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
export function shareFactor(origins: readonly Origin[], stateOf: (origin: Origin) => OriginState): number {
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
