import { type Asking, type ComparisonRow, complete, questionOf } from './complete.ts';
import type { Asked, Verdict } from './results-file.ts';
import type { Pairing } from './decide-pairings.ts';

/** Room for `Answer A.` and a little more; what comes after is not read. */
const JUDGE_TOKENS = 8;
/** Characters of an unreadable reply that are kept. */
const MAX_UNCLEAR = 80;

const RULES =
  'You compare two answers to the same request. Judge only how well each answer does what the request asks. ' +
  'Neither the order of the answers nor their length counts. ' +
  'Reply with one letter: A if answer A is better, B if answer B is better, T if they are equally good.';

/** What the judge is asked. The answers come between lines of their own, so that one can hold anything. */
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

/** @returns null when the reply is none of the three. */
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
 * Asks a model which of two answers is better, in both orders. Only a choice that survives the other order is a win:
 * models prefer a place more often than one would think (Zheng et al. 2023, 2306.05685, section 3.3).
 * @throws CliError
 */
export async function judgeByModel(params: {
  asking: Asking;
  /** As it is called in verdicts. */
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
