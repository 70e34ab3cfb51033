/** Which blow falls when and on whom: all of it from a seed, before the first one falls. */
import { seededRandom } from '../../bench/seeded-random.ts';

/** How many of each kind are in a deck. */
const DECK = {
  /** kill -9 of an origin; it starts again after `holdMs`. */
  'kill-origin': 11,
  /** SIGSTOP of an origin, SIGCONT after `holdMs`. */
  'hang-origin': 11,
  /** SIGTERM of an origin; it ends in order, and starts again after `holdMs`. */
  'end-origin': 4,
  /** kill -9 of an origin, which has another clock until `holdMs` later. */
  'skew-origin': 3,
  /** An origin's files are gone, and no write fits its disk for `holdMs`. */
  'fill-disk': 3,
  /** Adapters' files of an origin are flipped, cut short or removed. */
  'damage-files': 3,
  /** All connections to an origin break within some bytes, and none opens for `holdMs`. */
  'cut-network': 5,
  /** kill -9 of the edge, or of its workerd alone; it starts again after `holdMs`. */
  'kill-edge': 5,
  /** SIGTERM of the edge; it starts again after `holdMs`. */
  'end-edge': 2,
  /** A value in KV is removed, flipped, cut short or replaced by another one's; `holdMs` later all are repaired. */
  'damage-kv': 4,
} as const;

export type BlowKind = keyof typeof DECK;
export const BLOW_KINDS = Object.keys(DECK) as BlowKind[];

/** Longest and shortest `holdMs`. */
const HOLD_MS: Record<BlowKind, readonly [least: number, most: number]> = {
  'kill-origin': [0, 3_000],
  'hang-origin': [1_000, 30_000],
  'end-origin': [0, 2_000],
  'skew-origin': [5_000, 20_000],
  'fill-disk': [3_000, 15_000],
  'damage-files': [0, 0],
  'cut-network': [200, 6_000],
  'kill-edge': [0, 1_500],
  'end-edge': [0, 1_000],
  'damage-kv': [2_000, 20_000],
};

export interface Blow {
  /** Ms since the first request. */
  readonly at: number;
  readonly kind: BlowKind;
  /** Index of the origin; the next one that is up, where this one is not. */
  readonly origin: number;
  readonly holdMs: number;
  /** 0 to 1: decides what else is to be picked. */
  readonly pick: number;
}

/** Of a run of minutes; mean ms from one blow to the next. */
export const EVERY_MS = 3_600;

/** A blow of each kind comes first, then decks, each in another order. */
export function planBlows(params: {
  seed: number;
  durationMs: number;
  origins: number;
  everyMs?: number;
}): Blow[] {
  const { seed, durationMs, origins, everyMs = EVERY_MS } = params;
  const random = seededRandom(seed);
  const blows: Blow[] = [];
  let deck = shuffled(BLOW_KINDS, random);
  for (let at = everyMs / 2; at < durationMs; at += everyMs * (0.25 + 1.5 * random())) {
    if (deck.length === 0)
      deck = shuffled(
        BLOW_KINDS.flatMap((kind) => Array<BlowKind>(DECK[kind]).fill(kind)),
        random,
      );
    const kind = deck.pop() as BlowKind;
    const [least, most] = HOLD_MS[kind];
    blows.push({
      at: Math.round(at),
      kind,
      origin: Math.floor(random() * origins),
      // Short ones are more frequent.
      holdMs: Math.round(least + (most - least) * random() ** 2),
      pick: random(),
    });
  }
  return blows;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const left = [...items];
  return items.map(() => left.splice(Math.floor(random() * left.length), 1)[0] as T);
}

/** One of `items` by a number from 0 to 1. */
export const picked = <T>(items: readonly T[], pick: number): T =>
  items[Math.min(items.length - 1, Math.floor(pick * items.length))] as T;

/** Ms that a skewed clock is wrong by: half of them within the minute that signatures allow. */
export function skewOf(pick: number): number {
  const [half, direction] = [(pick * 2) % 1, pick < 0.25 || pick > 0.75 ? 1 : -1];
  return Math.round(direction * (pick < 0.5 ? 5_000 + 50_000 * half : 120_000 + 480_000 * half));
}
