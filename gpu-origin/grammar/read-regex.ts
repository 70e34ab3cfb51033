/** Reads regular expressions. What cannot be held to while text is written is refused: nothing is left out. */
import type { Range } from './alphabet.ts';
import { ANY, anyNumberOf, type Expression } from './automaton.ts';
import { complement, GrammarError, LAST_CODE_POINT, merged, type Work } from './ebnf.ts';

/** Repetitions are states, each of which takes up to 20 ms to compile. */
const MAX_REPETITION = 256;
const MAX_PATTERN = 2_048;
/** Groups inside one another: the automaton is built by a function that calls itself for each. */
const MAX_DEPTH = 32;
/**
 * Of one class, once they are merged: `\S` has 11, Latin's small letters 145, all emoji 156, all punctuation 199. All
 * letters are 684, but written out they do not fit a pattern.
 */
const MAX_RANGES = 256;

const DIGIT: Range[] = [[0x30, 0x39]];
const WORD: Range[] = [...DIGIT, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
/** As JavaScript's `\s`. */
const SPACE: Range[] = [
  ...([
    [0x09, 0x0d],
    [0x20, 0x20],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
  ] as Range[]),
  ...([
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ] as Range[]),
];
const LINE_ENDS: Range[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CLASSES: Record<string, Range[]> = {
  d: DIGIT,
  w: WORD,
  s: SPACE,
  D: complement(DIGIT),
  W: complement(WORD),
  S: complement(SPACE),
};
const CONTROLS: Record<string, number> = { n: 10, r: 13, t: 9, f: 12, v: 11, b: 8, '0': 0 };

/** @throws GrammarError when a class has too many ranges. */
export function checkClass(ranges: readonly Range[]): readonly Range[] {
  if (ranges.length > MAX_RANGES)
    throw new GrammarError(
      `has a class of ${ranges.length} separate ranges of characters, and at most ${MAX_RANGES} are understood; name ranges (a-z) instead of single characters`,
    );
  return ranges;
}

/**
 * @param anywhere a match may stand anywhere in the text, as JSON Schema has it; else it is the whole text.
 * @throws GrammarError
 */
export function readRegex(
  pattern: string,
  { anywhere, work }: { anywhere: boolean; work: Work },
): Expression {
  if (pattern.length > MAX_PATTERN) throw new GrammarError(`is longer than ${MAX_PATTERN} characters`);
  work.spend(pattern.length);
  return new RegexReader(pattern, anywhere, work).read();
}

class RegexReader {
  readonly #source: string[];
  readonly #anywhere: boolean;
  readonly #work: Work;
  #at = 0;
  #depth = 0;

  constructor(pattern: string, anywhere: boolean, work: Work) {
    this.#source = [...pattern];
    this.#anywhere = anywhere;
    this.#work = work;
  }

  read(): Expression {
    const expression = this.#alternatives(true);
    if (this.#at < this.#source.length) this.#refuse("has a ')' without its '('");
    return expression;
  }

  #alternatives(top: boolean): Expression {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) this.#refuse(`has groups more than ${MAX_DEPTH} deep`);
    const parts = [this.#branch(top)];
    while (this.#take('|')) parts.push(this.#branch(top));
    this.#depth -= 1;
    return parts.length === 1 ? parts[0]! : { kind: 'choice', parts };
  }

  /** @param top anchors have a meaning at its ends. */
  #branch(top: boolean): Expression {
    const open = top && this.#anywhere;
    const parts: Expression[] = [];
    const begins = top && this.#take('^');
    if (open && !begins) parts.push(anyNumberOf(ANY));
    let ends = false;
    for (;;) {
      const next = this.#source[this.#at];
      if (next === undefined || next === '|' || next === ')') break;
      const after = this.#source[this.#at + 1];
      if (next === '$' && top && (after === undefined || after === '|')) {
        this.#at += 1;
        ends = true;
        break;
      }
      parts.push(this.#quantified());
    }
    if (open && !ends) parts.push(anyNumberOf(ANY));
    return parts.length === 1 ? parts[0]! : { kind: 'sequence', parts };
  }

  #quantified(): Expression {
    const part = this.#atom();
    const count = this.#quantifier();
    return count === null ? part : { kind: 'repeat', part, min: count[0], max: count[1] };
  }

  #quantifier(): [min: number, max: number] | null {
    let count: [number, number] | null = null;
    if (this.#take('*')) count = [0, Infinity];
    else if (this.#take('+')) count = [1, Infinity];
    else if (this.#take('?')) count = [0, 1];
    else if (this.#source[this.#at] === '{') {
      const match = /^\{(\d{1,6})(?:(,)(\d{0,6}))?\}/.exec(
        this.#source.slice(this.#at, this.#at + 16).join(''),
      );
      if (match === null) this.#refuse("has a '{' that begins no repetition; write '\\{' for the character");
      this.#at += match[0].length;
      const min = Number(match[1]);
      const max = match[2] === undefined ? min : match[3] === '' ? Infinity : Number(match[3]);
      if (min > max) this.#refuse('has a repetition whose least is above its most');
      if (min > MAX_REPETITION || (max !== Infinity && max > MAX_REPETITION))
        this.#refuse(`repeats more than ${MAX_REPETITION} times`);
      count = [min, max];
    }
    // Lazy or not: which text matches is the same.
    if (count !== null) this.#take('?');
    if (count !== null && ['*', '+', '?', '{'].includes(this.#source[this.#at] ?? ''))
      this.#refuse('repeats a repetition');
    return count;
  }

  #atom(): Expression {
    const character = this.#source[this.#at]!;
    this.#at += 1;
    switch (character) {
      case '(':
        return this.#group();
      case '[':
        return this.#set(this.#class());
      case '.':
        return this.#set(complement(LINE_ENDS));
      case '\\':
        return this.#set(this.#escape(false));
      case '^':
      case '$':
        return this.#refuse(`has a '${character}' that is not at its end`);
      case '*':
      case '+':
      case '?':
      case '{':
        return this.#refuse(`has a '${character}' with nothing before it`);
      default:
        return this.#set(single(character.codePointAt(0)!));
    }
  }

  #group(): Expression {
    if (this.#take('?')) {
      const named = /^<[A-Za-z_]\w*>/.exec(this.#source.slice(this.#at, this.#at + 66).join(''));
      if (named !== null) this.#at += named[0].length;
      else if (!this.#take(':'))
        this.#refuse('looks ahead or behind, or has options: that cannot be held to while text is written');
    }
    const expression = this.#alternatives(false);
    if (!this.#take(')')) this.#refuse("has a '(' without its ')'");
    return expression;
  }

  #set(ranges: readonly Range[]): Expression {
    if (ranges.length === 0) this.#refuse('has a class that no character is in');
    return { kind: 'set', ranges };
  }

  #class(): Range[] {
    const negated = this.#take('^');
    const ranges: Range[] = [];
    while (!this.#take(']')) {
      const first = this.#classMember();
      if (this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']') {
        this.#at += 1;
        const last = this.#classMember();
        const [from, to] = [oneCode(first), oneCode(last)];
        if (from === null || to === null || from > to) this.#refuse('has a range that goes nowhere');
        ranges.push([from, to]);
      } else ranges.push(...first);
    }
    this.#work.spend(ranges.length);
    return [...checkClass(negated ? complement(ranges) : merged(ranges))];
  }

  #classMember(): Range[] {
    const character = this.#source[this.#at];
    if (character === undefined) this.#refuse("has a '[' without its ']'");
    this.#at += 1;
    return character === '\\' ? this.#escape(true) : single(character.codePointAt(0)!);
  }

  #escape(inClass: boolean): Range[] {
    const character = this.#source[this.#at];
    if (character === undefined) this.#refuse('ends with a backslash');
    this.#at += 1;
    const known = CLASSES[character];
    if (known !== undefined) return known;
    if (character === 'x') return single(this.#hex(2));
    if (character === 'u') return single(this.#source[this.#at] === '{' ? this.#braced() : this.#hex(4));
    if (character === 'b' && !inClass) this.#refuse("has '\\b': the borders of words cannot be held to");
    const control = CONTROLS[character];
    if (control !== undefined) return single(control);
    if (/[1-9kpPBcAzZG]/.test(character)) this.#refuse(`has '\\${character}', which cannot be held to`);
    return single(character.codePointAt(0)!);
  }

  #hex(digits: number): number {
    const text = this.#source.slice(this.#at, this.#at + digits).join('');
    if (!/^[0-9a-fA-F]+$/.test(text) || text.length !== digits)
      this.#refuse('has a character code that is none');
    this.#at += digits;
    return Number.parseInt(text, 16);
  }

  #braced(): number {
    const match = /^\{([0-9a-fA-F]{1,6})\}/.exec(this.#source.slice(this.#at, this.#at + 8).join(''));
    const code = match === null ? Infinity : Number.parseInt(match[1]!, 16);
    if (match === null || code > LAST_CODE_POINT) this.#refuse('has a character code that is none');
    this.#at += match[0].length;
    return code;
  }

  #take(character: string): boolean {
    if (this.#source[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #refuse(what: string): never {
    throw new GrammarError(what);
  }
}

const single = (code: number): Range[] => [[code, code]];
const oneCode = (ranges: readonly Range[]): number | null => {
  const [range] = ranges;
  return ranges.length === 1 && range !== undefined && range[0] === range[1] ? range[0] : null;
};
