/** Pairs of answers to one prompt, and which is better: as expected, or by a model's or a person's verdict. */
import { type Rows, type ComparisonRow, type Asking, complete, questionOf } from './ask-answers.ts';
import type { Answer, Results, Verdict, Asked } from './results-file.ts';
import { fnv1aMixed } from '../../protocol/identity.ts';
import { stripControlChars, colors } from '../output.ts';

/** Two answers to one prompt. */
export interface Pairing {
  readonly line: number;
  readonly row: ComparisonRow;
  readonly a: Answer;
  readonly b: Answer;
}

/** @returns every pair of names, in order. */
export const pairsOf = (names: readonly string[]): [string, string][] =>
  names.flatMap((a, i) => names.slice(i + 1).map((b): [string, string] => [a, b]));

/** @returns all pairings whose answers are both there, prompt by prompt. */
export const pairingsOf = (rows: Rows, names: readonly string[], results: Results): Pairing[] =>
  rows.flatMap(({ line, row }) =>
    pairsOf(names).flatMap(([left, right]) => {
      const [a, b] = [results.answer(line, left), results.answer(line, right)];
      return a === undefined || b === undefined ? [] : [{ line, row, a, b }];
    }),
  );

/** Exactly the expected answer, to its end, as `graft publish --eval` counts. */
export const isExact = ({ text, ended }: Answer, expected: string | undefined): boolean =>
  ended && text === expected;

const unasked = (judge: string, { line, a, b }: Pairing, winner: string | null): Verdict => ({
  kind: 'verdict',
  judge,
  line,
  names: [a.name, b.name],
  winner,
  skipped: false,
  asked: [],
});

/** The exact one wins; a tie when both are exact, or neither. */
export function judgeExactly(pairing: Pairing): Verdict {
  const { a, b, row } = pairing;
  const [aRight, bRight] = [isExact(a, row.expected), isExact(b, row.expected)];
  return unasked('exact', pairing, aRight === bRight ? null : aRight ? a.name : b.name);
}

/** @returns a tie when both answers are identical, so that nobody needs to be asked; otherwise null. */
export const tieOfEquals = (judge: string, pairing: Pairing): Verdict | null =>
  pairing.a.text === pairing.b.text && pairing.a.ended === pairing.b.ended
    ? unasked(judge, pairing, null)
    : null;

/** Room for `Answer A.` and a little more; the rest is not read. */
const JUDGE_TOKENS = 8;
/** Characters of an unreadable reply that are kept. */
const MAX_UNCLEAR = 80;

const RULES =
  'You compare two answers to the same request. Judge only how well each answer does what the request asks. ' +
  'Neither the order of the answers nor their length counts. ' +
  'Reply with one letter: A if answer A is better, B if answer B is better, T if they are equally good.';

/** The judge's prompt. The answers are separated by lines, so that they can contain anything. */
export function judgeQuestion(row: ComparisonRow, first: string, second: string): string {
  const reference = row.expected === undefined ? [] : ['', '[A good answer]', row.expected];
  return [
    '[Request]',
    questionOf(row),
    ...reference,
    '',
    '[Answer A]',
    first,
    '',
    '[Answer B]',
    second,
    '',
    'Which answer is better, A, B or T?',
  ].join('\n');
}

/** @returns null when the reply is not one of the three. */
export function readChoice(reply: string): 'first' | 'second' | 'tie' | null {
  const match = /^[^a-z]*(?:answer\b[^a-z]*)?(?:a )?(tie|[abt])(?![a-z])/i.exec(reply);
  switch (match?.[1]?.toUpperCase()) {
    case 'A':
      return 'first';
    case 'B':
      return 'second';
    case 'T':
    case 'TIE':
      return 'tie';
    default:
      return null;
  }
}

/**
 * Asks a model which of two answers is better, in both orders. Only a verdict that survives the other order is
 * a win: models often prefer a position (Zheng et al. 2023, 2306.05685, section 3.3).
 * @throws CliError
 */
