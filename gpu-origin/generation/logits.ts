import type { Row } from './exp-bins.ts';

/** What is done to one row of logits. A row is `[vocab]` inside a larger buffer, from `offset`. */

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

type Logits = Pick<Row, 'logits' | 'offset' | 'length'>;

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

/** What a request wants done to the logits before a token is chosen. */
export interface LogitAdjustments {
  /** Added to the logits of these tokens. */
  readonly bias: readonly (readonly [id: number, bias: number])[];
  /** Divides positive and multiplies negative logits of every token of prompt and answer; 1 = off. */
  readonly repetition: number;
  /** Subtracted for each time that a token was generated; 0 = off. */
  readonly frequency: number;
  /** Subtracted from every token that was generated at all; 0 = off. */
  readonly presence: number;
  /** Tokens that are not chosen before there are so many; absent = none. */
  readonly later?: { readonly ids: readonly number[]; readonly after: number };
}

/** Largest finite float32: what is beyond is held here, so that no setting makes a row infinite or NaN. */
const LIMIT = 3.4028234663852886e38;

/** Shared by all rows, since nothing awaits between its filling and its last use. */
let adjusted = new Float32Array(0);

/**
 * One sequence's logits as its request wants them, in the order of vLLM's sampler: bias, repetition penalty over prompt
 * and answer, frequency and presence penalty over the answer (vllm/v1/sample/sampler.py and apply_penalties, vLLM
 * 0.32.0; OpenAI's formula mu - c * frequency - (c > 0) * presence). Temperature, min-p, top-k and top-p come after.
 */
export class AdjustedLogits {
  readonly #adjustments: LogitAdjustments;
  /** How often each token was generated. */
  readonly #counts = new Map<number, number>();
  /** Tokens of prompt and answer; empty when nothing asks for them. */
  readonly #seen: Set<number>;
  /** Tokens of the answer. */
  #generated = 0;

  /** @param prompt token ids. */
  constructor(adjustments: LogitAdjustments, prompt: readonly number[]) {
    this.#adjustments = adjustments;
    this.#seen = new Set(adjustments.repetition === 1 ? [] : prompt);
  }

  /**
   * @param logits row-major, finite; this sequence's row is `[length]` from `offset`, and is not changed.
   * @returns `[length]` from 0, finite; valid until the next call on any sequence.
   */
  of(logits: Float32Array, offset: number, length: number): Float32Array {
    if (adjusted.length < length) adjusted = new Float32Array(length);
    const row = adjusted;
    row.set(logits.subarray(offset, offset + length));
    const { bias, repetition, frequency, presence, later } = this.#adjustments;
    for (const [id, value] of bias) row[id] = hold(row[id]! + value);
    for (const id of this.#seen) row[id] = hold(row[id]! > 0 ? row[id]! / repetition : row[id]! * repetition);
    if (frequency !== 0 || presence !== 0)
      for (const [id, count] of this.#counts) row[id] = hold(row[id]! - count * frequency - presence);
    if (later !== undefined && this.#generated < later.after) for (const id of later.ids) row[id] = -LIMIT;
    return row;
  }

  /** The answer has one more token. */
  add(id: number): void {
    const { repetition, frequency, presence } = this.#adjustments;
    this.#generated += 1;
    if (frequency !== 0 || presence !== 0) this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    if (repetition !== 1) this.#seen.add(id);
  }
}

const hold = (value: number): number => Math.min(LIMIT, Math.max(-LIMIT, value));
