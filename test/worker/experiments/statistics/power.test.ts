import { describe, expect, it } from 'vitest';
import {
  daysToFind,
  liftToFind,
  powerOf,
  unitsToFind,
} from '../../../../worker/experiments/statistics/power.ts';

const THUMBS = { kind: 'proportion', mean: 0.3, variance: 0.21 } as const;
const LATENCY = { kind: 'mean', mean: 300, variance: 300 ** 2 } as const;
const EVEN = { control: 1, treatment: 1 };
const plan = { baseline: THUMBS, weights: EVEN, lift: 0.1, alpha: 0.05, least: 50 };

describe('powerOf', () => {
  it('is what simulations find, or a little less (docs/internals/statistics.md)', () => {
    const of = (units: number, lift: number) =>
      powerOf({ baseline: THUMBS, units: { control: units / 2, treatment: units / 2 }, lift, alpha: 0.05 });
    // looking.test.ts: 0.656 of experiments by 10,000 units; half of those with a lift of a fifth by 2,400.
    expect(of(10_000, 0.1)).toBeCloseTo(0.644, 3);
    expect(of(10_000, 0.2)).toBeGreaterThan(0.999);
    expect(of(2_200, 0.2)).toBeLessThan(0.55);
    expect(of(2_400, 0.2)).toBeGreaterThan(0.5);
  });

  it('is zero for impossible values', () => {
    const units = { control: 500, treatment: 500 };
    expect(powerOf({ baseline: THUMBS, units, lift: 3, alpha: 0.05 })).toBe(0);
    expect(powerOf({ baseline: { ...THUMBS, variance: 0 }, units, lift: 0.1, alpha: 0.05 })).toBe(0);
  });
});

describe('a plan', () => {
  it('needs four times the units for half the lift, and more with a small arm or another treatment', () => {
    const units = unitsToFind(plan)!;
    expect(units).toBe(13_422);
    const half = unitsToFind({ ...plan, lift: 0.05 })!;
    expect(half / units).toBeGreaterThan(3.9);
    expect(half / units).toBeLessThan(5);
    const weights = { control: 0.9, treatment: 0.1 };
    expect(unitsToFind({ ...plan, weights })!).toBeGreaterThan(2.5 * units);
    expect(unitsToFind({ ...plan, alpha: 0.025 })!).toBeGreaterThan(units);
  });

  it('never promises a result before each arm has its minimum', () => {
    expect(unitsToFind({ ...plan, lift: 2.3, weights: { control: 9, treatment: 1 } })).toBe(500);
  });

  it('returns the days it takes, or null if it never ends', () => {
    expect(daysToFind({ ...plan, unitsADay: 1_342.2 })).toBeCloseTo(10, 12);
    expect(daysToFind({ ...plan, unitsADay: 0 })).toBeNull();
    expect(unitsToFind({ ...plan, lift: 0 })).toBeNull();
    expect(unitsToFind({ ...plan, weights: { control: 1, treatment: 0 } })).toBeNull();
    expect(unitsToFind({ ...plan, baseline: { ...THUMBS, mean: 0, variance: 0 } })).toBeNull();
  });
});

describe('liftToFind', () => {
  it('inverts the plan, in either direction', () => {
    const units = { control: 13_422 / 2, treatment: 13_422 / 2 };
    expect(liftToFind({ baseline: THUMBS, units, alpha: 0.05, better: 'up' })).toBeCloseTo(0.1, 4);
    const down = liftToFind({ baseline: LATENCY, units, alpha: 0.05, better: 'down' })!;
    expect(down).toBeLessThan(0);
    expect(powerOf({ baseline: LATENCY, units, lift: down, alpha: 0.05 })).toBeCloseTo(0.8, 6);
  });

  it('is null if nothing could be found', () => {
    const units = { control: 5, treatment: 5 };
    expect(liftToFind({ baseline: THUMBS, units, alpha: 0.05, better: 'up' })).toBeNull();
    const nought = { ...LATENCY, mean: 0 };
    expect(liftToFind({ baseline: nought, units, alpha: 0.05, better: 'up' })).toBeNull();
  });
});
