import { Tokenizer as Library, Model } from '@huggingface/tokenizers';
import {
  type AddedToken,
  originalSteps,
  tokenBytesOf,
  type TokenizerDefinition,
  TokenizerError,
  type TokenizerJson,
} from './tokenizer-definition.ts';

const utf8 = new TextEncoder();

/**
 * Byte-pair encoding that replaces the library's own, which creates several objects and strings per merge: a
 * run of one character took it 8 microseconds a character.
 */
class BytePairModel extends Model {
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

export interface Tokenizer {
  /**
   * All at once: for short texts.
   * @param allowSpecial true: control strings in the text become their ids; false: they are ordinary text.
   */
  encode(text: string, options: { allowSpecial: boolean }): number[];
  /** The same in steps, with `limit` as in {@link Tokenizer.encodePieces}. */
  encodeChunked(text: string, options: { allowSpecial: boolean; limit: number }): Chunked<number[] | null>;
  /**
   * Encodes the sections of one text separately; a number is an id and passes through.
   * @param limit encoding stops soon after this many tokens, so that more than `limit` are returned.
   * @returns null for texts with so many bytes that they must have more than `limit` tokens: nothing was
   * encoded.
   */
  encodePieces(pieces: readonly (string | number)[], limit: number): Chunked<number[] | null>;
  /**
   * Bytes that a token adds to the output, or null when there is no such token. The caller must not change
   * them.
   */
  tokenBytes(id: number): Uint8Array<ArrayBuffer> | null;
  /** Hidden tokens: they steer the model and are not part of its text. */
  isSpecial(id: number): boolean;
  /** Text of each token that content must not produce: hidden ones, and the template's markers. */
  readonly controlTokens: ReadonlyMap<string, number>;
  readonly bosId: number | null;
  /** Tokens that end a generation. */
  readonly eosIds: readonly number[];
  /** Ids that start a raw text prompt. */
  readonly prefixIds: readonly number[];
  /** Jinja source of the base's chat template. */
  readonly chatTemplate: string | null;
  /** Ids are below this. */
  readonly size: number;
}

/**
 * Hidden in the output. Some bases list control tokens such as `<|fim_prefix|>` as ordinary: their form
 * identifies them.
 */
const isHidden = (token: AddedToken): boolean =>
  token.special === true || /^<\|[^|]+\|>$/.test(token.content);

/**
 * Not to be produced by content: also the template's markers, such as DeepSeek's `<｜User｜>` and Gemma's
 * `<start_of_turn>`, which may be ordinary added tokens. White space and single characters are needed for any
 * text.
 */
const isControl = (token: AddedToken, template: string | null): boolean =>
  isHidden(token) ||
  (template?.includes(token.content) === true &&
    token.content.trim() !== '' &&
    token.content.length > String.fromCodePoint(token.content.codePointAt(0)!).length);

/**
 * What `lstrip` and `rstrip` of an added token remove: Unicode's white space, without U+FEFF. Linear in the
 * text.
 */
const BLANKS_FIRST = /^\p{White_Space}+/u;
const BLANKS_LAST = /(?<!\p{White_Space})\p{White_Space}+$/u;

/** Cost of encoding a segment in addition to its characters, in characters. */
const SEGMENT_WORK = 16;

/** @throws TokenizerError */
export function createTokenizer(definition: TokenizerDefinition): Tokenizer {
  const { json, chatTemplate } = definition;
  const control = new Map(
    json.added_tokens
      .filter((token) => isControl(token, chatTemplate))
      .map((token) => [token.content, token]),
  );
  const controlTokens = new Map([...control].map(([content, { id }]) => [content, id]));
  const hidden = new Set(json.added_tokens.filter(isHidden).map(({ id }) => id));
  const encodePlain = plainEncoder(json, controlTokens);
  const splitter = new Splitter([...controlTokens.keys()]);
  const ids = [...Object.values(json.model.vocab), ...json.added_tokens.map((token) => token.id)];
  const size = 1 + ids.reduce((a, b) => Math.max(a, b), -1);
  const bytes = tokenBytesOf(json, size);
  const ofControl = new Set(controlTokens.values());
  let longest = 1;
  for (let id = 0; id < bytes.size; id++)
    if (!ofControl.has(id)) longest = Math.max(longest, bytes.get(id)?.length ?? 0);
  const bytesPerToken = longest * mostShortening(json);

  const byId = new Map([...control.values()].map((token) => [token.id, token]));
  /** Without the white space that adjacent control tokens absorb, as Phi-3's do after them. */
  function stripped(
    text: string,
    before: string | number | undefined,
    after: string | number | undefined,
  ): string {
    const [left, right] = [before, after].map((piece) =>
      typeof piece === 'number' ? byId.get(piece) : undefined,
    );
    const start = left?.rstrip ? text.replace(BLANKS_FIRST, '') : text;
    return right?.lstrip ? start.replace(BLANKS_LAST, '') : start;
  }

  function* encodePieces(given: readonly (string | number)[], limit: number): Chunked<number[] | null> {
    const pieces = given.map((piece, at) =>
      typeof piece === 'number' ? piece : stripped(piece, given[at - 1], given[at + 1]),
    );
    const total = pieces.reduce<number>(
      (sum, piece) => sum + (typeof piece === 'string' ? utf8Length(piece) : 0),
      0,
    );
    if (total > limit * bytesPerToken) return null;
    const ids: number[] = [];
    // What a template writes around each message repeats, and so do the parts of a long run of one character.
    const encoded = {
      text: new Map<string, readonly number[]>(),
      section: new Map<string, readonly number[]>(),
      inside: new Map<string, readonly number[]>(),
    };
    let unpaid = 0;
    for (const [at, piece] of pieces.entries()) {
      const place: Place = at === 0 ? 'text' : 'section';
      if (typeof piece === 'number') ids.push(piece);
      else
        for (const { text, begins } of segments(piece, STEP_CHARACTERS / 2)) {
          if (unpaid >= STEP_CHARACTERS) {
            yield;
            unpaid = 0;
          }
          const there = begins ? place : 'inside';
          const known = encoded[there].get(text);
          const own = known ?? encodePlain(text, there);
          for (const id of own) ids.push(id);
          unpaid += SEGMENT_WORK;
          if (known === undefined) {
            encoded[there].set(text, own);
            unpaid += text.length;
          }
          if (ids.length > limit) break;
        }
      if (ids.length > limit) break;
    }
    return ids;
  }

  function* encodeChunked(
    text: string,
    { allowSpecial, limit }: { allowSpecial: boolean; limit: number },
  ): Chunked<number[] | null> {
    if (!allowSpecial) return yield* encodePieces([text], limit);
    const pieces = yield* splitter.split(text);
    const known = pieces.map((piece) => controlTokens.get(piece) ?? piece);
    yield;
    return yield* encodePieces(known, limit);
  }

  return {
    encode: (text, { allowSpecial }) => finish(encodeChunked(text, { allowSpecial, limit: Infinity })) ?? [],
    encodeChunked,
    encodePieces,
    tokenBytes: (id) => bytes.get(id),
    isSpecial: (id) => hidden.has(id),
    controlTokens,
    bosId: definition.bosId,
    eosIds: definition.eosIds,
    prefixIds: definition.prefixIds,
    chatTemplate,
    size,
  };
}

/** Where a piece begins: at the start of the text, of a section (after a control token), or within one. */
type Place = 'text' | 'section' | 'inside';

type EncodePiece = (piece: string, place: Place) => readonly number[];

/**
 * The encoder of plain text: the library's normalizer, pre-tokenizer and added tokens, with our own merges.
 * @param control texts that must not become a token: they are removed from its vocabulary.
 * @throws TokenizerError
 */
export function plainEncoder(json: TokenizerJson, control: ReadonlyMap<string, number>): EncodePiece {
  const added = json.added_tokens.filter(({ content }) => !control.has(content));
  const vocabulary = new Map(Object.entries(json.model.vocab).filter(([text]) => !control.has(text)));
  for (const { content, id } of added) vocabulary.set(content, id);
  const model = new BytePairModel(json.model, vocabulary);
  const build = (steps: PieceSteps): ((piece: string) => readonly number[]) => {
    const library = buildLibrary({
      normalizer: steps.normalizer,
      pre_tokenizer: originalSteps(steps.pre_tokenizer),
      decoder: json.decoder,
      added_tokens: added,
      post_processor: null,
      model: { type: 'BPE', vocab: {}, merges: [] },
    });
    library.model = model;
    return (piece) => library.encode(piece, { add_special_tokens: false }).ids;
  };
  const steps = { normalizer: json.normalizer, pre_tokenizer: json.pre_tokenizer };
  const built = new Map<string, ReturnType<typeof build>>();
  const encoderAt = (place: Place) => {
    const there = stepsAt(place, steps) as PieceSteps;
    const key = JSON.stringify(there);
    const encoder = built.get(key) ?? build(there);
    built.set(key, encoder);
    return encoder;
  };
  const encoders = { text: encoderAt('text'), section: encoderAt('section'), inside: encoderAt('inside') };
  return (piece, place) => encoders[place](piece);
}

/** Steps applied to a piece before tokenization. */
type PieceSteps = Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer'>;

function buildLibrary(json: object): Library {
  try {
    return new Library(json, { clean_up_tokenization_spaces: false });
  } catch (error) {
    throw new TokenizerError(`the tokenizer cannot be built: ${(error as Error).message}`);
  }
}

/** Steps for a section's beginning, which must not apply within one. */
const BEGINNINGS = new Set(['Prepend', 'Strip']);

/**
 * The same steps without what is done elsewhere only: SentencePiece writes a space at each section's beginning, or,
 * with `"prepend_scheme": "first"`, at the whole text's only (`pre_tokenizers/metaspace.rs`: offset 0 of the original).
 */
function stepsAt(place: Place, step: unknown): unknown {
  if (place === 'text' || typeof step !== 'object' || step === null) return step;
  const inside = place === 'inside';
  if (Array.isArray(step))
    return step.filter((one) => !inside || !isBeginning(one)).map((one) => stepsAt(place, one));
  if (inside && isBeginning(step)) return null;
  return Object.fromEntries(
    Object.entries(step).map(([key, value]) => {
      if (inside && key === 'add_prefix_space') return [key, false];
      if (key === 'prepend_scheme' && (inside || value === 'first')) return [key, 'never'];
      return [key, stepsAt(place, value)];
    }),
  );
}

const isBeginning = (step: unknown): boolean =>
  typeof step === 'object' && step !== null && BEGINNINGS.has((step as { type?: string }).type ?? '');

/** Unicode normalization and lower case: 4 bytes become at least 1, as in U+1D400 to "A". */
const SHORTENING = 4;
const LOSSLESS = new Set(['Sequence', 'ByteLevel', 'Split', 'Digits', 'Metaspace', 'Punctuation', 'Prepend']);
const FORMS = new Set(['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase']);

/**
 * Maximum bytes of a text per byte of its tokens; Infinity if characters can be dropped before tokenization, or
 * if one token can stand for any number of unknown ones.
 */
function mostShortening(json: TokenizerJson): number {
  const byteLevel = JSON.stringify(json.decoder).includes('"ByteLevel"');
  if (!byteLevel && json.model['byte_fallback'] !== true) return Infinity;
  if (json.added_tokens.some((token) => token.special !== true && (token.lstrip || token.rstrip)))
    return Infinity;
  const steps = [...stepsOf(json.normalizer), ...stepsOf(json.pre_tokenizer)];
  const forms = steps.filter(({ type }) => FORMS.has(String(type))).length;
  return steps.every(keepsAll) ? SHORTENING ** Math.min(1, forms) : Infinity;
}

const stepsOf = (step: unknown): Record<string, unknown>[] =>
  Array.isArray(step)
    ? step.flatMap(stepsOf)
    : typeof step !== 'object' || step === null
      ? []
      : [
          step as Record<string, unknown>,
          ...['normalizers', 'pretokenizers'].flatMap((key) =>
            stepsOf((step as Record<string, unknown>)[key]),
          ),
        ];

function keepsAll(step: Record<string, unknown>): boolean {
  const type = String(step['type']);
  if (type === 'Replace')
    return JSON.stringify(step['pattern']) === '{"String":" "}' && step['content'] !== '';
  if (type === 'Split')
    return String(step['behavior']).toLowerCase() !== 'removed' && step['invert'] !== true;
  return LOSSLESS.has(type) || FORMS.has(type);
}

/**
 * Work in steps, so that other work can run in between: each `next()` handles about {@link STEP_CHARACTERS}
 * characters.
 */
export type Chunked<T> = Generator<undefined, T, undefined>;

/** Characters per step: 2 to 8 ms of the slowest text on a slow core. */
export const STEP_CHARACTERS = 4_096;

/** Runs all steps at once: for short texts. */
export function finish<T>(steps: Chunked<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/**
 * Splits texts at certain strings, longest first; those strings are pieces too, and no piece is empty. Searches
 * one window per step, because a text full of their beginnings makes the search slow.
 */
export class Splitter {
  readonly #pattern: RegExp | null;
  readonly #longest: number;

  constructor(strings: readonly string[]) {
    this.#longest = Math.max(0, ...strings.map((text) => text.length));
    this.#pattern =
      strings.length === 0
        ? null
        : new RegExp(
            [...strings]
              .sort((a, b) => b.length - a.length)
              .map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
              .join('|'),
            'g',
          );
  }

  *split(text: string): Chunked<string[]> {
    if (this.#pattern === null) return text === '' ? [] : [text];
    const pieces: string[] = [];
    /** Start of the text that is in no piece yet. */
    let open = 0;
    for (let start = 0; start < text.length;) {
      if (start > 0) yield;
      const end = start + STEP_CHARACTERS;
      // A string that begins in the window is seen completely.
      const window = text.slice(start, end + this.#longest - 1);
      let from = 0;
      for (;;) {
        this.#pattern.lastIndex = from;
        const match = this.#pattern.exec(window);
        if (match === null || start + match.index >= end) break;
        if (start + match.index > open) pieces.push(text.slice(open, start + match.index));
        pieces.push(match[0]);
        from = match.index + match[0].length;
        open = start + from;
      }
      start = Math.max(end, open);
    }
    if (open < text.length) pieces.push(text.slice(open));
    return pieces;
  }
}

/**
 * Places where no byte-level pre-tokenizer joins both sides, no merge crosses and nothing is composed: between
 * a letter and a space before a letter, between a letter and a CJK stop before a letter (Llama 3 keeps the stop
 * with the following letter), and after a line's end.
 */
const SAFE_PLACE = /(?<=\p{L})(?= \p{L}|[。，、；：！？]\p{L})|(?<=\S\n)(?=\p{L})/u;

interface Segment {
  text: string;
  /** Whether the separator begins the text. */
  begins: boolean;
}

/**
 * Splits a text into pieces of `size` to twice as many characters at safe places, so that the tokens stay the
 * same. A text without such a place in `size` characters is split anyway, but not within a surrogate pair.
 */
export function* segments(text: string, size: number): Generator<Segment> {
  let start = 0;
  while (text.length - start > 2 * size) {
    const near = text.slice(start + size, start + 2 * size).search(SAFE_PLACE);
    let end = start + (near === -1 ? 2 * size : size + near);
    if (near === -1 && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1;
    yield { text: text.slice(start, end), begins: start === 0 };
    start = end;
  }
  if (start < text.length) yield { text: text.slice(start), begins: start === 0 };
}

export const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff;

/** @returns bytes of the text in UTF-8. */
export const utf8Length = (text: string): number => utf8.encode(text).length;

const NOTHING = new Uint8Array(0);
const lossy = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** The engine's interface of a tokenizer. */
export const engineTokens = (tokenizer: Tokenizer) => ({
  bytes: (id: number) => tokenizer.tokenBytes(id) ?? NOTHING,
  isSpecial: (id: number) => tokenizer.isSpecial(id),
});

/** A token's own text; U+FFFD if it is a part of a character. */
export const tokenText = (tokenizer: Tokenizer, id: number): string =>
  lossy.decode(tokenizer.tokenBytes(id) ?? NOTHING);

/** A token's text in text completions: parts of characters as `bytes:\xe2\x80`, so that they stay distinct. */
export function tokenKey(tokenizer: Tokenizer, id: number): string {
  const bytes = tokenizer.tokenBytes(id) ?? NOTHING;
  try {
    return strict.decode(bytes);
  } catch {
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
  }
}
