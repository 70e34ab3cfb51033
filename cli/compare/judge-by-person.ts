import { fnv1aMixed } from '../../protocol/index.ts';
import { harmless } from '../harmless-text.ts';
import { colors } from '../output.ts';
import { questionOf } from './complete.ts';
import type { Answer, Verdict } from './results-file.ts';
import type { Pairing } from './decide-pairings.ts';

/** As it is called in verdicts and by `--judge`. */
export const PERSON = 'me';

/**
 * Which answer is shown first: a coin that depends on seed, prompt and names alone, so that the same command shows
 * the same order.
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

/** What the person is told about the key that was taken. */
const TOLD: Readonly<Record<Choice, string>> = {
  first: '1',
  second: '2',
  tie: 'tie',
  skip: 'skipped',
  quit: 'ended',
};

/** An answer, and in a dimmer colour what is said about it: that it is empty, or does not come to its end. */
function shownAnswer({ text, ended }: Answer): string {
  const shown = text.trim() === '' ? colors.dim('(nothing)') : harmless(text);
  return ended ? shown : `${shown} ${colors.dim('(cut off at its length)')}`;
}

/**
 * Shows each pairing blind, the sides by {@link showsFirst}, and reads one key a pairing.
 * @param keys what is typed, a character at a time. @param write shows text to the person.
 * @returns whether all were judged; false when the person ended it.
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
          harmless(questionOf(pairing.row)),
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
    // The line of keys is over, also when Ctrl-C ended it, and what follows is not part of the last pairing.
    write('\n');
    await typed.return?.();
  }
}

/** Other keys do nothing. The end of the input is an end. */
async function nextChoice(typed: AsyncIterator<string>): Promise<Choice> {
  for (;;) {
    const { value, done } = await typed.next();
    if (done === true) return 'quit';
    const choice = CHOICE_OF[value.toLowerCase()];
    if (choice !== undefined) return choice;
  }
}
