/**
 * What is done to one row of logits. A row is `[vocab]` inside a larger buffer, from `offset`. Everything that needs exp()
 * of a whole row is in this module: V8 folds constants and inlines within a module, but not across an import (measured:
 * thirteen times slower).
 */

export interface Peak {
  /** Index of the largest logit; the smallest index among equals. */
  readonly id: number;
  readonly max: number;
}

/**
 * Largest logit and whether every logit is finite, in one pass: a sum of float32 values in float64 cannot overflow,
 * so it is finite exactly when all of them are. Four chains, because one would wait for each addition.
 * @returns null when a logit is NaN or infinite.
 */
export function peak(logits: Float32Array, offset: number, length: number): Peak | null {
  let max = -Infinity;
  let id = 0;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const end = offset + length;
  let i = offset;
  for (; i + 3 < end; i += 4) {
    const a = logits[i]!;
    const b = logits[i + 1]!;
    const c = logits[i + 2]!;
    const d = logits[i + 3]!;
    s0 += a;
    s1 += b;
    s2 += c;
    s3 += d;
    if (a > max) {
      max = a;
      id = i;
    }
    if (b > max) {
      max = b;
      id = i + 1;
    }
    if (c > max) {
      max = c;
      id = i + 2;
    }
    if (d > max) {
      max = d;
      id = i + 3;
    }
  }
  for (; i < end; i += 1) {
    const a = logits[i]!;
    s0 += a;
    if (a > max) {
      max = a;
      id = i;
    }
  }
  return Number.isFinite(s0 + s1 + s2 + s3) ? { id: id - offset, max } : null;
}

/** @returns ids of the `count` largest logits, largest first, smaller id first among equals. */
export function topIds(logits: Float32Array, offset: number, length: number, count: number): number[] {
  const ids: number[] = [];
  const kept = Math.min(count, length);
  if (kept === 0) return ids;
  let smallest = -Infinity;
  for (let id = 0; id < length; id += 1) {
    const value = logits[offset + id]!;
    if (ids.length === kept && value <= smallest) continue;
    if (ids.length === kept) ids.pop();
    let place = ids.length;
    while (place > 0 && logits[offset + ids[place - 1]!]! < value) place -= 1;
    ids.splice(place, 0, id);
    smallest = logits[offset + ids[ids.length - 1]!]!;
  }
  return ids;
}

/** Place of the token `id` among all, from 1; equals share the best. */
export function rankOf(logits: Float32Array, offset: number, length: number, id: number): number {
  const own = logits[offset + id]!;
  let rank = 1;
  for (let at = offset; at < offset + length; at += 1) if (logits[at]! > own) rank += 1;
  return rank;
}

/** One row, `[length]` from `offset`. */
export type Logits = Pick<Row, 'logits' | 'offset' | 'length'>;

/** Shared by all rows, since nothing awaits between its filling and its last use. */
let masked = new Float32Array(0);

/**
 * The largest logit of the tokens that a grammar lets through, the smallest id among equals; words without a bit are
 * passed over.
 * @param from finite. @param mask bit `id % 32` of word `id >> 5` is set for each of them.
 * @throws RangeError when none is let through: a bug of whoever made the mask.
 */
export function maskedPeak({ logits, offset, length }: Logits, mask: Int32Array): Peak {
  let max = -Infinity;
  let best = -1;
  for (let at = 0; at < mask.length; at += 1) {
    let word = mask[at]!;
    while (word !== 0) {
      const id = (at << 5) + 31 - Math.clz32(word & -word);
      word &= word - 1;
      if (id >= length) break;
      const value = logits[offset + id]!;
      if (value > max || best === -1) {
        max = value;
        best = id;
      }
    }
  }
  if (best === -1) throw new RangeError('a mask that lets nothing through');
  return { id: best, max };
}

/**
 * A copy in which what is not let through is -Infinity, which no draw takes.
 * @returns `[length]` from 0, valid until the next call; `top` of what is let through.
 */
export function maskedRow(from: Logits, mask: Int32Array): { row: Float32Array; top: Peak } {
  const { logits, offset, length } = from;
  const top = maskedPeak(from, mask);
  if (masked.length < length) masked = new Float32Array(length);
  for (let id = 0; id < length; id += 1)
    masked[id] = (mask[id >> 5]! >>> (id & 31)) & 1 ? logits[offset + id]! : -Infinity;
  return { row: masked, top };
}

/** Steps per unit of the table below. */
const EXP_STEPS = 64;
/** e^-40 = 4e-18: a whole vocabulary of such tokens is lost in the rounding of a float64 sum. */
const EXP_RANGE = 40;
const EXP_BINS = EXP_STEPS * EXP_RANGE;
const TABLE = Float64Array.from({ length: EXP_BINS }, (_, bin) => Math.exp(-bin / EXP_STEPS));

/**
 * e^-x for a x of `bin` <= 64 x < bin + 1: table times Taylor to the third order, relative error below 3e-9.
 * About four times as fast as Math.exp, and the same bits on every machine.
 */
