import { describe, expect, it } from 'vitest';
import { analyze, type Tallies } from '../../../worker/experiments/analyze.ts';
import { decide, MIN_UNITS, NO_TRAFFIC_MS, type Situation } from '../../../worker/experiments/decide.ts';
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

/** @param more of the situation. */
const decision = (
  changes: Record<string, unknown> = {},
  tallies: Partial<Tallies> = {},
  now = START + 24 * HOUR,
  more: Partial<Situation> = {},
) => {
  const experiment = experimentOf(changes);
  const analysis = analyze(experiment, { units: EVEN, metrics: { thumbs: CLEAR }, ...tallies });
  const since = { startedAt: START, stepStartedAt: START, stepUnits: 0, proposal: null };
  return decide({ ...since, experiment, analysis, now, ...more });
};
/** Guardrails have values, and are far from certain to be kept. */
const FEW_ERRORS = { control: of(20, 0), treatment: of(20, 0) };
const KEPT = { control: of(1_000, 10), treatment: of(1_000, 10) };
const seen = { thumbs: CLEAR, error_rate: KEPT };
const ramping = { status: 'ramping', coverage: 0.05, ramp: RAMP };

describe('decide', () => {
  it('rolls back before anything else', () => {
    const metrics = { thumbs: CLEAR, error_rate: BROKEN };
    expect(decision(ramping, { units: SKEWED, metrics })).toMatchObject({
      action: 'rollback',
      reason: 'guardrail',
      metric: 'error_rate',
      variant: 'treatment',
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
      metric: 'error_rate',
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

  it('then ends when the treatment is worse, whatever the ramp says', () => {
    const metrics = { thumbs: { control: of(1_000, 420), treatment: of(1_000, 300) }, error_rate: KEPT };
    const lost = { action: 'rollback', reason: 'worse', metric: 'thumbs', variant: 'treatment' };
    expect(decision({}, { metrics })).toEqual(lost);
    expect(decision(ramping, { metrics })).toEqual(lost);
    expect(decision({ ...ramping, ramp: { ...RAMP, min_units: 5_000 } }, { metrics })).toEqual(lost);
  });

  it('takes the next step once the present one was held, even if there is a winner', () => {
    const step = (changes: object, now?: number) =>
      decision({ ...ramping, ...changes }, { metrics: seen }, now);
    expect(step({})).toEqual({ action: 'advance', coverage: 0.25, last: false });
    expect(step({ coverage: 0.25 })).toEqual({ action: 'advance', coverage: 1, last: true });
    // A coverage that is not one of the steps: the next higher one.
    expect(step({ coverage: 0.1 })).toMatchObject({ coverage: 0.25 });
    expect(step({}, START + HOUR)).toMatchObject({ action: 'advance' });
  });

  it('takes no step while a guardrail has no values, however many units there are', () => {
    const none = { thumbs: OPEN };
    expect(decision(ramping, { metrics: none })).toEqual({
      action: 'wait',
      reason: 'no_values',
      metric: 'error_rate',
      variant: 'treatment',
    });
    expect(decision(ramping, { metrics: { ...none, error_rate: FEW_ERRORS } })).toMatchObject({
      action: 'advance',
    });
    expect(decision({ ...ramping, guardrails: [] }, { metrics: none })).toMatchObject({ action: 'advance' });
  });

  it('takes a step for the units of this step, or for guardrails that are certain to be kept', () => {
    const metrics = { thumbs: OPEN, error_rate: FEW_ERRORS };
    const before = (stepUnits: number, more: Partial<Tallies> = {}, changes = {}) =>
      decision({ ...ramping, ...changes }, { metrics, ...more }, undefined, { stepUnits });
    expect(before(1_801)).toEqual({ action: 'wait', reason: 'units_in_step', units: 199, needed: 200 });
    expect(before(1_800)).toMatchObject({ action: 'advance' });
    // More than there are now: the tally was lost, and began anew in this step.
    expect(before(2_001)).toMatchObject({ action: 'advance' });
    expect(before(2_001, { units: { control: 99, treatment: 100 } })).toMatchObject({
      ...{ action: 'wait', units: 199, needed: 200 },
    });
    const sure = { thumbs: OPEN, error_rate: { control: of(20_000, 200), treatment: of(20_000, 200) } };
    expect(before(1_999, { metrics: sure })).toMatchObject({ action: 'advance' });
    const guardrails: unknown[] = [];
    expect(before(1_999, {}, { guardrails })).toMatchObject({ reason: 'units_in_step', units: 1 });
  });

  it('then waits for units before a winner, as many as the ramp says or 200', () => {
    const units = { control: 99, treatment: 99 };
    expect(decision({}, { units })).toEqual({
      action: 'wait',
      reason: 'units',
      units: 198,
      needed: MIN_UNITS,
    });
    const ramp = { ...RAMP, min_units: 5_000 };
    expect(decision({ ...ramping, ramp })).toMatchObject({ reason: 'units', needed: 5_000 });
    expect(
      decision({ ...ramping, ramp: { ...RAMP, min_units: 198 } }, { units, metrics: seen }),
    ).toMatchObject({ action: 'advance' });
  });

  it('then for days, when so many are asked for, and only if there is something to propose', () => {
    const until = START + 3 * 24 * HOUR;
    expect(decision({ min_days: 3 })).toEqual({ action: 'wait', reason: 'days', until });
    expect(decision({ min_days: 3 }, {}, until)).toMatchObject({ action: 'propose_winner' });
    expect(decision({ min_days: 3 }, { metrics: { thumbs: OPEN } })).toMatchObject({
      reason: 'not_significant',
    });
  });

  it('then proposes a winner, also while a step is being held', () => {
    expect(decision()).toEqual({ action: 'propose_winner', variant: 'treatment' });
    expect(decision(ramping, {}, START + HOUR - 1)).toMatchObject({ action: 'propose_winner' });
  });

  it('stands by what was proposed, until the treatment loses', () => {
    const proposal = { variant: 'treatment', at: START, units: 300 };
    const later = (changes: object, metrics: Tallies['metrics']) =>
      decision({ ...changes }, { metrics }, undefined, { proposal });
    expect(later({}, { thumbs: OPEN })).toEqual({ action: 'propose_winner', variant: 'treatment' });
    expect(later(ramping, { ...seen, thumbs: OPEN })).toMatchObject({ action: 'advance' });
    expect(later({}, { thumbs: OPEN, error_rate: BROKEN })).toMatchObject({ action: 'rollback' });
  });

  it('proposes what is good enough where that is what is asked for', () => {
    const asked = (treatment: number, least?: number) => {
      const thumbs = { key: 'thumbs', kind: 'proportion', better: 'up' };
      const metrics = [{ ...thumbs, ...(least === undefined ? {} : { at_least: least }) }];
      const arms = { control: of(40_000, 20_000), treatment: of(40_000, treatment) };
      return decision({ metrics }, { metrics: { thumbs: arms } });
    };
    expect(asked(19_900)).toMatchObject({ reason: 'not_significant' });
    expect(asked(19_900, -0.05)).toEqual({ action: 'propose_winner', variant: 'treatment' });
    // Worse without doubt, and good enough without doubt, and neither of the two yet.
    expect(asked(19_400)).toMatchObject({ action: 'rollback', reason: 'worse' });
    expect(asked(19_400, -0.1)).toMatchObject({ action: 'propose_winner' });
    expect(asked(19_000, -0.05)).toMatchObject({ reason: 'not_significant' });
    expect(asked(18_000, -0.05)).toMatchObject({ action: 'rollback', reason: 'worse' });
  });

  it('and waits otherwise', () => {
    const metrics = { thumbs: OPEN };
    expect(decision({}, { metrics })).toEqual({ action: 'wait', reason: 'not_significant' });
    expect(decision(ramping, { metrics }, START + HOUR - 1)).toEqual({
      action: 'wait',
      reason: 'hold_time',
      until: START + HOUR,
    });
    expect(decision({ ...ramping, coverage: 1 }, { metrics })).toEqual({
      action: 'wait',
      reason: 'not_significant',
    });
  });

  it('takes the step from when the coverage was set, not from the start', () => {
    const stepStartedAt = START + 23.5 * HOUR;
    expect(decision(ramping, { metrics: { thumbs: OPEN } }, START + 24 * HOUR, { stepStartedAt })).toEqual({
      action: 'wait',
      reason: 'hold_time',
      until: START + 24.5 * HOUR,
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

  describe('of several treatments', () => {
    const variants = variantsOf([0.25, 0.25, 0.25, 0.25]);
    const units = { a: 1_000, b: 1_000, c: 1_000, d: 1_000 };
    const among = (b: number, c: number, d: number, changes: object = {}, errors: Tallies['metrics'] = {}) =>
      decision(
        { variants, ...changes },
        {
          units: { ...units, ...('dropped' in changes ? { d: 300 } : {}) },
          metrics: {
            thumbs: { a: of(1_000, 400), b: of(1_000, b), c: of(1_000, c), d: of(1_000, d) },
            ...errors,
          },
        },
      );

    it('chooses the best', () => {
      expect(among(550, 600, 410)).toEqual({ action: 'propose_winner', variant: 'c' });
      expect(among(390, 410, 400)).toMatchObject({ action: 'wait', reason: 'not_significant' });
    });

    it('drops one that is worse, the worst first, and ends with the last', () => {
      expect(among(200, 410, 100)).toEqual({
        action: 'drop',
        reason: 'worse',
        metric: 'thumbs',
        variant: 'd',
      });
      expect(among(200, 410, 100, { dropped: ['d'] })).toMatchObject({ action: 'drop', variant: 'b' });
      expect(among(200, 250, 100, { dropped: ['b', 'd'] })).toMatchObject({
        action: 'rollback',
        reason: 'worse',
        variant: 'c',
      });
    });

    it('drops one whose guardrail is lost, and asks nothing more of it', () => {
      const errors = { error_rate: { a: of(900, 9), b: of(900, 9), c: of(900, 9), d: of(900, 400) } };
      expect(among(410, 600, 410, {}, errors)).toEqual({
        action: 'drop',
        reason: 'guardrail',
        metric: 'error_rate',
        variant: 'd',
      });
      // Its units are fewer since: that is no alarm of the sample ratio.
      expect(among(410, 600, 900, { dropped: ['d'] }, errors)).toEqual({
        action: 'propose_winner',
        variant: 'c',
      });
    });
  });
});
