/**
 * Who is asked for when: Zipf's law, a day of two halves of the world, a crowd that comes at once; and in the middle of
 * Zipf's law a deploy of all edges, or an eighth of the origins that die or drain.
 */
export const WORKLOADS = ['zipf', 'diurnal', 'flash', 'deploy', 'die', 'drain'] as const;
export type WorkloadKind = (typeof WORKLOADS)[number];

export interface Arrival {
  /** Ms. */
  at: number;
  /** Index of the name; 0 is the one asked for most. */
  name: number;
}

/** The crowd asks for one name that was cold, for this long and this share of all rows. */
export const CROWD = { beginsMs: 120_000, lastsMs: 120_000, ofRows: 0.3 };
/** A day, compressed: rates move through it once. */
export const DAY_MS = 1_200_000;
/** Of all rows, on the mean; the day swings by {@link SWING} around it. */
const USE = { zipf: 0.6, diurnal: 0.5, flash: 0.45, deploy: 0.6, die: 0.6, drain: 0.6 };
const SWING = 0.6;

/** Shares of names by Zipf's law with exponent 1. */
export function zipf(names: number): Float64Array {
  const shares = Float64Array.from({ length: names }, (_, i) => 1 / (i + 1));
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

/** @returns the share of requests that the `most` names asked for most make: no fixed placement can do better. */
export const staticOptimum = (shares: Float64Array, most: number): number =>
  shares.subarray(0, most).reduce((sum, share) => sum + share, 0);

function drawer(shares: Float64Array): (chance: number) => number {
  const sums = Float64Array.from(shares);
  for (let i = 1; i < sums.length; i += 1) sums[i] = (sums[i] as number) + (sums[i - 1] as number);
  return (chance) => {
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) < chance) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** Poisson arrivals. @param rows of all origins. @param serviceMs mean. */
export function* arrivals(params: {
  kind: WorkloadKind;
  names: number;
  rows: number;
  serviceMs: number;
  lastsMs: number;
  random: () => number;
}): Generator<Arrival> {
  const { kind, names, rows, serviceMs, lastsMs, random } = params;
  const draw = drawer(zipf(names));
  const perMs = (use: number) => (use * rows) / serviceMs;
  const base = perMs(USE[kind]);
  const crowd = kind === 'flash' ? perMs(CROWD.ofRows) : 0;
  // Thinned from the largest rate that there is.
  const most = base * (kind === 'diurnal' ? 1 + SWING : 1) + crowd;
  for (let at = 0; ;) {
    at += -Math.log(1 - random()) / most;
    if (at >= lastsMs) return;
    const chance = random() * most;
    if (kind === 'diurnal') {
      const name = draw(random());
      // Every other name sleeps while the rest are awake.
      const phase = 2 * Math.PI * (at / DAY_MS + (name % 2) / 2);
      if (chance < base * (1 + SWING * Math.sin(phase))) yield { at, name };
    } else if (chance < base) yield { at, name: draw(random()) };
    else if (at >= CROWD.beginsMs && at < CROWD.beginsMs + CROWD.lastsMs) yield { at, name: names - 1 };
  }
}