function expInBin(x: number, bin: number): number {
  const r = x - bin / EXP_STEPS;
  return TABLE[bin]! * (1 - r * (1 - r * (0.5 - r * 0.16666666666666666)));
}

/** log(sum(exp(logits))) given their maximum. Natural logarithm. */
export function logSumExp(logits: Float32Array, offset: number, length: number, max: number): number {
  let sum = 0;
  for (let i = offset, end = offset + length; i < end; i += 1) {
    const x = max - logits[i]!;
    if (x >= EXP_RANGE) continue;
    sum += expInBin(x, (x * EXP_STEPS) | 0);
  }
  return max + Math.log(sum);
}

/** A token that may be drawn, with its probability times a constant. */
export interface Weighed {
  readonly id: number;
  readonly weight: number;
}

/** A row of logits under a temperature. */
export interface Row {
  readonly logits: Float32Array;
  readonly offset: number;
  readonly length: number;
  /** Largest logit of the row. */
  readonly max: number;
  /** 1 / temperature. */
  readonly inverse: number;
}

/** Tokens counted and weighed by how far they lie below the largest logit, in bins of 1/64. */
export class LogitBins {
  static readonly last = EXP_BINS - 1;
  /** The likeliest hundred tokens mostly lie in the bins before this one. */
  static readonly near = 16 * EXP_STEPS;

  /** The bin of tokens that lie `x` >= 0 below the likeliest; the last one for all that lie too far. */
  static of(x: number): number {
    return Math.min(LogitBins.last, Math.floor(x * EXP_STEPS));
  }

  readonly mass = new Float64Array(EXP_BINS);
  readonly count = new Int32Array(EXP_BINS);
  #row: Row = { logits: new Float32Array(0), offset: 0, length: 0, max: 0, inverse: 1 };
  /** Tokens in the bins before `#nearBins`, in order. */
  #near = new Int32Array(0);
  #nearCount = 0;
  #nearBins = 0;

  /**
   * The row that all else is about.
   * @param near bins whose tokens are found once, where a draw asks for no others mostly; 0 = none.
   */
  take(row: Row, near: number): void {
    this.#row = row;
    this.#nearBins = near;
    this.#nearCount = near === 0 ? 0 : this.#find(row, near / EXP_STEPS);
  }

  #find({ logits, offset, length, max, inverse }: Row, limit: number): number {
    if (this.#near.length <= length) this.#near = new Int32Array(length + 1);
    const near = this.#near;
    let found = 0;
    for (let id = 0; id < length; id += 1) {
      // Without a branch, which is mostly guessed wrong.
      near[found] = id;
      found += (max - logits[offset + id]!) * inverse < limit ? 1 : 0;
    }
    return found;
  }

  /**
   * Counts tokens, without what they weigh.
   * @returns the bin that the likeliest `tokens` end in; `last` where there are fewer up to it.
   */
  reach(tokens: number, last: number): number {
    const { logits, offset, length, max, inverse } = this.#row;
    const { count } = this;
    const near = this.#nearCount >= tokens || last < this.#nearBins;
    count.fill(0);
    for (let i = 0, end = near ? this.#nearCount : length; i < end; i += 1) {
      const x = (max - logits[offset + (near ? this.#near[i]! : i)]!) * inverse;
      if (x >= EXP_RANGE) continue;
      const bin = (x * EXP_STEPS) | 0;
      count[bin] = count[bin]! + 1;
    }
    for (let bin = 0, before = 0; bin < last; bin += 1) {
      before += count[bin]!;
      if (before >= tokens) return bin;
    }
    return last;
  }

  /**
   * Replaces what was weighed before. Tokens below e^-40 of the likeliest are left out.
   * @param last bin that is wanted.
   */
  weigh(last: number): void {
    const { logits, offset, length, max, inverse } = this.#row;
    const { mass } = this;
    mass.fill(0);
    if (last < this.#nearBins) {
      for (let i = 0; i < this.#nearCount; i += 1) {
        const x = (max - logits[offset + this.#near[i]!]!) * inverse;
        const bin = (x * EXP_STEPS) | 0;
        if (bin <= last) mass[bin] = mass[bin]! + expInBin(x, bin);
      }
      return;
    }
    for (let i = offset, end = offset + length; i < end; i += 1) {
      const x = (max - logits[i]!) * inverse;
      if (x >= EXP_RANGE) continue;
      const bin = (x * EXP_STEPS) | 0;
      mass[bin] = mass[bin]! + expInBin(x, bin);
    }
  }

  /** The tokens of one bin, heaviest first, smaller id first among equals. */
  members(bin: number): Weighed[] {
    const { logits, offset, length, max, inverse } = this.#row;
    const near = bin < this.#nearBins;
    const members: Weighed[] = [];
    for (let i = 0, end = near ? this.#nearCount : length; i < end; i += 1) {
      const id = near ? this.#near[i]! : i;
      const x = (max - logits[offset + id]!) * inverse;
      if (x >= EXP_RANGE || ((x * EXP_STEPS) | 0) !== bin) continue;
      members.push({ id, weight: expInBin(x, bin) });
    }
    return members.sort((a, b) => b.weight - a.weight || a.id - b.id);
  }
}
