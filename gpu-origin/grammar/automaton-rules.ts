/**
 * Automata as rules, a rule a state. No two choices of a rule begin alike: XGrammar 0.1.27 merges beginnings, and then
 * `"ababa" | "aba"` lets "abababa" through as well.
 */
import {
  byteSequences,
  classOf,
  HIGH,
  lettersOf,
  literal,
  literalOf,
  type Range,
  CHARACTERS_A_STEP,
  LAST_CODE_POINT,
  merged,
  type Rules,
  type Work,
  complement,
  GrammarError,
} from './ebnf.ts';
import {
  type Automaton,
  automatonOf,
  common,
  isEverything,
  type State,
  ANY,
  anyNumberOf,
  type Expression,
} from './automaton.ts';

/** Characters that JSON has short escapes for, in their order, with what writes the letter behind the backslash. */
const SHORT: readonly (readonly [code: number, letter: string])[] = Object.entries({
  '\b': 'b',
  '\t': 't',
  '\n': 'n',
  '\f': 'f',
  '\r': 'r',
  '"': '"',
  '\\': '\\',
}).map(([character, letter]) => [character.charCodeAt(0), literal(letter)]);

/** Characters below 128 that stand for themselves; the mark of the alphabet is no character of an answer. */
const ASCII: readonly Range[] = [
  [0, 0],
  [2, HIGH - 1],
];
const PLAIN: readonly Range[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, HIGH - 1],
];

interface Written {
  rules: Rules;
  /** Between the quotes of a JSON string: characters are escaped, and the closing quote is part of it. */
  inJson: boolean;
}

/** Whole texts that fit an expression; equal expressions share their rules. @throws GrammarError */
export const regexRule = (pattern: string, rules: Rules): string =>
  rules.once(`regex ${pattern}`, () => {
    const { work } = rules;
    const automaton = automatonOf(readRegex(pattern, { anywhere: false, work }), work);
    return automatonRule(automaton, { rules, inJson: false });
  });

/** @returns the rule where it begins. */
export function automatonRule(automaton: Automaton, { rules, inJson }: Written): string {
  const names = automaton.map(() => rules.reserve());
  // Most states of an automaton have the same lists.
  const lists = new Map<readonly Range[], { low: string | null; escaped: readonly string[] }>();
  const listOf = (ranges: readonly Range[]): { low: string | null; escaped: readonly string[] } => {
    const known = lists.get(ranges);
    if (known !== undefined) return known;
    const written = {
      low: ascii(ranges, inJson, rules.work),
      escaped: inJson ? SHORT.flatMap(([code, letter]) => (has(ranges, code) ? [letter] : [])) : [],
    };
    lists.set(ranges, written);
    return written;
  };
  const beyond = new Map<readonly Range[], string>();
  for (const [at, state] of automaton.entries()) {
    const choices = state.accepts ? [inJson ? '"\\""' : '""'] : [];
    const escapes: string[] = [];
    for (const { ranges, to } of state.next) {
      const { low, escaped } = listOf(ranges);
      if (low !== null) choices.push(`${low} ${names[to]!}`);
      for (const letter of escaped) escapes.push(`${letter} ${names[to]!}`);
      // Where every character leads to one state, it may be written by its number: any but halves of characters.
      if (inJson && isEverything(ranges)) escapes.push(`"u" (${NUMBER}) ${names[to]!}`);
    }
    choices.push(...high(state, names, { rules, beyond }));
    if (escapes.length > 0) choices.push(`"\\\\" (${escapes.join(' | ')})`);
    rules.define(names[at]!, choices.join(' | '));
  }
  return names[0]!;
}

/** @returns null when none of these is below 128. */
function ascii(ranges: readonly Range[], inJson: boolean, work: Work): string | null {
  const codes = common(ranges, inJson ? PLAIN : ASCII, work);
  return codes.length === 0 ? null : classOf(codes);
}

const NUMBER = '[0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}';

/** Looks at those below 128 only: `code` is one of them. */
function has(ranges: readonly Range[], code: number): boolean {
  for (const [from, to] of ranges) {
    if (from > code) return false;
    if (to >= code) return true;
  }
  return false;
}

interface Sequence {
  bytes: readonly Range[];
  rule: string;
}

/** One character of these, whatever follows; null when there are none. */
export function setExpression(ranges: readonly Range[], work: Work): string | null {
  const low = ascii(ranges, false, work);
  const sequences = sequencesOf([{ ranges, to: 0 }], [''], work);
  const parts = [
    ...(low === null ? [] : [low]),
    ...(sequences.length === 0 ? [] : [branches(sequences, 0).trim()]),
  ];
  return parts.length === 0 ? null : `(${parts.join(' | ')})`;
}

