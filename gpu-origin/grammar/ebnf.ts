/**
 * The language that grammars are compiled from: XGrammar's EBNF (W3C's, with C's escapes), and its alphabet. XGrammar's
 * classes of characters are right below 128 only (0.1.27 lets `[\u4e00-\u9fff]` match every token), so tokens and
 * grammars are given to it in ASCII: a byte of 128 and more is U+0001 and the byte less 128. U+0001 itself is in no
 * constrained answer.
 */
import type { GrammarTokens } from './ports.ts';

/** What is asked for cannot be written as a grammar; the message is for the client. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';
  /** Of what is to blame, below the field that has the constraint. */
  readonly path: readonly PropertyKey[];
  /** It means something, and this server cannot hold answers to it. */
  readonly unsupported: boolean;

  constructor(message: string, path: readonly PropertyKey[] = [], unsupported = false) {
    super(message);
    this.path = path;
    this.unsupported = unsupported;
  }
}

/** Puts the place to an error of what knows only its value. */
export function atPath<T>(path: readonly PropertyKey[], make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof GrammarError && error.path.length === 0
      ? new GrammarError(error.message, path, error.unsupported)
      : error;
  }
}

/** A keyword that is known, or may be to somebody. */
export const unsupportedConstraint = (path: readonly PropertyKey[]): GrammarError =>
  new GrammarError('is a keyword that this server does not support', path, true);

/**
 * Steps of work for the grammar of one request, all schemas, patterns and functions together: a tenth of a second.
 * Our own test schemas need 2,700 at most, `format: uri` 12,100, 100 numbers with bounds 75,000.
 */
// A step: a part visited, a range cut, a pair of states, eight characters read or written. OpenAI's own schemas need
// 4,100, a tool of ours in 128 variants 16,000, an object of 500 properties with additional ones 22,000, six texts with
// a `maxLength` of 200 to 206 45,000.
export const MAX_WORK = 300_000;

/** Counts the work of one request, and ends it. */
export class Work {
  #spent = 0;

  get spent(): number {
    return this.#spent;
  }

  get isSpent(): boolean {
    return this.#spent > MAX_WORK;
  }

  /** @throws GrammarError when the request has cost too much. */
  spend(steps: number): void {
    this.#spent += steps;
    if (this.#spent > MAX_WORK)
      throw new GrammarError(
        'takes too long to turn into a grammar; shorten lists, and repetitions and lengths with bounds',
        [],
        true,
      );
  }
}

export const LAST_CODE_POINT = 0x10ffff;

/** Larger grammars take seconds to compile and megabytes to hold. */
export const MAX_GRAMMAR_CHARACTERS = 400_000;

/**
 * Parts of a grammar with its repetitions written out. The compiler takes one or two seconds for this many, a minute
 * for 400,000.
 */
export const MAX_WRITTEN_OUT = 65_536;

/** Characters read or written that count as one step of work. */
export const CHARACTERS_A_STEP = 8;

/** Rules in the making. Equal bodies share a rule. */
export class Rules {
  readonly work: Work;
  readonly #bodies = new Map<string, string>();
  readonly #names = new Map<string, string>();
  readonly #made = new Map<string, string>();
  #characters = 0;
  #writtenOut = 0;
  #next = 0;

  constructor(work = new Work()) {
    this.work = work;
  }

  /** @returns the rule's name. @throws GrammarError when there are too many. */
  add(body: string): string {
    const known = this.#names.get(body);
    if (known !== undefined) return known;
    const name = this.reserve();
    this.define(name, body);
    this.#names.set(body, name);
    return name;
  }

  /** @param make called for the first of equal keys only. @returns the rule that it made. */
  once(key: string, make: () => string): string {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const rule = make();
    this.#made.set(key, rule);
    return rule;
  }

  /** A name to be defined later, for what contains itself. */
  reserve(): string {
    const name = `r${this.#next}`;
    this.#next += 1;
    return name;
  }

