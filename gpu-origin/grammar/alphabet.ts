import type { GrammarTokens } from './ports.ts';

/**
 * The alphabet that grammars are written in. XGrammar's classes of characters are right below 128 only (0.1.27 lets
 * `[\u4e00-\u9fff]` match every token), so tokens and grammars are given to it in ASCII: a byte of 128 and more is
 * U+0001 and the byte less 128. U+0001 itself is in no answer that is held to a grammar.
 */

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
  const bytes = Array.from({ length: vocabSize }, (_, id) =>
    tokenizer.isSpecial(id) ? NOTHING : inAlphabet(tokenizer.tokenBytes(id) ?? NOTHING),
  );
  return { bytes, eosIds: tokenizer.eosIds };
}
