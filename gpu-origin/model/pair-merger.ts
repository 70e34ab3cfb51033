import { type MergeTable, NONE } from './merge-table.ts';

/** A heap's key is rank x 2^24 + place: exact in a double up to 2^29 merges, and a pre-token is far below 2^24. */
const PLACES = 2 ** 24;

/** Joins neighbours by byte-pair encoding's rule: the pair of the lowest rank first, of equals the leftmost. */
export class PairMerger {
  readonly #merges: MergeTable;
  readonly #heap = new NumberHeap();
  /** The token at each place; of places that were joined to the one before, nothing. */
  #ids = new Int32Array(0);
  #before = new Int32Array(0);
  #after = new Int32Array(0);
  /** Rank of a place's merge with the next one. */
  #ranks = new Int32Array(0);

  constructor(merges: MergeTable) {
    this.#merges = merges;
  }

  /** Where the caller writes ids, at least `length` places; those below zero are joined to nothing. */
  places(length: number): Int32Array {
    if (this.#ids.length < length) {
      this.#ids = new Int32Array(length);
      this.#before = new Int32Array(length);
      this.#after = new Int32Array(length);
      this.#ranks = new Int32Array(length);
    }
    return this.#ids;
  }

  /** Joins what stands at the first `count` places, and leaves the ids that result at the first places. @returns how many. */
  join(count: number): number {
    const [ids, before, after, ranks] = [this.#ids, this.#before, this.#after, this.#ranks];
    const merges = this.#merges;
    const heap = this.#heap;
    for (let at = 0; at < count; at += 1) {
      before[at] = at - 1;
      after[at] = at + 1 < count ? at + 1 : NONE;
      const rank = at + 1 < count ? merges.rankOf(ids[at]!, ids[at + 1]!) : NONE;
      ranks[at] = rank;
      if (rank !== NONE) heap.push(rank * PLACES + at);
    }
    while (heap.size > 0) {
      const key = heap.pop();
      const rank = Math.floor(key / PLACES);
      const at = key - rank * PLACES;
      // What it stood for has been joined to something else since.
      if (ranks[at] !== rank) continue;
      const joined = after[at]!;
      const next = after[joined]!;
      const previous = before[at]!;
      const id = merges.resultOf(rank);
      ids[at] = id;
      after[at] = next;
      ranks[joined] = NONE;
      const ahead = next === NONE ? NONE : merges.rankOf(id, ids[next]!);
      ranks[at] = ahead;
      if (ahead !== NONE) heap.push(ahead * PLACES + at);
      if (next !== NONE) before[next] = at;
      if (previous === NONE) continue;
      const behind = merges.rankOf(ids[previous]!, id);
      ranks[previous] = behind;
      if (behind !== NONE) heap.push(behind * PLACES + previous);
    }
    let left = 0;
    for (let at = count === 0 ? NONE : 0; at !== NONE; at = after[at]!) {
      ids[left] = ids[at]!;
      left += 1;
    }
    return left;
  }
}

/** A binary heap of numbers, smallest first, in one flat array that grows and is used again. */
class NumberHeap {
  #items = new Float64Array(1_024);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(item: number): void {
    if (this.#size === this.#items.length) {
      const grown = new Float64Array(2 * this.#size);
      grown.set(this.#items);
      this.#items = grown;
    }
    const items = this.#items;
    let at = this.#size;
    this.#size += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  /** The smallest, taken out. Not for an empty heap. */
  pop(): number {
    const items = this.#items;
    const smallest = items[0]!;
    this.#size -= 1;
    const last = items[this.#size]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && items[child + 1]! < items[child]!) child += 1;
      if (last <= items[child]!) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return smallest;
  }
}