  define(name: string, body: string): void {
    this.work.spend(1 + Math.ceil(body.length / CHARACTERS_A_STEP));
    this.#bodies.set(name, body);
    this.#characters += body.length + 16;
    if (this.#characters > MAX_GRAMMAR_CHARACTERS) throw tooLarge();
  }

  /** @returns `count` as it stands in a repetition. @throws GrammarError when there are too many in all. */
  times(count: number): number {
    this.#writtenOut += count;
    if (this.#writtenOut > MAX_WRITTEN_OUT)
      throw new GrammarError(
        `has lists of more than ${MAX_WRITTEN_OUT} items in total; lower 'maxItems', or remove it`,
      );
    return count;
  }

  /** Leaves no rule behind when `make` throws; the work stays spent. */
  attempt<T>(make: () => T): T {
    const kept = [this.#bodies, this.#names, this.#made].map((map) => ({ map, size: map.size }));
    const [characters, writtenOut] = [this.#characters, this.#writtenOut];
    try {
      return make();
    } catch (error) {
      for (const { map, size } of kept) for (const key of [...map.keys()].slice(size)) map.delete(key);
      this.#characters = characters;
      this.#writtenOut = writtenOut;
      throw error;
    }
  }

  /** @param root what an answer is. */
  text(root: string): string {
    const rules = [...this.#bodies].map(([name, body]) => `${name} ::= ${body}\n`);
    return `root ::= ${root}\n${rules.join('')}`;
  }
}

export const tooLarge = (): GrammarError =>
  new GrammarError('is too large: it needs more rules than this server compiles. Shorten it or its lists');

/** Everything else. */
export function complement(ranges: readonly Range[]): Range[] {
  const rest: Range[] = [];
  let next = 0;
  for (const [from, to] of merged(ranges)) {
    if (from > next) rest.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= LAST_CODE_POINT) rest.push([next, LAST_CODE_POINT]);
  return rest;
}

/** Sorted, and none touches another. */
export function merged(ranges: readonly Range[]): Range[] {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const kept: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = kept.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else kept.push([from, to]);
  }
  return kept;
}

/** Code points, both ends included. */
export type Range = readonly [from: number, to: number];

const MARK = 1;
/** Bytes from here on are written as two. */
export const HIGH = 0x80;
const SURROGATES: Range = [0xd800, 0xdfff];
/** Last code points of one, two, three and four bytes. */
const LENGTHS = [0x7f, 0x7ff, 0xffff, 0x10ffff];
const utf8 = new TextEncoder();

/** A token's bytes as grammars see them. */
export function inAlphabet(bytes: Uint8Array): Uint8Array {
  if (bytes.includes(MARK)) return new Uint8Array(0);
  if (!bytes.some((byte) => byte >= HIGH)) return bytes;
  return Uint8Array.from([...bytes].flatMap((byte) => (byte < HIGH ? [byte] : [MARK, byte - HIGH])));
}

/** A text as grammars see it, bytes below 128. */
export const lettersOf = (text: string): number[] => [...inAlphabet(utf8.encode(text))];

/** @returns what matches exactly these bytes of the alphabet; '""' for none. */
export function literalOf(letters: readonly number[]): string {
  let text = '';
  let afterEscape = false;
  for (const letter of letters) {
    // An escape takes in every digit behind it.
    afterEscape = isEscaped(letter) || (afterEscape && /[0-9a-f]/i.test(String.fromCharCode(letter)));
    text += afterEscape ? hex(letter) : plain(letter);
  }
  return `"${text}"`;
}

/** @returns a text that matches itself. */
export const literal = (text: string): string => literalOf(lettersOf(text));

/** One byte of these, of those below 128. */
export const classOf = (ranges: readonly Range[]): string =>
  `[${ranges.map(([from, to]) => (from === to ? hex(from) : `${hex(from)}-${hex(to)}`)).join('')}]`;

const hex = (code: number): string => `\\x${code.toString(16).padStart(2, '0')}`;

const isEscaped = (byte: number): boolean => byte < 0x20 || byte >= 0x7f;

function plain(byte: number): string {
  const character = String.fromCharCode(byte);
  if (character === '"' || character === '\\') return `\\${character}`;
  return isEscaped(byte) ? hex(byte) : character;
}

/** UTF-8 of a range of code points as sequences of ranges of bytes, as the crate utf8-ranges makes them. */
export function* byteSequences(from: number, to: number): Generator<Range[]> {
  const [low, high] = SURROGATES;
  if (from <= high && to >= low) {
    if (from < low) yield* byteSequences(from, low - 1);
    if (to > high) yield* byteSequences(high + 1, to);
    return;
  }
  const split = LENGTHS.find((last) => from <= last && last < to) ?? splitOf(from, to);
  if (split !== null) {
    yield* byteSequences(from, split);
    yield* byteSequences(split + 1, to);
    return;
  }
  const [first, last] = [bytesOf(from), bytesOf(to)];
  yield first.map((byte, at) => [byte, last[at]!] as const);
}

/** Where a range is cut, so that its bytes are ranges that do not depend on each other. */
function splitOf(from: number, to: number): number | null {
  for (let bits = 6; bits < 24; bits += 6) {
    const mask = 2 ** bits - 1;
    if ((from & ~mask) === (to & ~mask)) continue;
    if ((from & mask) !== 0) return from | mask;
    if ((to & mask) !== mask) return (to & ~mask) - 1;
  }
  return null;
}

const bytesOf = (code: number): number[] => [...utf8.encode(String.fromCodePoint(code))];

const NOTHING = new Uint8Array(0);

/** What a grammar needs to know of a tokenizer: tokens that are not shown are in no grammar. */
export function grammarTokens(
  tokenizer: {
    tokenBytes(id: number): Uint8Array | null;
    isSpecial(id: number): boolean;
    readonly eosIds: readonly number[];
  },
  vocabSize: number,
): GrammarTokens {
  return {
    vocabSize,
    bytes: () =>
      Array.from({ length: vocabSize }, (_, id) =>
        tokenizer.isSpecial(id) ? NOTHING : inAlphabet(tokenizer.tokenBytes(id) ?? NOTHING),
      ),
    eosIds: tokenizer.eosIds,
  };
}
