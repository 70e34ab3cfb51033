import { describe, expect, it } from 'vitest';
import {
  decisionSentence,
  hiddenBecause,
  nextCoverage,
  openProposal,
  standing,
  type Step,
  stepsOf,
} from '../../dashboard/model/experiment-words.ts';
import type {
  ExperimentComparison,
  ExperimentDecision,
  ExperimentEvaluation,
} from '../../protocol/admin-api/experiments.ts';
import { EXPERIMENT_STATUSES, type Experiment } from '../../protocol/experiment.ts';

it.each<[ExperimentDecision, string, RegExp]>([
  [
    { action: 'rollback', reason: 'guardrail', metric: 'error_rate', variant: 'b' },
    'alarm',
    /^Roll back: b failed the guardrail error_rate\.$/,
  ],
  [
    { action: 'hold', reason: 'guardrail', metric: 'cost', variant: 'b' },
    'alarm',
    /^Hold: b failed the guardrail cost\.$/,
  ],
  [{ action: 'hold', reason: 'guardrail' }, 'alarm', /^Hold: a variant failed a guardrail\.$/],
  [
    { action: 'hold', reason: 'sample_ratio', p_value: 0 },
    'alarm',
    /do not receive the units that their weights call for \(p < 0\.0001\)\.$/,
  ],
  [
    { action: 'hold', reason: 'no_traffic' },
    'alarm',
    /no unit for an hour; does anyone request this name\?$/,
  ],
  [{ action: 'wait', reason: 'not_running' }, 'calm', /not running/],
  [{ action: 'wait', reason: 'killed' }, 'alarm', /killed; everybody gets the live version\.$/],
  [{ action: 'wait', reason: 'not_significant' }, 'calm', /no significant difference/],
  [{ action: 'wait', reason: 'units', units: 40, needed: 1_200 }, 'calm', /40 of 1,200 units/],
  [
    { action: 'wait', reason: 'hold_time', until: new Date(2026, 0, 2, 3, 4).getTime() },
    'calm',
    /until 2026-01-02 03:04\.$/,
  ],
  [{ action: 'wait', reason: 'hold_time' }, 'calm', /step is held\.$/],
  [{ action: 'advance', coverage: 0.05, last: false }, 'good', /^Advance to 5 %\.$/],
  [{ action: 'advance', coverage: 1, last: true }, 'good', /^Advance to 100 %, the last step\.$/],
  [{ action: 'propose_winner', variant: 'b' }, 'good', /^b is the proposed winner\.$/],
])('%j is %s', (decision, tone, text) => {
  const words = decisionSentence(decision);
  expect(words.tone).toBe(tone);
  expect(words.text).toMatch(text);
});

describe('hidden results', () => {
  const look = (state: 'ok' | 'alarm' | 'too_few_units', p: number): ExperimentEvaluation => ({
    ...{
      at: 1,
      seed: 's',
      coverage: 1,
      alpha: 0.05,
      comparisons: [],
      guardrails: [],
      progress: null,
      shadow: {},
    },
    ...{ health: [], arms: {} },
    units: { control: 5_000, treatment: 4_000 },
    sample_ratio: { state, p_value: p },
    decision: { action: 'wait', reason: 'not_significant' },
  });

  it('nothing is hidden without an alarm', () => {
    for (const one of [null, look('ok', 0.5), look('too_few_units', 0)])
      expect(hiddenBecause(one)).toBeNull();
  });

  it.each([
    [0.00004, 'p < 0.0001'],
    [0.0004567, 'p = 0.000457'],
  ])('explains them with the split, p %d', (p, text) => {
    expect(hiddenBecause(look('alarm', p))).toContain(`(control 5,000, treatment 4,000; ${text})`);
  });
});

describe('possible actions', () => {
  const at = (fields: Partial<Experiment>): Step[] =>
    stepsOf({ status: 'running', killed: false, coverage: 1, ...fields } as Experiment);

  it.each<[Partial<Experiment>, Step[]]>([
    [{ status: 'draft' }, ['start', 'archive']],
    [{ status: 'running' }, ['kill', 'promote', 'stop']],
    [{ status: 'running', coverage: 0.5 }, ['ramp', 'kill', 'promote', 'stop']],
    [{ status: 'ramping', coverage: 0.5, killed: true }, ['ramp', 'revive', 'promote', 'stop']],
    [{ status: 'decided' }, ['archive']],
    [{ status: 'archived' }, []],
  ])('with %j is %j', (fields, steps) => {
    expect(at(fields)).toEqual(steps);
  });

  it('exist for every status', () => {
    for (const status of EXPERIMENT_STATUSES) expect(at({ status })).toBeInstanceOf(Array);
  });

  it.each([
    [0.01, 0.05],
    [0.03, 0.05],
    [0.25, null],
    [1, null],
  ])('after coverage %d comes %j', (coverage, next) => {
    const ramp = { steps: [0.01, 0.05, 0.25], hold_minutes: 1, min_units: 1 };
    expect(nextCoverage({ coverage, ramp })).toBe(next);
    expect(nextCoverage({ coverage })).toBeNull();
  });
});

