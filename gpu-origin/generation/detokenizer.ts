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
