import { STEP_CHARACTERS, type Steps } from './tokenizer-steps.ts';

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
