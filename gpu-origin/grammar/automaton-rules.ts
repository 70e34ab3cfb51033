/**
 * Automata as rules, a rule a state. No two choices of a rule begin alike: XGrammar 0.1.27 merges beginnings, and then
 * `"ababa" | "aba"` lets "abababa" through as well.
 */
import { byteSequences, classOf, HIGH, lettersOf, literal, literalOf, type Range } from './alphabet.ts';
import type { Automaton, State } from './automaton.ts';
import { LAST_CODE_POINT, type Rules } from './ebnf.ts';

/** What stands in a JSON string as it is, below 128: no quote, no backslash, no control character. */
const isPlain = (code: number): boolean => code >= 0x20 && code !== 0x22 && code !== 0x5c;

/** Characters that JSON has short escapes for, by the letter behind the backslash. */
const SHORT: ReadonlyMap<number, string> = new Map(
  Object.entries({ '"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't' }).map(
    ([character, letter]) => [character.charCodeAt(0), letter],
  ),
);

interface Written {
  rules: Rules;
  /** Between the quotes of a JSON string: characters are escaped, and the closing quote is part of it. */
  inJson: boolean;
}

/** @returns the rule where it begins. */
export function automatonRule(automaton: Automaton, { rules, inJson }: Written): string {
  const names = automaton.map(() => rules.reserve());
  for (const [at, state] of automaton.entries()) {
    const choices = [
      ...(state.accepts ? [inJson ? '"\\""' : '""'] : []),
      ...ascii(state, names, inJson),
      ...high(state, names, rules),
      ...(inJson ? escapes(state, names) : []),
    ];
    rules.define(names[at]!, choices.join(' | '));
  }
  return names[0]!;
}

function ascii(state: State, names: readonly string[], inJson: boolean): string[] {
  return state.next.flatMap(({ ranges, to }) => {
    const codes: Range[] = [];
    for (const [from, last] of ranges)
      for (let code = from; code <= Math.min(last, HIGH - 1); code += 1) {
        // The mark of the alphabet is no character of an answer.
        if (code === 1 || (inJson && !isPlain(code))) continue;
        const before = codes.at(-1);
        if (before !== undefined && before[1] === code - 1) codes[codes.length - 1] = [before[0], code];
        else codes.push([code, code]);
      }
    return codes.length === 0 ? [] : [`${classOf(codes)} ${names[to]!}`];
  });
}

function escapes(state: State, names: readonly string[]): string[] {
  const choices = state.next.flatMap(({ ranges, to }) =>
    [...SHORT]
      .filter(([code]) => ranges.some(([from, last]) => from <= code && code <= last))
      .map(([, letter]) => `${literal(letter)} ${names[to]!}`),
  );
  const [only, ...others] = state.next;
  // Where every character leads to one state, it may be written by its number: any but halves of characters.
  if (only !== undefined && others.length === 0 && isEverything(only.ranges))
    choices.push(`"u" (${NUMBER}) ${names[only.to]!}`);
  return choices.length === 0 ? [] : [`"\\\\" (${choices.join(' | ')})`];
}

const NUMBER = '[0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}';

const isEverything = ([first, ...others]: readonly Range[]): boolean =>
  first !== undefined && others.length === 0 && first[0] === 0 && first[1] === LAST_CODE_POINT;

interface Sequence {
  bytes: readonly Range[];
  rule: string;
}

/** One character of these, whatever follows; null when there are none. */
export function setExpression(ranges: readonly Range[]): string | null {
  const state: State = { accepts: false, next: [{ ranges, to: 0 }] };
  const parts = [...ascii(state, [''], false), ...high(state, [''], null)].map((part) => part.trim());
  return parts.length === 0 ? null : `(${parts.join(' | ')})`;
}

/** @param rules where what many states have is put. */
function high(state: State, names: readonly string[], rules: Rules | null): string[] {
  const all = state.next.find(({ ranges }) =>
    ranges.some(([from, to]) => from <= HIGH && to === LAST_CODE_POINT),
  );
  if (all !== undefined && rules !== null) {
    const bytes = [...byteSequences(HIGH, LAST_CODE_POINT)];
    return [`${rules.add(branches(bytes.map((one) => ({ bytes: one, rule: '' }))))} ${names[all.to]!}`];
  }
  const sequences = state.next.flatMap(({ ranges, to }) =>
    ranges.flatMap(([from, last]) =>
      last < HIGH
        ? []
        : [...byteSequences(Math.max(from, HIGH), last)].map((bytes): Sequence => ({
            bytes,
            rule: names[to]!,
          })),
    ),
  );
  return sequences.length === 0 ? [] : [branches(sequences)];
}

/** @returns what goes on with the first bytes of all, cut so that each byte leads to one thing. */
function branches(sequences: readonly Sequence[]): string {
  const [first] = sequences;
  if (first!.bytes.length === 0) return first!.rule;
  const borders = new Set(sequences.flatMap(({ bytes }) => [bytes[0]![0], bytes[0]![1] + 1]));
  const sorted = [...borders].sort((a, b) => a - b);
  const bodies = new Map<string, Range[]>();
  for (const [at, from] of sorted.slice(0, -1).entries()) {
    const here = sequences.filter(({ bytes }) => bytes[0]![0] <= from && from <= bytes[0]![1]);
    if (here.length === 0) continue;
    const body = branches(here.map(({ bytes, rule }) => ({ bytes: bytes.slice(1), rule })));
    const range = [from - HIGH, sorted[at + 1]! - 1 - HIGH] as const;
    bodies.set(body, [...(bodies.get(body) ?? []), range]);
  }
  const choices = [...bodies].map(([body, ranges]) => `${classOf(ranges)} ${body}`);
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

/** One of the texts, and what follows it. */
export const choiceRule = (choices: readonly { text: string; rule: string }[], rules: Rules): string =>
  rules.add(prefixes(choices.map(({ text, rule }) => ({ letters: lettersOf(text), rule }))));

interface Choice {
  letters: readonly number[];
  rule: string;
}

/** Texts by what they begin with. */
function prefixes(choices: readonly Choice[]): string {
  const groups = new Map<number, Choice[]>();
  const ends: string[] = [];
  for (const { letters, rule } of choices) {
    const [first, ...tail] = letters;
    if (first === undefined) ends.push(rule);
    else groups.set(first, [...(groups.get(first) ?? []), { letters: tail, rule }]);
  }
  const written = [...groups].map(([first, tails]) => {
    const { shared, left } = sharedBeginning(tails);
    return `${literalOf([first, ...shared])} ${prefixes(left)}`;
  });
  const all = [...written, ...ends];
  return all.length === 1 ? all[0]! : `(${all.join(' | ')})`;
}

function sharedBeginning(choices: readonly Choice[]): { shared: number[]; left: Choice[] } {
  const [first] = choices;
  let length = 0;
  const same = (): boolean => choices.every(({ letters }) => letters[length] === first!.letters[length]);
  while (length < first!.letters.length && same()) length += 1;
  return {
    shared: first!.letters.slice(0, length),
    left: choices.map(({ letters, rule }) => ({ letters: letters.slice(length), rule })),
  };
}
