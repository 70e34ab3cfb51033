import { describe, expect, it } from 'vitest';
import { analyze, type Tallies } from '../../../worker/experiments/analyze.ts';
import { decide, MIN_UNITS, NO_TRAFFIC_MS } from '../../../worker/experiments/decide.ts';
import type { Moments } from '../../../worker/experiments/statistics/moments.ts';
import { experimentOf, variantsOf } from './sample-experiment.ts';

const START = 1_790_000_000_000;
const HOUR = 3_600_000;
const RAMP = { steps: [0.01, 0.05, 0.25, 1], hold_minutes: 60, min_units: 200 };

const of = (n: number, sum: number): Moments => ({ n, sum, sumSquares: sum });
const CLEAR = { control: of(1_000, 300), treatment: of(1_000, 420) };
const OPEN = { control: of(1_000, 300), treatment: of(1_000, 310) };
const BROKEN = { control: of(1_000, 10), treatment: of(1_000, 400) };
const EVEN = { control: 1_000, treatment: 1_000 };
const SKEWED = { control: 1_000, treatment: 1_200 };

const decision = (
  changes: Record<string, unknown> = {},
  tallies: Partial<Tallies> = {},
  now = START + 24 * HOUR,
  stepStartedAt = START,
) => {
  const experiment = experimentOf(changes);
  const analysis = analyze(experiment, { units: EVEN, metrics: { thumbs: CLEAR }, ...tallies });
  return decide({ experiment, analysis, startedAt: START, stepStartedAt, now });
};
const ramping = { status: 'ramping', coverage: 0.05, ramp: RAMP };

describe('decide', () => {
  it('rolls back before anything else', () => {
    const metrics = { thumbs: CLEAR, error_rate: BROKEN };
    expect(decision(ramping, { units: SKEWED, metrics })).toMatchObject({
      action: 'rollback',
      guardrail: { metric: 'error_rate', variant: 'treatment', lost: { limit: 'absolute' } },
    });
    // Even before there are enough units for anything else.
    const few = { control: of(10, 0), treatment: of(10, 10) };
    expect(
      decision({}, { units: { control: 10, treatment: 10 }, metrics: { error_rate: few } }),
    ).toMatchObject({
      action: 'rollback',
    });
  });

  it('prefers a rollback to a hold, and holds when that is all that is asked', () => {
    const guardrails = [
      { metric: 'length_rate', max_absolute_increase: 0.02, action: 'hold' },
      { metric: 'error_rate', max_absolute_increase: 0.02, action: 'rollback' },
    ];
    const metrics = { thumbs: CLEAR, length_rate: BROKEN };
    expect(decision({ guardrails }, { metrics })).toMatchObject({ action: 'hold', reason: 'guardrail' });
    expect(decision({ guardrails }, { metrics: { ...metrics, error_rate: BROKEN } })).toMatchObject({
      action: 'rollback',
      guardrail: { metric: 'error_rate' },
    });
  });

  it('then holds for a split that is not the one asked for, whatever the results say', () => {
    expect(decision(ramping, { units: SKEWED })).toMatchObject({ action: 'hold', reason: 'sample_ratio' });
  });

  it('then holds when nobody comes, an hour after the start', () => {
    const nobody = { units: {}, metrics: {} };
    expect(decision(ramping, nobody, START + NO_TRAFFIC_MS - 1)).toMatchObject({ reason: 'units' });
    expect(decision(ramping, nobody, START + NO_TRAFFIC_MS)).toEqual({
      action: 'hold',
      reason: 'no_traffic',
    });
  });

  it('then waits for units, as many as the ramp says or 200', () => {
    const units = { control: 99, treatment: 99 };
    expect(decision({}, { units })).toEqual({
      action: 'wait',
      reason: 'units',
      units: 198,
      needed: MIN_UNITS,
    });
    const ramp = { ...RAMP, min_units: 5_000 };
    expect(decision({ ...ramping, ramp })).toMatchObject({ reason: 'units', needed: 5_000 });
    expect(decision({ ...ramping, ramp: { ...RAMP, min_units: 198 } }, { units })).toMatchObject({
      action: 'advance',
    });
  });

  it('then takes the next step of the ramp once the present one was held, even if there is a winner', () => {
    expect(decision(ramping)).toEqual({ action: 'advance', coverage: 0.25, last: false });
    expect(decision({ ...ramping, coverage: 0.25 })).toEqual({ action: 'advance', coverage: 1, last: true });
    // A coverage that is none of the steps: the next higher one.
    expect(decision({ ...ramping, coverage: 0.1 })).toMatchObject({ coverage: 0.25 });
    expect(decision(ramping, {}, START + HOUR)).toMatchObject({ action: 'advance' });
  });

  it('then proposes a winner, also while a step is being held', () => {
    expect(decision()).toMatchObject({
      action: 'propose_winner',
      variant: 'treatment',
      comparison: { metric: { key: 'thumbs' }, verdict: 'better' },
    });
    expect(decision(ramping, {}, START + HOUR - 1)).toMatchObject({ action: 'propose_winner' });
  });

  it('and waits otherwise', () => {
    const metrics = { thumbs: OPEN };
    expect(decision({}, { metrics })).toEqual({ action: 'wait', reason: 'not_significant' });
    expect(decision(ramping, { metrics }, START + HOUR - 1)).toEqual({
      action: 'wait',
      reason: 'hold_time',
      untilMs: START + HOUR,
    });
    expect(decision({ ...ramping, coverage: 1 }, { metrics })).toEqual({
      action: 'wait',
      reason: 'not_significant',
    });
  });

  it('takes the step from when the coverage was set, not from the start', () => {
    expect(decision(ramping, { metrics: { thumbs: OPEN } }, START + 24 * HOUR, START + 23.5 * HOUR)).toEqual({
      action: 'wait',
      reason: 'hold_time',
      untilMs: START + 24.5 * HOUR,
    });
  });

  it('does nothing when it is not live, or killed', () => {
    for (const status of ['draft', 'decided', 'archived'])
      expect(decision({ status })).toEqual({ action: 'wait', reason: 'not_running' });
    expect(decision({ killed: true })).toEqual({ action: 'wait', reason: 'killed' });
  });

  it('is decided by the first metric alone', () => {
    const metrics = [
      { key: 'solved', kind: 'proportion', better: 'up' },
      { key: 'thumbs', kind: 'proportion', better: 'up' },
    ];
    expect(decision({ metrics }, { metrics: { thumbs: CLEAR, solved: OPEN } })).toMatchObject({
      reason: 'not_significant',
    });
  });

  it('chooses the best of several, and control only when all others are worse', () => {
    const variants = variantsOf([0.25, 0.25, 0.25, 0.25]);
    const units = { a: 1_000, b: 1_000, c: 1_000, d: 1_000 };
    const among = (b: number, c: number, d: number) =>
      decision(
        { variants },
        {
          units,
          metrics: { thumbs: { a: of(1_000, 400), b: of(1_000, b), c: of(1_000, c), d: of(1_000, d) } },
        },
      );
    expect(among(550, 600, 200)).toMatchObject({ action: 'propose_winner', variant: 'c' });
    expect(among(200, 410, 200)).toMatchObject({ action: 'wait', reason: 'not_significant' });
    expect(among(200, 250, 100)).toMatchObject({
      action: 'propose_winner',
      variant: 'a',
      comparison: { variant: 'c', verdict: 'worse' },
    });
  });
});
