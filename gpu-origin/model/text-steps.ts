/** Long texts a step at a time: how work on them is cut, and where they may be. */

/**
 * Work cut into steps, so that whoever runs it can do other things in between: each `next()` handles about
 * {@link STEP_CHARACTERS} characters.
 */
export type Steps<T> = Generator<undefined, T, undefined>;

/** Characters handled in a step: 2 to 8 ms of the slowest text on a slow core. */
export const STEP_CHARACTERS = 4_096;

/** Runs all steps at once: for texts that are known to be short. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/**
 * Cuts texts at certain strings, the longest first; those strings are pieces too, and no piece is empty. Searches a
 * window a step: a text full of beginnings of them makes the search slow.
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

  *split(text: string): Steps<string[]> {
    if (this.#pattern === null) return text === '' ? [] : [text];
    const pieces: string[] = [];
    /** Where the text begins that is in no piece yet. */
    let open = 0;
    for (let start = 0; start < text.length;) {
      if (start > 0) yield;
      const end = start + STEP_CHARACTERS;
      // A string that begins in the window is seen whole.
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
 * Where no byte-level pre-tokenizer joins what stands on both sides, no merge crosses and nothing is composed: between
 * a letter and a space before a letter, between a letter and a CJK stop before a letter (Llama 3 keeps the stop with
 * the letter behind it), and behind a line's end.
 */
const SAFE_PLACE = /(?<=\p{L})(?= \p{L}|[。，、；：！？]\p{L})|(?<=\S\n)(?=\p{L})/u;

interface Segment {
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

const utf8 = new TextEncoder();

/** @returns bytes of the text in UTF-8. */
export const utf8Length = (text: string): number => utf8.encode(text).length;