describe('the state of an experiment', () => {
  const WAITS = { action: 'wait', reason: 'not_running' } as const;
  const LOST = { action: 'rollback', reason: 'guardrail', metric: 'error_rate', variant: 'b' } as const;
  const said = (
    more: Partial<Experiment>,
    decision: ExperimentDecision | null,
    startedAt: number | null = 1,
  ) =>
    standing({
      document: { status: 'running', winner: null, killed: false, ...more } as Experiment,
      evaluation: decision === null ? null : ({ decision } as ExperimentEvaluation),
      started_at: startedAt,
      proposal: null,
    });

  const JUDGE = { model: 'base', tokens_per_day: 1, keep_pairs: 0 };
  const COUNTS: ExperimentDecision = { action: 'wait', reason: 'units', units: 0, needed: 200 };

  it.each<[string, string, Partial<Experiment>, ExperimentDecision | null, number | null]>([
    ['calm', 'Not started.', { status: 'draft' }, null, null],
    ['calm', 'Not evaluated yet.', {}, null, 1],
    ['good', 'Advance to 5 %.', { status: 'ramping' }, { action: 'advance', coverage: 0.05, last: false }, 1],
    ['alarm', 'Killed: everybody gets the live version.', { killed: true }, WAITS, 1],
    ['calm', 'Wait: no pair has been judged yet.', { judge: JUDGE, coverage: 0 }, COUNTS, 1],
    ['calm', 'Wait: 0 of 200 units.', { judge: JUDGE, coverage: 0.1 }, COUNTS, 1],
    ['good', 'b won, and its version is live.', { status: 'decided', winner: 'b' }, WAITS, 1],
    ['good', 'b won, and its version is live.', { status: 'archived', winner: 'b' }, WAITS, 1],
    ['alarm', 'Rolled back: b failed the guardrail error_rate.', { status: 'decided' }, LOST, 1],
    [
      'calm',
      'Stopped without a winner.',
      { status: 'decided' },
      { action: 'propose_winner', variant: 'b' },
      1,
    ],
    ['calm', 'Stopped without a winner.', { status: 'archived' }, null, 1],
    ['calm', 'Archived before it started.', { status: 'archived' }, null, null],
  ])('is %s: %s', (tone, text, more, decision, startedAt) => {
    expect(said(more, decision, startedAt)).toEqual({ tone, text });
  });
});

describe('a proposal', () => {
  const COMPARED: ExperimentComparison = {
    ...{ metric: 'thumbs', variant: 'treatment', kind: 'proportion', verdict: 'better', reason: null },
    ...{ better: 'up', p_value: 0.001 },
    ...{ control: { n: 90, mean: 0.41 }, treatment: { n: 110, mean: 0.82 }, adjusted: false },
    lift: { estimate: 1, low: 0.4, high: 1.6 },
    difference: { estimate: 0.412, low: 0.2, high: 0.6 },
  };
  type Pairs = NonNullable<ExperimentEvaluation['pairs']>;
  const view = (
    document: Partial<Experiment>,
    comparison: Partial<ExperimentComparison> | null,
    pairs?: Partial<Pairs>,
  ) => ({
    document: {
      ...{ status: 'running', winner: null, killed: false, coverage: 1, unit: 'user' },
      metrics: [{ key: 'thumbs', kind: 'proportion', better: 'up' }],
      ...document,
    } as Experiment,
    evaluation: {
      decision: { action: 'propose_winner', variant: 'treatment' },
      comparisons: comparison === null ? [] : [{ ...COMPARED, ...comparison }],
      ...(pairs === undefined ? {} : { pairs }),
    } as ExperimentEvaluation,
    proposal: { variant: 'treatment', at: 1, units: 200 },
    started_at: 1,
  });
  const JUDGE = { model: 'base', tokens_per_day: 1, keep_pairs: 0 };
  const PAIRS = { wins: 80, ties: 10, losses: 30, win_rate: { estimate: 0.708, low: 0.6, high: 0.8 } };
  const MEAN = { kind: 'mean', lift: { estimate: -0.1234, low: -0.2, high: -0.1 } } as const;

  it.each<[string, Partial<Experiment>, Partial<ExperimentComparison> | null, Partial<Pairs>?]>([
    ['+41 points of thumbs, 200 users', {}, {}],
    ['+1 point of thumbs, 200 keys', { unit: 'key' }, { difference: { estimate: 0.01, low: 0, high: 1 } }],
    ['−0.4 points of thumbs, 200 users', {}, { difference: { estimate: -0.004, low: 0, high: 1 } }],
    ['−12 % of thumbs, 200 users', {}, MEAN],
    [
      '+3 of thumbs, 200 users',
      {},
      { kind: 'mean', lift: null, difference: { estimate: 3, low: 1, high: 5 } },
    ],
    ['200 users', {}, null],
    ['it wins 70.8 % of 120 judged pairs', { judge: JUDGE, coverage: 0 }, null, PAIRS],
  ])('says: %s', (gain, document, comparison, pairs) => {
    const proposed = view(document, comparison, pairs);
    expect(standing(proposed)).toEqual({ tone: 'good', text: `treatment is the proposed winner: ${gain}.` });
  });

  it('is open until the experiment ends', () => {
    expect(openProposal(view({}, {}))?.variant).toBe('treatment');
    expect(openProposal(view({ status: 'decided' }, {}))).toBeNull();
  });
});
