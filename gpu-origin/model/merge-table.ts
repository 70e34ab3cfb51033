/** No merge. */
export const NONE = -1;

/** Odd, near 2^32 divided by the golden ratio and by the square root of two: Fibonacci hashing of two numbers. */
const LEFT_FACTOR = 0x9e3779b1;
const RIGHT_FACTOR = 0xb504f333;

/**
 * Pairs of token ids to the rank of their merge, lower first, and each rank to the token that it makes. Open addressing
 * in flat arrays: a look-up makes no string and no object, where a map keyed by the pair's text makes both.
 */
export class MergeTable {
  readonly #slots: Int32Array;
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  readonly #results: Int32Array;
  readonly #mask: number;

  /**
   * A merge whose parts or result are not in the vocabulary is left out; of two for one pair the later holds.
   * @param idOf id of a token's text, or undefined.
   */
  constructor(merges: readonly (readonly [string, string])[], idOf: (text: string) => number | undefined) {
    const capacity = 2 ** Math.ceil(Math.log2(2 * merges.length + 2));
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(capacity).fill(NONE);
    this.#lefts = new Int32Array(merges.length);
    this.#rights = new Int32Array(merges.length);
    this.#results = new Int32Array(merges.length);
    for (const [rank, [leftText, rightText]] of merges.entries()) {
      const left = idOf(leftText);
      const right = idOf(rightText);
      const result = idOf(leftText + rightText);
      if (left === undefined || right === undefined || result === undefined) continue;
      this.#lefts[rank] = left;
      this.#rights[rank] = right;
      this.#results[rank] = result;
      this.#slots[this.#slotOf(left, right)] = rank;
    }
  }

  /** @returns the rank of the pair's merge, or {@link NONE}; ids below zero are in no pair. */
  rankOf(left: number, right: number): number {
    return this.#slots[this.#slotOf(left, right)]!;
  }

  resultOf(rank: number): number {
    return this.#results[rank]!;
  }

  #slotOf(left: number, right: number): number {
    let slot = (Math.imul(left, LEFT_FACTOR) ^ Math.imul(right, RIGHT_FACTOR)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    for (;;) {
      const rank = this.#slots[slot]!;
      if (rank === NONE || (this.#lefts[rank] === left && this.#rights[rank] === right)) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }
}
