import { Tokenizer as Library } from '@huggingface/tokenizers';
import { BytePairModel } from './byte-pair-model.ts';
import {
  type AddedToken,
  originalSteps,
  tokenBytesOf,
  type TokenizerDefinition,
  TokenizerError,
  type TokenizerJson,
} from './tokenizer-definition.ts';

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
  const longest = bytes.reduce(
    (most, token, id) => Math.max(most, ofControl.has(id) ? 0 : (token?.length ?? 0)),
    1,
  );
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
    tokenBytes: (id) => bytes[id] ?? null,
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

const utf8 = new TextEncoder();

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