export async function judgeByModel(params: {
  asking: Asking;
  /** Its label in verdicts. */
  judge: string;
  model: string;
  pairing: Pairing;
}): Promise<Verdict> {
  const { asking, judge, model, pairing } = params;
  const { line, row, a, b } = pairing;
  const ask = async (first: Pairing['a'], second: Pairing['a']): Promise<Asked> => {
    const { text } = await complete(asking, {
      what: `line ${line}, judge ${judge}`,
      model,
      row: { system: RULES, user: judgeQuestion(row, first.text, second.text) },
      settings: { temperature: 0, max_tokens: JUDGE_TOKENS },
    });
    const choice = readChoice(text);
    return {
      first: first.name,
      chose: choice === 'first' ? first.name : choice === 'second' ? second.name : null,
      ...(choice === null ? { unclear: text.slice(0, MAX_UNCLEAR) } : {}),
    };
  };
  const asked = await Promise.all([ask(a, b), ask(b, a)]);
  const [one, other] = asked;
  return {
    kind: 'verdict',
    judge,
    line,
    names: [a.name, b.name],
    winner: one.chose === other.chose ? one.chose : null,
    skipped: false,
    asked,
  };
}

/** Its label in verdicts and for `--judge`. */
export const PERSON = 'me';

/**
 * Which answer is shown first: a coin flip from seed, prompt and names only, so that the same command shows the
 * same order.
 */
export function showsFirst(seed: number, { line, a, b }: Pairing): 'a' | 'b' {
  const [low, high] = [a.name, b.name].sort() as [string, string];
  const lowFirst = (fnv1aMixed(JSON.stringify([seed, line, low, high])) & 1) === 0;
  return lowFirst === (a.name === low) ? 'a' : 'b';
}

type Choice = 'first' | 'second' | 'tie' | 'skip' | 'quit';
const CHOICE_OF: Readonly<Record<string, Choice>> = {
  '1': 'first',
  '2': 'second',
  t: 'tie',
  s: 'skip',
  q: 'quit',
};

/** The feedback for a pressed key. */
const TOLD: Readonly<Record<Choice, string>> = {
  first: '1',
  second: '2',
  tie: 'tie',
  skip: 'skipped',
  quit: 'ended',
};

/** An answer, and dimmed remarks: that it is empty, or was truncated. */
function shownAnswer({ text, ended }: Answer): string {
  const shown = text.trim() === '' ? colors.dim('(nothing)') : stripControlChars(text);
  return ended ? shown : `${shown} ${colors.dim('(cut off at its length)')}`;
}

/**
 * Shows each pairing blind, sides ordered by {@link showsFirst}, and reads one key per pairing.
 * @param keys input, one character at a time. @param write shows text to the person.
 * @returns whether all were judged; false when the person stopped.
 */
export async function judgeByPerson(params: {
  pairings: readonly Pairing[];
  seed: number;
  keys: AsyncIterable<string>;
  write: (text: string) => void;
  onVerdict: (verdict: Verdict) => void;
}): Promise<boolean> {
  const { pairings, seed, keys, write, onVerdict } = params;
  const typed = keys[Symbol.asyncIterator]();
  try {
    for (const [index, pairing] of pairings.entries()) {
      const { line, a, b } = pairing;
      const [first, second] = showsFirst(seed, pairing) === 'a' ? [a, b] : [b, a];
      write(
        [
          '',
          colors.dim(`${index + 1} of ${pairings.length}, line ${line}`),
          colors.bold('Prompt'),
          stripControlChars(questionOf(pairing.row)),
          '',
          colors.bold('1'),
          shownAnswer(first),
          '',
          colors.bold('2'),
          shownAnswer(second),
          '',
          colors.dim('1, 2: better   t: tie   s: skip   q: end '),
        ].join('\n'),
      );
      const choice = await nextChoice(typed);
      write(`${TOLD[choice]}\n`);
      if (choice === 'quit') return false;
      const chose = choice === 'first' ? first.name : choice === 'second' ? second.name : null;
      const skipped = choice === 'skip';
      onVerdict({
        kind: 'verdict',
        judge: PERSON,
        line,
        names: [a.name, b.name],
        winner: chose,
        skipped,
        asked: skipped ? [] : [{ first: first.name, chose }],
      });
    }
    return true;
  } finally {
    // The line of keys has ended, also on Ctrl-C, and what follows is not part of the last pairing.
    write('\n');
    await typed.return?.();
  }
}

/** Other keys do nothing. The end of the input stops. */
async function nextChoice(typed: AsyncIterator<string>): Promise<Choice> {
  for (;;) {
    const { value, done } = await typed.next();
    if (done === true) return 'quit';
    const choice = CHOICE_OF[value.toLowerCase()];
    if (choice !== undefined) return choice;
  }
}