/** Fewer are written where they are: a rule of its own costs the compiler more. */
const SHARED_SEQUENCES = 4;

function high(
  state: State,
  names: readonly string[],
  { rules, beyond }: { rules: Rules; beyond: Map<readonly Range[], string> },
): string[] {
  const next = state.next.filter(({ ranges }) => ranges.at(-1)![1] >= HIGH);
  const [only, ...others] = next;
  if (only === undefined) return [];
  const all = next.find(({ ranges }) => ranges.some(([from, to]) => from <= HIGH && to === LAST_CODE_POINT));
  // Of one list to one state: what many states have is put into a rule of its own.
  const shared = all ?? (others.length === 0 ? only : undefined);
  if (shared === undefined) return [branches(sequencesOf(next, names, rules.work), 0)];
  const list = all === undefined ? shared.ranges : EVERYTHING;
  let rule = beyond.get(list);
  if (rule === undefined) {
    const sequences = sequencesOf([{ ranges: list, to: 0 }], [''], rules.work);
    const written = branches(sequences, 0);
    rule = sequences.length < SHARED_SEQUENCES ? `(${written})` : rules.add(written);
    beyond.set(list, rule);
  }
  return [`${rule} ${names[shared.to]!}`];
}

const EVERYTHING: readonly Range[] = [[0, LAST_CODE_POINT]];

/** Characters of 128 and more as bytes, in their order. */
function sequencesOf(next: State['next'], names: readonly string[], work: Work): Sequence[] {
  const ranges = next.flatMap(({ ranges, to }) =>
    ranges.flatMap(([from, last]) => (last < HIGH ? [] : [{ from: Math.max(from, HIGH), last, to }])),
  );
  ranges.sort((a, b) => a.from - b.from);
  const sequences = ranges.flatMap(({ from, last, to }) =>
    [...byteSequences(from, last)].map((bytes): Sequence => ({ bytes, rule: names[to]! })),
  );
  // Each is up to eight ends of ranges, and a line of text.
  work.spend(ranges.length + 8 * sequences.length);
  return sequences;
}

/**
 * @param sequences in the order of their characters, none of which is in two: then their first bytes are the same range,
 * or apart.
 * @param depth bytes that they have in common already.
 * @returns what goes on with the next bytes of all, so that each byte leads to one thing.
 */
function branches(sequences: readonly Sequence[], depth: number): string {
  const [first] = sequences;
  if (first!.bytes.length === depth) return first!.rule;
  const bodies = new Map<string, Range[]>();
  for (let at = 0; at < sequences.length;) {
    const [from, to] = sequences[at]!.bytes[depth]!;
    let end = at + 1;
    while (end < sequences.length && sequences[end]!.bytes[depth]![0] === from) end += 1;
    const body = branches(sequences.slice(at, end), depth + 1);
    const ranges = bodies.get(body);
    if (ranges === undefined) bodies.set(body, [[from - HIGH, to - HIGH]]);
    else ranges.push([from - HIGH, to - HIGH]);
    at = end;
  }
  const choices = [...bodies].map(([body, ranges]) => `${classOf(merged(ranges))} ${body}`);
  return choices.length === 1 ? `"\\x01" ${choices[0]!}` : `"\\x01" (${choices.join(' | ')})`;
}

/** One of the texts, as they are. */
export function textsRule(texts: readonly string[], rules: Rules): string {
  // A rule of its own in the end: a rule of nothing but text is written into others, and merged there.
  rules.define('nil', '""');
  return choiceRule(
    [...new Set(texts)].map((text) => ({ text, rule: 'nil' })),
    rules,
  );
}

/** One of the texts, none of which is there twice, and what follows it. */
export function choiceRule(choices: readonly { text: string; rule: string }[], rules: Rules): string {
  for (const { text } of choices) rules.work.spend(1 + Math.ceil(text.length / CHARACTERS_A_STEP));
  const sorted = choices.map(({ text, rule }) => ({ letters: lettersOf(text), rule }));
  sorted.sort((a, b) => order(a.letters, b.letters));
  return rules.add(prefixes(sorted, { depth: 0, level: 1, rules }));
}

interface Choice {
  letters: readonly number[];
  rule: string;
}

function order(some: readonly number[], others: readonly number[]): number {
  const shared = sharedLength(some, others, 0);
  return (some[shared] ?? -1) - (others[shared] ?? -1);
}

