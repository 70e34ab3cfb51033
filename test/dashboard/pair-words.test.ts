import { expect, it } from 'vitest';
import { isJudgedAlone, judgeWords, pairNotes } from '../../dashboard/model/experiment-words.ts';
import { ExperimentPairs } from '../../protocol/experiment-judge.ts';

const judge = { model: 'base', tokens_per_day: 500_000, keep_pairs: 0 };

it('says what to believe a judge by', () => {
  const pairs = ExperimentPairs.parse({
    ...{ variant: 'treatment', wins: 4, ties: 2, losses: 1, same: 1, p_value: 1, verdict: 'open' },
    ...{ win_rate: null, first_chosen: 0.61, agreement: 0.5, failures: { judge: 2 }, tokens_today: 1_200 },
  });
  expect(pairNotes(pairs, judge)).toEqual([
    '1 of the ties: the same to the letter, so that nobody was asked.',
    'The answer shown first was chosen in 61 %.',
    'The judge said the same in both orders in 50 %.',
    '2 not judged: the judge did not answer.',
    '1,200 of 500,000 tokens used today.',
  ]);
  const quiet = { ...pairs, same: 0, first_chosen: null, agreement: null, failures: {} };
  expect(pairNotes(quiet, judge)).toHaveLength(1);
});

it('says who judges, and whether anybody is in the experiment', () => {
  expect(judgeWords(judge)).toMatch(/^base, asked in both orders/);
  expect(judgeWords({ ...judge, model: undefined, url: 'https://app.example.com' })).toMatch(/random order$/);
  expect(isJudgedAlone({ judge, coverage: 0 })).toBe(true);
  expect(isJudgedAlone({ judge, coverage: 0.1 })).toBe(false);
  expect(isJudgedAlone({ judge: undefined, coverage: 0 })).toBe(false);
});
