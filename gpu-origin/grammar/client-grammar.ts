/**
 * A client's grammar in XGrammar's EBNF, its texts and classes put into the alphabet (alphabet.ts says why); the rest
 * is the client's own, and the compiler says what is wrong with it.
 */
import { literal, type Range } from './alphabet.ts';
import { setExpression } from './automaton-rules.ts';
import { complement, GrammarError, merged } from './ebnf.ts';

/** Each is a state; a thousand of them take seconds. */
const MAX_REPETITION = 256;

const ESCAPES: Record<string, string> = {
  ...{ n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v', a: '\x07', e: '\x1b', '0': '\0' },
  ...Object.fromEntries([...'"\\\'?-]['].map((character) => [character, character])),
};

/** @throws GrammarError for texts and classes that do not end, escapes that are none, repetitions that are too long. */
export function inOurAlphabet(grammar: string): string {
  const reader = new Reader([...grammar]);
  let written = '';
  for (let next = reader.take(); next !== null; next = reader.take()) {
    if (next === '"') written += literal(reader.text());
    else if (next === '[') written += reader.set();
    else if (next === '#') reader.skipLine();
    else if (next === '{') written += `{${reader.repetition()}`;
    else written += next;
  }
  return written;
}

class Reader {
  readonly #source: readonly string[];
  #at = 0;

  constructor(source: readonly string[]) {
    this.#source = source;
  }

  take(): string | null {
    const next = this.#source[this.#at] ?? null;
    if (next !== null) this.#at += 1;
    return next;
  }

  skipLine(): void {
    while (this.#at < this.#source.length && this.#source[this.#at] !== '\n') this.#at += 1;
  }

  text(): string {
    let text = '';
    for (;;) {
      const next = this.take();
      if (next === null || next === '\n') throw new GrammarError('has a text without its closing quote');
      if (next === '"') return text;
      text += next === '\\' ? this.#escape() : next;
    }
  }

  set(): string {
    const negated = this.#source[this.#at] === '^';
    if (negated) this.#at += 1;
    const ranges: Range[] = [];
    for (;;) {
      const first = this.#member();
      if (first === null) break;
      const dash = this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']';
      if (dash) this.#at += 1;
      const last = dash ? this.#member() : first;
      if (last === null || last < first) throw new GrammarError('has a class with a range that goes nowhere');
      ranges.push([first, last]);
    }
    const expression = setExpression(negated ? complement(ranges) : merged(ranges));
    if (expression === null) throw new GrammarError('has a class that no character is in');
    return expression;
  }

  /** What stands between the brackets of a repetition. */
  repetition(): string {
    let text = '';
    for (let next = this.take(); next !== null && next !== '}'; next = this.take()) text += next;
    if ((text.match(/\d+/g) ?? []).some((count) => Number(count) > MAX_REPETITION))
      throw new GrammarError(`repeats more than ${MAX_REPETITION} times`);
    return `${text}}`;
  }

  /** @returns null at the end of the class. */
  #member(): number | null {
    const next = this.take();
    if (next === null || next === '\n') throw new GrammarError("has a class without its ']'");
    if (next === ']') return null;
    return (next === '\\' ? this.#escape() : next).codePointAt(0)!;
  }

  #escape(): string {
    const letter = this.take();
    const digits = letter === 'x' ? 2 : letter === 'u' ? 4 : letter === 'U' ? 8 : 0;
    if (digits > 0) {
      const code = this.#source.slice(this.#at, this.#at + digits).join('');
      const value = Number.parseInt(code, 16);
      if (!/^[0-9a-fA-F]+$/.test(code) || code.length !== digits || value > 0x10ffff)
        throw new GrammarError('has a character code that is none');
      this.#at += digits;
      return String.fromCodePoint(value);
    }
    const known = letter === null ? undefined : ESCAPES[letter];
    if (known === undefined) throw new GrammarError(`has an escape '\\${letter ?? ''}', which is none`);
    return known;
  }
}