function sharedLength(some: readonly number[], others: readonly number[], from: number): number {
  let length = from;
  while (length < some.length && some[length] === others[length]) length += 1;
  return length;
}

/** Choices inside choices: the compiler reads them by functions that call themselves, and dies of some hundreds. */
const MAX_LEVELS = 32;

/**
 * Texts by what they begin with.
 * @param choices sorted, with the first `depth` letters in common.
 */
function prefixes(
  choices: readonly Choice[],
  { depth, level, rules }: { depth: number; level: number; rules: Rules },
): string {
  const written: string[] = [];
  for (let at = 0; at < choices.length;) {
    const { letters, rule } = choices[at]!;
    if (letters.length === depth) {
      written.push(rule);
      at += 1;
      continue;
    }
    let end = at + 1;
    while (end < choices.length && choices[end]!.letters[depth] === letters[depth]) end += 1;
    // Sorted, so what first and last have in common all have.
    const shared = sharedLength(letters, choices[end - 1]!.letters, depth);
    const rest = prefixes(choices.slice(at, end), { depth: shared, level: level + 1, rules });
    written.push(`${literalOf(letters.slice(depth, shared))} ${rest}`);
    at = end;
  }
  if (written.length === 1) return written[0]!;
  const all = written.join(' | ');
  return level % MAX_LEVELS === 0 ? rules.add(all) : `(${all})`;
}

/** Repetitions in a regular expression (`{m,n}`). Each is a state that takes up to 20 ms to compile. */
const MAX_REPETITION = 256;
const MAX_PATTERN = 2_048;
/** Groups nested in one another in a regular expression. Building it recurses for each. */
const MAX_DEPTH = 32;
/**
 * Separate ranges in one character class: Latin's small letters have 145, all emoji 156, all punctuation 199. All
 * letters have 684, but a pattern that lists them is too long.
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
      `has a class of ${ranges.length} separate character ranges; at most ${MAX_RANGES} are supported. ` +
        'Use ranges (a-z) instead of single characters',
    );
  return ranges;
}

/**
 * Reads regular expressions. What cannot constrain text while it is written is refused: nothing is left out.
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
    if (this.#at < this.#source.length) this.#refuse("has a ')' without a '('");
    return expression;
  }

  #alternatives(top: boolean): Expression {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) this.#refuse(`nests groups more than ${MAX_DEPTH} deep`);
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
      if (match === null) this.#refuse("has a '{' that starts no repetition; write '\\{' for the character");
      this.#at += match[0].length;
      const min = Number(match[1]);
      const max = match[2] === undefined ? min : match[3] === '' ? Infinity : Number(match[3]);
      if (min > max) this.#refuse('has a repetition whose minimum exceeds its maximum');
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
        this.#refuse('uses lookaround or inline options, which cannot constrain text while it is generated');
    }
    const expression = this.#alternatives(false);
    if (!this.#take(')')) this.#refuse("has a '(' without a ')'");
    return expression;
  }

  #set(ranges: readonly Range[]): Expression {
    if (ranges.length === 0) this.#refuse('has a character class that matches nothing');
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
        if (from === null || to === null || from > to)
          this.#refuse('has a character range in the wrong order');
        ranges.push([from, to]);
      } else ranges.push(...first);
    }
    this.#work.spend(ranges.length);
    return [...checkClass(negated ? complement(ranges) : merged(ranges))];
  }

  #classMember(): Range[] {
    const character = this.#source[this.#at];
    if (character === undefined) this.#refuse("has a '[' without a ']'");
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
    if (character === 'b' && !inClass) this.#refuse("has '\\b': word boundaries are not supported");
    const control = CONTROLS[character];
    if (control !== undefined) return single(control);
    if (/[1-9kpPBcAzZG]/.test(character)) this.#refuse(`has '\\${character}', which is not supported`);
    return single(character.codePointAt(0)!);
  }

  #hex(digits: number): number {
    const text = this.#source.slice(this.#at, this.#at + digits).join('');
    if (!/^[0-9a-fA-F]+$/.test(text) || text.length !== digits) this.#refuse('has an invalid character code');
    this.#at += digits;
    return Number.parseInt(text, 16);
  }

  #braced(): number {
    const match = /^\{([0-9a-fA-F]{1,6})\}/.exec(this.#source.slice(this.#at, this.#at + 8).join(''));
    const code = match === null ? Infinity : Number.parseInt(match[1]!, 16);
    if (match === null || code > LAST_CODE_POINT) this.#refuse('has an invalid character code');
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
