/**
 * Where no byte-level pre-tokenizer joins what stands on both sides, no merge crosses and nothing is composed: between
 * a letter and a space before a letter, between a letter and a CJK stop before a letter (Llama 3 keeps the stop with
 * the letter behind it), and behind a line's end.
 */
const SAFE_PLACE = /(?<=\p{L})(?= \p{L}|[。，、；：！？]\p{L})|(?<=\S\n)(?=\p{L})/u;

export interface Segment {
  text: string;
  /** Whether what was cut begins with it. */
  begins: boolean;
}

/**
 * Cuts a text into pieces of `size` to twice as many characters at safe places, so that the tokens stay the same. A
 * text without such a place in `size` characters is cut there all the same, but not in a surrogate pair.
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
