import { expect, it } from 'vitest';
import {
  coverageWords,
  isJudgedAlone,
  judgedByPlace,
  judgeWords,
  pairNotes,
  whoGetsWhat,
} from '../../dashboard/model/experiment-words.ts';
import { ExperimentPairs } from '../../protocol/experiment.ts';

const judge = { model: 'base', tokens_per_day: 500_000, keep_pairs: 0 };

it('describes how reliable a judge is', () => {
  const pairs = ExperimentPairs.parse({
    ...{ variant: 'treatment', wins: 4, ties: 2, losses: 1, same: 1, p_value: 1, verdict: 'open' },
    ...{ win_rate: null, first_chosen: 0.61, agreement: 0.5, failures: { judge: 2 }, tokens_today: 1_200 },
  });
  expect(pairNotes(pairs, judge)).toEqual([
    '1 of the ties: identical answers, not sent to the judge.',
    'The answer shown first was chosen in 61 %.',
    'The judge agreed with itself in both orders in 50 %.',
    '2 not judged: the judge did not answer.',
    '1,200 of 500,000 tokens used today.',
  ]);
  const quiet = { ...pairs, same: 0, first_chosen: null, agreement: null, failures: {} };
  expect(pairNotes(quiet, judge)).toHaveLength(1);
});

it('warns of a judge with a position bias', () => {
  const pairs = { wins: 0, ties: 12, losses: 0, same: 2, first_chosen: 1 };
  expect(judgedByPlace(pairs)).toMatch(/^It chose the answer shown first in 100 % of 10 pairs/);
  expect(judgedByPlace({ ...pairs, first_chosen: 0.04 })).toMatch(/shown second in 96 %/);
  for (const fine of [{ first_chosen: 0.61 }, { first_chosen: null }, { same: 3 }])
    expect(judgedByPlace({ ...pairs, ...fine })).toBeNull();
});

it('describes what users of a name get while its experiment runs', () => {
  expect(whoGetsWhat({ judge: undefined, coverage: 0.5 })).toMatch(/get the version that it assigns/);
  expect(whoGetsWhat({ judge, coverage: 0.5 })).toMatch(/get the version that it assigns/);
  expect(coverageWords({ judge, coverage: 0 })).toBe('judged');
  expect(coverageWords({ judge: undefined, coverage: 0.05 })).toBe('5 %');
  expect(whoGetsWhat({ judge, coverage: 0 })).toMatch(/^Users get the live version/);
});

it('describes the judge, and whether anybody is in the experiment', () => {
  expect(judgeWords(judge)).toMatch(/^base, asked in both orders/);
  expect(judgeWords({ ...judge, model: undefined, url: 'https://app.example.com' })).toMatch(/random order$/);
  expect(isJudgedAlone({ judge, coverage: 0 })).toBe(true);
  expect(isJudgedAlone({ judge, coverage: 0.1 })).toBe(false);
  expect(isJudgedAlone({ judge: undefined, coverage: 0 })).toBe(false);
});
