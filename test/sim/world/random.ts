/** Randomness of one actor in one of its lives, from a seed; the same seed and label give the same numbers. */
export interface Random {
  /** From 0, below 1. */
  next(): number;
  /** A whole number from 0, below `n`. */
  below(n: number): number;
  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number;
  /** @param p probability of true. */
  chance(p: number): boolean;
  /** @throws when the list is empty. */
  pick<T>(list: readonly T[]): T;
  /** By weights that need not add up to one. */
  weighted<T>(list: readonly (readonly [weight: number, value: T])[]): T;
  /** A stream of its own, which takes nothing from this one. */
  fork(label: string): Random;
  bytes(n: number): Uint8Array<ArrayBuffer>;
}

/** FNV-1a, 32 bits. */
function hash(text: string, seed: number): number {
  let state = seed;
  for (let at = 0; at < text.length; at += 1) state = Math.imul(state ^ text.charCodeAt(at), 0x01000193);
  return state >>> 0;
}

/** sfc32 (Chris Doty-Humphrey, PractRand), begun with hashes of the label. */
export function randomOf(label: string): Random {
  let a = hash(label, 0x811c9dc5);
  let b = hash(label, a ^ 0x9e3779b9);
  let c = hash(label, b ^ 0x85ebca6b);
  let counter = 1;
  const word = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return sum >>> 0;
  };
  for (let turn = 0; turn < 12; turn += 1) word();
  const random: Random = {
    next: () => word() / 2 ** 32,
    below: (n) => Math.floor(random.next() * n),
    between: (from, to) => from + random.below(to - from + 1),
    chance: (p) => random.next() < p,
    pick(list) {
      if (list.length === 0) throw new Error('nothing to pick from');
      return list[random.below(list.length)] as (typeof list)[number];
    },
    weighted(list) {
      let left = random.next() * list.reduce((sum, [weight]) => sum + weight, 0);
      for (const [weight, value] of list) if ((left -= weight) < 0) return value;
      return (list.at(-1) as (typeof list)[number])[1];
    },
    fork: (part) => randomOf(`${label}/${part}`),
    bytes(n) {
      const bytes = new Uint8Array(n);
      for (let at = 0; at < n; at += 1) bytes[at] = word() >>> 24;
      return bytes;
    },
  };
  return random;
}
