import stringWidth from 'string-width';

/** Breaks text between words as it comes, piece by piece; a word is held until it is whole. */
export class FlowText {
  readonly #width: number;
  #column = 0;
  #spaces = '';
  #word = '';

  /** @param width columns of the terminal. */
  constructor(width: number) {
    this.#width = width;
  }

  /** @returns what may be written now. */
  push(piece: string): string {
    let out = '';
    for (const letter of piece) {
      if (letter === '\n') {
        out += `${this.#takeWord()}\n`;
        this.#column = 0;
        this.#spaces = '';
      } else if (letter === ' ') {
        out += this.#takeWord();
        this.#spaces += letter;
      } else this.#word += letter;
    }
    return out;
  }

  /** @returns the last word. */
  end(): string {
    return this.#takeWord();
  }

  #takeWord(): string {
    if (this.#word === '') return '';
    const word = this.#word;
    const width = stringWidth(word);
    const breaks = this.#column > 0 && this.#column + this.#spaces.length + width > this.#width;
    const out = breaks ? `\n${word}` : this.#spaces + word;
    const end = breaks ? width : this.#column + this.#spaces.length + width;
    // A word that is wider than a line is broken by the terminal.
    this.#column = end <= this.#width ? end : end % this.#width || this.#width;
    this.#spaces = '';
    this.#word = '';
    return out;
  }
}
