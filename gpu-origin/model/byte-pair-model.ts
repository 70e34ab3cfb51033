import { Model } from '@huggingface/tokenizers';
import { TokenizerError, type TokenizerJson } from './tokenizer-definition.ts';

const utf8 = new TextEncoder();

/**
 * Byte-pair encoding that replaces the library's own, which creates several objects and strings per merge: a
 * run of one character took it 8 microseconds a character.
 */
export class BytePairModel extends Model {
  readonly #merger: PairMerger;
  readonly #idOfCodePoint = new Map<number, number>();
  readonly #ignoreMerges: boolean;
  readonly #byteFallback: boolean;

  /**
   * @throws TokenizerError for affixes of words and their parts, which byte-level and SentencePiece tokenizers
   * lack.
   */
  constructor(config: TokenizerJson['model'], vocabulary: ReadonlyMap<string, number>) {
    super({ type: 'BPE', vocab: {}, fuse_unk: config['fuse_unk'] === true } as never);
    for (const key of ['end_of_word_suffix', 'continuing_subword_prefix', 'continuing_subword_suffix'])
      if (config[key] != null && config[key] !== '')
        throw new TokenizerError(`the tokenizer's ${key} is not supported`);
    this.#ignoreMerges = config['ignore_merges'] === true;
    this.#byteFallback = config['byte_fallback'] === true;
    for (const [text, id] of vocabulary) {
      this.tokens_to_ids.set(text, id);
      this.vocab[id] = text;
      const point = text.codePointAt(0);
      if (point !== undefined && text === String.fromCodePoint(point)) this.#idOfCodePoint.set(point, id);
    }
    const unknown = config['unk_token'];
    if (typeof unknown === 'string') {
      this.unk_token = unknown;
      const id = this.tokens_to_ids.get(unknown);
      if (id !== undefined) this.unk_token_id = id;
    }
    const merges = config.merges.map((merge) =>
      typeof merge === 'string' ? (merge.split(' ', 2) as [string, string]) : merge,
    );
    this.#merger = new PairMerger(new MergeTable(merges, (text) => this.tokens_to_ids.get(text)));
  }

  override encode(preTokens: string[]): string[] {
    const tokens: string[] = [];
    for (const preToken of preTokens) {
      if (this.#ignoreMerges && this.tokens_to_ids.has(preToken)) {
        tokens.push(preToken);
        continue;
      }
      const ids = this.#merger.places(preToken.length);
      const count = this.#merger.join(this.#read(preToken, ids));
      for (let at = 0; at < count; at += 1) {
        const id = ids[at]!;
        if (id >= 0) tokens.push(this.vocab[id]!);
        else this.#pushUnknown(String.fromCodePoint(~id), tokens);
      }
    }
    return tokens;
  }

  /** Writes each character's id, or the complement of its code point where it has none. @returns how many. */
  #read(preToken: string, ids: Int32Array): number {
    const known = this.#idOfCodePoint;
    let count = 0;
    for (let at = 0; at < preToken.length; at += 1) {
      const point = preToken.codePointAt(at)!;
      if (point > 0xffff) at += 1;
      ids[count] = known.get(point) ?? ~point;
      count += 1;
    }
    return count;
  }

  #pushUnknown(character: string, tokens: string[]): void {
    if (this.#byteFallback) {
      const bytes = [...utf8.encode(character)].map(
        (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
      );
      if (bytes.every((byte) => this.tokens_to_ids.has(byte))) {
        tokens.push(...bytes);
        return;
      }
    }
    if (this.unk_token !== undefined) tokens.push(this.unk_token);
  }
}

/** A heap's key is rank x 2^24 + place: exact in a double up to 2^29 merges, and a pre-token is far below 2^24. */
const PLACES = 2 ** 24;

/**
 * Merges neighbours by the rule of byte-pair encoding: the pair of the lowest rank first, the leftmost among
 * equals.
 */
class PairMerger {
  readonly #merges: MergeTable;
  readonly #heap = new NumberHeap();
  /** The token at each place; undefined at merged places. */
  #ids = new Int32Array(0);
  #before = new Int32Array(0);
  #after = new Int32Array(0);
  /** Rank of a place's merge with the next one. */
  #ranks = new Int32Array(0);

  constructor(merges: MergeTable) {
    this.#merges = merges;
  }

  /** Input and output ids, at least `length` places; negative ones are never merged. */
  places(length: number): Int32Array {
    if (this.#ids.length < length) {
      this.#ids = new Int32Array(length);
      this.#before = new Int32Array(length);
      this.#after = new Int32Array(length);
      this.#ranks = new Int32Array(length);
    }
    return this.#ids;
  }

  /** Merges the first `count` places, and leaves the resulting ids at the beginning. @returns how many. */
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
      // Its token has been merged with another since.
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

/** A binary heap of numbers, smallest first, in one reused flat array. */
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

  /** Removes the smallest. The heap must not be empty. */
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

/** No merge. */
const NONE = -1;

/** Odd, near 2^32 divided by the golden ratio and by the square root of two: Fibonacci hashing of two numbers. */
const LEFT_FACTOR = 0x9e3779b1;
const RIGHT_FACTOR = 0xb504f333;

/**
 * Pairs of token ids to the rank of their merge, lower first, and each rank to its token. Open addressing in
 * flat arrays: a look-up creates no string and no object, unlike a map keyed by the pair's text.
 */
class MergeTable {
  readonly #slots: Int32Array;
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  readonly #results: Int32Array;
  readonly #mask: number;

  /**
   * Merges with parts or results outside of the vocabulary are skipped; of two for one pair the later is used.
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
