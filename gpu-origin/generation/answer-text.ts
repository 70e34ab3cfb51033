import type { FinishReason } from '../../protocol/completion-answers.ts';

/** What a tokenizer must tell about its tokens. */
export interface TokenBytes {
  /** UTF-8 bytes of a token; may be part of a character. Empty for ids that the vocabulary does not have. */
  bytes(id: number): Uint8Array;
  /** Control tokens, which are no part of the text. */
  isSpecial(id: number): boolean;
}

/** Turns a growing list of tokens into text; emits whole characters only. */
export class Detokenizer {
  readonly #tokens: TokenBytes;
  /** Keeps the beginning of a character until its last byte is there. A BOM is text like any other. */
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokens: TokenBytes) {
    this.#tokens = tokens;
  }

  /**
   * @returns the characters that `id` completes; may be empty. Bytes that are no UTF-8 become U+FFFD.
   * A character that the answer's end cuts in two is never returned.
   */
  push(id: number): string {
    if (this.#tokens.isSpecial(id)) return '';
    return this.#decoder.decode(this.#tokens.bytes(id), { stream: true });
  }
}

/** Finds stop strings in text that comes in pieces; what is returned does not depend on where the pieces end. */
export class StopScanner {
  readonly #stops: readonly string[];
  readonly #longest: number;
  readonly #includes: boolean;
  #held = '';

  /** @param includes whether the answer has the stop string that ends it. */
  constructor(stops: readonly string[], includes = false) {
    this.#includes = includes;
    // Half a surrogate pair never occurs in decoded text; looking for it would cut characters in two.
    this.#stops = stops.filter((stop) => stop.length > 0 && !/\p{Surrogate}/u.test(stop));
    this.#longest = Math.max(0, ...this.#stops.map((stop) => stop.length));
  }

  /**
   * @returns `text`: what is certain to belong to the answer. `stopped`: the stop string that is complete, or null; everything from
   * its beginning on, or from its end on, is dropped. Of several, the one that is complete first counts, the longest of those.
   */
  push(piece: string): { text: string; stopped: string | null } {
    if (this.#longest === 0) return { text: piece, stopped: null };
    const text = this.#held + piece;
    let end = Infinity;
    let start = 0;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0) continue;
      if (at + stop.length < end || (at + stop.length === end && at < start)) {
        end = at + stop.length;
        start = at;
      }
    }
    if (end < Infinity) {
      this.#held = '';
      return { text: text.slice(0, this.#includes ? end : start), stopped: text.slice(start, end) };
    }
    const held = this.#heldLength(text);
    this.#held = text.slice(text.length - held);
    return { text: text.slice(0, text.length - held), stopped: null };
  }

  /** The answer ended otherwise: what was held back belongs to it. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #heldLength(text: string): number {
    for (let length = Math.min(this.#longest - 1, text.length); length > 0; length -= 1) {
      const end = text.slice(text.length - length);
      if (this.#stops.some((stop) => stop.length > length && stop.startsWith(end))) return length;
    }
    return 0;
  }
}

/** @returns whether the answer ends with this token by itself, stop strings apart. */
export function tokenEnds(params: {
  token: number;
  /** Tokens generated so far, this one included. */
  generated: number;
  maxTokens: number;
  eos: ReadonlySet<number>;
  ignoreEos: boolean;
  /** What the request has end it besides. */
  stopTokens?: readonly number[];
}): FinishReason | null {
  if (!params.ignoreEos && params.eos.has(params.token)) return 'stop';
  if (params.stopTokens?.includes(params.token) === true) return 'stop';
  return params.generated >= params.maxTokens ? 'length' : null;
}
