/** What goes wrong in a simulated world: each kind may be off in a seed (swarm testing), and is counted when it bites. */
import type { Random } from './random.ts';

/** Kinds of faults, and how often each bites at most: a share of the occasions that it has. */
export const FAULTS = {
  /** A read or write of KV that fails without effect. */
  'kv-error': 0.05,
  /** A write that was done, and is answered with an error. */
  'kv-error-after': 0.05,
  /** A read or write that takes up to twelve seconds; a write may land after later ones. */
  'kv-slow': 0.03,
  /** A location that sees what was there up to a minute ago. */
  'kv-stale': 0.1,
  /** A statement or transaction of D1 that fails without effect. */
  'd1-error': 0.03,
  /** A change that was committed, and is answered with an error. */
  'd1-error-after': 0.06,
  /** … that takes up to twelve seconds. */
  'd1-slow': 0.02,
  /** A Durable Object that loses its memory before a call. */
  'object-evicted': 0.05,
  /** … in the middle of one: the caller gets an error, what was not yet written is lost. */
  'object-restarted': 0.02,
  /** An alarm that comes up to a minute late. */
  'alarm-late': 0.2,
  /** … and one that comes twice. */
  'alarm-twice': 0.1,
  /** A file on a bucket that is not read or written. */
  'r2-error': 0.05,
  /** A request that waits up to three seconds on its way. */
  'net-delay': 0.1,
  /** A connection that breaks before the answer, or somewhere in it. */
  'net-cut': 0.04,
  /** A connection on which nothing comes any more. */
  'net-silent': 0.02,
  /** A request that arrives twice. */
  'net-twice': 0.02,
  /** A disk without room. */
  'disk-full': 0.05,
  /** A file of which a bit is another when it is read next. */
  'disk-flip': 0.1,
  /** A file that is gone. */
  'disk-gone': 0.1,
  /** The process of a training that dies at a step: of another's hand, or by itself. */
  'training-killed': 0.07,
  /** … and one that ends with a reason. */
  'training-fails': 0.06,
} as const;

/** Kinds that come by themselves, and how often an hour at most. */
export const EVENTS = {
  'isolate-dropped': 60,
  'origin-killed': 40,
  'origin-stopped': 40,
  'origin-drained': 20,
  'clock-skewed': 20,
  /** Some seconds, up to forty, in which KV fails or hangs at each call. */
  'kv-away': 20,
} as const;

export type FaultKind = keyof typeof FAULTS | keyof typeof EVENTS;
export const FAULT_KINDS = [...Object.keys(FAULTS), ...Object.keys(EVENTS)] as FaultKind[];

export class Faults {
  /** Nothing bites while it is off. */
  on = true;
  /** Until then KV is away, ms. */
  kvAwayUntil = -Infinity;
  /** How often each kind bit. */
  readonly bitten = new Map<FaultKind, number>();
  /** UUIDs in what was bitten. */
  readonly touched = new Set<string>();
  readonly #rates = new Map<FaultKind, number>();
  /** One for each kind, so that leaving one out does not change when the others bite. */
  readonly #random = new Map<FaultKind, Random>();
  readonly #note: (kind: FaultKind, what: string) => void;
  /** By kind, and by kind and place, when each bit: an origin, or `edge` for the way there. */
  readonly #times = new Map<string, number[]>();
  readonly #now: () => number;

  /** @param only these kinds; all that the seed chooses unless given. */
  constructor(
    random: Random,
    now: () => number,
    note: (kind: FaultKind, what: string) => void,
    only?: readonly FaultKind[],
  ) {
    this.#note = note;
    this.#now = now;
    // Chosen for all kinds, so that a shorter list does not change what the others do.
    for (const kind of FAULT_KINDS) {
      this.#random.set(kind, random.fork(kind));
      const chosen = random.chance(0.5);
      const share = 10 ** (-0.7 * random.next());
      const most = kind in FAULTS ? FAULTS[kind as keyof typeof FAULTS] : EVENTS[kind as keyof typeof EVENTS];
      if (only === undefined ? chosen : only.includes(kind)) this.#rates.set(kind, most * share);
    }
  }

  get chosen(): FaultKind[] {
    return [...this.#rates.keys()];
  }

  #of(kind: FaultKind): Random {
    return this.#random.get(kind) as Random;
  }

  /** @returns whether this occasion is one; counted then. */
  bites(kind: keyof typeof FAULTS, what: string): boolean {
    const rate = this.#rates.get(kind);
    if (!this.on || rate === undefined || !this.#of(kind).chance(rate)) return false;
    this.count(kind, what);
    return true;
  }

  /** Whether an origin is killed at this moment, beside the times at which that comes by itself. */
  killsNow(share: number): boolean {
    return this.on && this.#rates.has('origin-killed') && this.#of('origin-killed').chance(share);
  }

  /** ms until the next one of a kind that comes by itself; null = never. */
  nextIn(kind: keyof typeof EVENTS): number | null {
    const rate = this.#rates.get(kind);
    return rate === undefined ? null : -Math.log(1 - this.#of(kind).next()) * (3_600_000 / rate);
  }

  count(kind: FaultKind, what: string): void {
    this.bitten.set(kind, (this.bitten.get(kind) ?? 0) + 1);
    for (const [id] of what.matchAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g)) this.touched.add(id);
    const place = /\b(o\d|edge)\b/.exec(what)?.[1];
    for (const key of place === undefined ? [kind] : [kind, `${kind} ${place}`]) {
      const times = this.#times.get(key) ?? [];
      times.push(this.#now());
      this.#times.set(key, times);
    }
    this.#note(kind, what);
  }

  /** When it bit, ms. */
  timesOf(kind: FaultKind): readonly number[] {
    return this.#times.get(kind) ?? [];
  }

  /** When it last bit, or bit at one place, ms; -Infinity = never. */
  lastAt(kind: FaultKind, place?: string): number {
    return this.#times.get(place === undefined ? kind : `${kind} ${place}`)?.at(-1) ?? -Infinity;
  }

  /** Whether it bit something of an origin in that time, ms. */
  during(kind: FaultKind, origin: string, from: number, until: number): boolean {
    const times = this.#times.get(`${kind} ${origin}`) ?? [];
    return times.some((at) => at >= from && at <= until);
  }
}
