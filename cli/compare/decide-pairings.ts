/** Answers to one prompt, two and two, and what is decided of them without asking a judge. */
import type { Rows } from './ask-answers.ts';
import type { ComparisonRow } from './complete.ts';
import type { Answer, Results, Verdict } from './results-file.ts';

/** Two answers to one prompt. */
export interface Pairing {
  readonly line: number;
  readonly row: ComparisonRow;
  readonly a: Answer;
  readonly b: Answer;
}

/** @returns every two of the names, in their order. */
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

/** Exactly what was expected, to its end, as `graft publish --eval` counts. */
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

/** The one that is exactly as expected wins; a tie when both are, or neither. */
export function judgeExactly(pairing: Pairing): Verdict {
  const { a, b, row } = pairing;
  const [aRight, bRight] = [isExact(a, row.expected), isExact(b, row.expected)];
  return unasked('exact', pairing, aRight === bRight ? null : aRight ? a.name : b.name);
}

/** @returns a tie when both answers are the same: there is nothing to ask; else null. */
export const tieOfEquals = (judge: string, pairing: Pairing): Verdict | null =>
  pairing.a.text === pairing.b.text && pairing.a.ended === pairing.b.ended
    ? unasked(judge, pairing, null)
    : null;
