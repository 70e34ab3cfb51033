/** Which versions lack scores on kept evaluations, and how the variants of an experiment compare. */
import { describe, expect, it } from 'vitest';
import type {
  EvaluationScore,
  ScoredEvaluation,
  VersionScore,
} from '../../protocol/admin-api/evaluations.ts';
import type { VersionView } from '../../protocol/admin-api/versions.ts';
import {
  missingScores,
  rightWords,
  shareWords,
  variantScores,
  versionsToScore,
} from '../../protocol/evaluation-scores.ts';

const SHA = 'a'.repeat(64);

const version = (number: number, more: Partial<VersionView> = {}): VersionView => ({
  ...{ name: 'a', version: number, digest: 'd', parent: null, bytes: 1, rank: 8, created_at: 0 },
  ...{ created_by: 'k', chain_id: 'c', owner: 'o', base: { id: 'b', digest: 'd' }, proof: null },
  ...{ evaluation: null, training: null, retired_at: null, withdrawn_at: null, chain: [], live: false },
  ...more,
});

const score = (
  label: string,
  exact: number,
  more: Partial<Omit<ScoredEvaluation, 'label' | 'exact'>> = {},
): ScoredEvaluation => ({
  ...{ label, exact, sha256: SHA, rows: 10, scored: 10, mean_nll: 1, missed: [], at: 1 },
  ...{ judge: null, labelled: false, macro_f1: null, confusion: null, unclear: 0 },
  ...more,
});

const evaluation = (label: string, rows = 10) => ({
  ...{ label, rows, bytes: 1, sha256: SHA, judge: null, labelled: false },
  ...{ created_at: 0, created_by: 'k' },
});

describe('versionsToScore', () => {
  const all = [
    version(5),
    version(4, { retired_at: 1 }),
    version(3, { withdrawn_at: 1 }),
    version(2),
    version(1),
  ];
  it.each([
    [2, [5, 2]],
    [5, [5]],
    [null, [5, 2, 1]],
    [4, [5]],
  ])('takes the live version and newer ones that can be served, with %j live', (live, expected) => {
    const list = { name: 'a', owner: 'o', version: live, versions: all };
    expect(versionsToScore(list).map((one) => one.version)).toEqual(expected);
  });
});

describe('missingScores', () => {
  const of = (version: number, one: EvaluationScore): VersionScore => ({
    ...one,
    version,
    against_live: null,
  });
  const list = {
    evaluations: [evaluation('easy'), evaluation('hard', 70)],
    scores: [
      of(2, score('easy', 7)),
      of(2, score('hard', 3, { rows: 70, scored: 40 })),
      of(3, score('easy', 7, { sha256: 'b'.repeat(64) })),
    ],
  };

  it('names incomplete and lacking scores, with what is scored already', () => {
    expect(missingScores(list, 2)).toEqual([{ label: 'hard', rows: 70, scored: 40 }]);
    expect(missingScores(list, 1)).toEqual([
      { label: 'easy', rows: 10, scored: 0 },
      { label: 'hard', rows: 70, scored: 0 },
    ]);
  });

  it('counts no score of other rows', () => {
    expect(missingScores(list, 3)).toContainEqual({ label: 'easy', rows: 10, scored: 0 });
  });

  it('is empty without evaluations', () => {
    expect(missingScores({ evaluations: [], scores: [] }, 1)).toEqual([]);
  });
});

it.each([
  [{ exact: 46, scored: 50, rows: 50 }, '46 of 50 (92 %)'],
  [{ exact: 799, scored: 1_000, rows: 1_000 }, '799 of 1000 (79 %)'],
  [{ exact: 29, scored: 100, rows: 100 }, '29 of 100 (29 %)'],
  [{ exact: 3, scored: 16, rows: 50 }, '16 of 50 scored'],
])('writes %j as %s', (given, text) => {
  expect(shareWords(given)).toBe(text);
});

it('says how rows were right', () => {
  const words = (judge: string | null, labelled = false) => rightWords({ judge, labelled });
  expect([words(null), words('base'), words('medicine@2'), words(null, true)]).toEqual([
    ...['answered exactly', 'accepted by base', 'accepted by medicine@2', 'classified right'],
  ]);
});

describe('variantScores', () => {
  const variants = [
    { key: 'control', adapter: 'a@1', weight: 0.5 },
    { key: 'treatment', adapter: 'b@2', weight: 0.5 },
  ];
  const evaluations = [evaluation('easy'), evaluation('hard')];

  it('tells which variant answers fewer rows exactly than control, by evaluation', () => {
    const scores = [score('easy', 8), score('hard', 5), score('easy', 8), score('hard', 4)];
    const told = variantScores(variants, evaluations, scores);
    expect(told.map(({ worse, text }) => `${worse ? 'worse: ' : ''}${text}`)).toEqual([
      'control (a@1) answers 8 of 10 (80 %) of easy exactly',
      'treatment (b@2) answers 8 of 10 (80 %) of easy exactly',
      'control (a@1) answers 5 of 10 (50 %) of hard exactly',
      'worse: treatment (b@2) answers 4 of 10 (40 %) of hard exactly, control 5',
    ]);
    expect(told.at(-1)).toMatchObject({ label: 'hard', variant: 'treatment', exact: 4, rows: 10 });
  });

  it('tells which answers a judge accepts less often', () => {
    const judge = 'medicine@2';
    const scores = [5, 4].map((accepted) => score('tone', accepted, { judge }));
    expect(variantScores(variants, [evaluation('tone')], scores)).toMatchObject([
      { judge, worse: false, text: 'control (a@1) has 5 of 10 (50 %) of tone accepted by medicine@2' },
      {
        judge,
        worse: true,
        text: 'treatment (b@2) has 4 of 10 (40 %) of tone accepted by medicine@2, control 5',
      },
    ]);
  });

  it('tells how often a classifier is right, with its F1 and the classes that it confuses', () => {
    const confusion = {
      labels: ['food', 'weather'],
      counts: [
        [4, 1],
        [0, 5],
      ],
    };
    const right = score('topics', 9, { labelled: true, macro_f1: 0.899, confusion });
    expect(variantScores(variants, [evaluation('topics')], [right])).toEqual([
      {
        label: 'topics',
        judge: null,
        labelled: true,
        variant: 'control',
        exact: 9,
        rows: 10,
        macro_f1: 0.899,
        confusion,
        worse: false,
        text: 'control (a@1) has 9 of 10 (90 %) of topics classified right',
      },
    ]);
  });

  it('leaves out what has no score', () => {
    const told = variantScores(variants, evaluations, [score('easy', 1)]);
    expect(told.map(({ variant, exact }) => [variant, exact])).toEqual([['control', 1]]);
    expect(variantScores(variants, evaluations, [])).toEqual([]);
  });
});
