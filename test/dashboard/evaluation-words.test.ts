/** How the console words kept evaluations of different kinds. */
import { expect, it } from 'vitest';
import { countedRows, macroF1Words, scoresTitle } from '../../dashboard/model/evaluation-words.ts';

const EXACT = { judge: null, labelled: false };
const LABELLED = { judge: null, labelled: true };
const JUDGED = { judge: 'base', labelled: false };

it.each([
  [[EXACT], 'Answered exactly', 'Rows answered exactly as expected.'],
  [[LABELLED], 'Right', 'Rows classified as labelled.'],
  [[JUDGED], 'Accepted by the judge', 'Rows accepted by a judge.'],
  [
    [EXACT, JUDGED],
    'Answered exactly, or accepted',
    'Rows answered exactly as expected, or accepted by a judge.',
  ],
  [[EXACT, LABELLED], 'Right', 'Rows answered exactly as expected, or classified as labelled.'],
  [
    [JUDGED, LABELLED, EXACT],
    'Right',
    'Rows answered exactly as expected, classified as labelled, or accepted by a judge.',
  ],
])('says what scores count: %j', (evaluations, title, rows) => {
  expect([scoresTitle(evaluations), countedRows(evaluations)]).toEqual([title, rows]);
});

it('writes macro F1 with the digits of the command line', () => {
  expect([macroF1Words(1), macroF1Words(0.90666)]).toEqual(['macro F1 1.000', 'macro F1 0.907']);
});
