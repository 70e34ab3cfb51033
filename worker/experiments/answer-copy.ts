/** Bytes of an answer as they go by. Of one that is too long nothing is kept: a beginning cannot be compared. */
export class AnswerCopy {
  readonly #maxBytes: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #kept = true;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  push(chunk: Uint8Array): void {
    if (!this.#kept) return;
    this.#bytes += chunk.length;
    // A copy: whoever has the chunk next may hand its memory on.
    if (this.#bytes <= this.#maxBytes) this.#pieces.push(chunk.slice());
    else this.forget();
  }

  /** From now on nothing is kept. */
  forget(): void {
    this.#kept = false;
    this.#pieces = [];
  }

  /** @returns null when it was too long, or forgotten. */
  bytes(): Uint8Array | null {
    if (!this.#kept) return null;
    const all = new Uint8Array(this.#bytes);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}
