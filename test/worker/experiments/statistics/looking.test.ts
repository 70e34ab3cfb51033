/**
 * Effects of repeated looks: simulates the claims of docs/internals/statistics.md. The seeds are fixed, so
 * the figures are too.
 */
import { describe, expect, it } from 'vitest';
import { ALPHA } from '../../../../worker/experiments/analyze.ts';
import {
  checkGuardrail,
  cautiousLevel,
  sequentialInterval,
  sequentialMultiplier,
} from '../../../../worker/experiments/statistics/sequential.ts';
import {
  variedArm,
  type MetricKind,
  type Moments,
} from '../../../../worker/experiments/statistics/moments.ts';
import {
  absoluteEffect,
  cautiousArms,
  differenceOf,
  liftEffect,
  liftInterval,
  type Effect,
} from '../../../../worker/experiments/statistics/effect.ts';
import { bernoulli, logNormal, seeded, simulate, type Draw } from './simulate.ts';

const EXPERIMENTS = 2_000;
const LOOKS = 50;

/** Standard errors on each side of an interval for one look. */
const Z_95 = 1.96;

/** An evaluation's decision. `once`: would a single-look test call the difference real? */
function judge(control: Moments, treatment: Moments, kind: MetricKind, alpha = ALPHA) {
  const arms = cautiousArms(variedArm(control, kind), variedArm(treatment, kind));
  const difference = differenceOf(...arms);
  if (!difference.ok) throw new Error(difference.error);
  const effect = absoluteEffect(difference.value);
  const level = cautiousLevel(alpha);
  const { low, high } = sequentialInterval(effect, level);
  return {
    different: low > 0 || high < 0,
    delta: excludesZero(liftEffect(difference.value), level),
    once: Math.abs(effect.estimate) > Z_95 * effect.standardError,
    lift: liftInterval(difference.value, sequentialMultiplier(effect.n, level)),
  };
}

function excludesZero(effect: Effect | null, alpha: number): boolean {
  if (effect === null) return false;
  const { low, high } = sequentialInterval(effect, alpha);
  return low > 0 || high < 0;
}

/** Shares of experiments in which any look, or the last one, found a difference. */
interface Figures {
  sequential: number;
  /** The delta method's lift with the same multiplier. */
  delta: number;
  /** The fixed-horizon test at every look. */
  once: number;
  lastOnly: number;
}

function falsePositives(draw: Draw, kind: MetricKind, unitsPerLook: number): Figures {
  const random = seeded(2_106);
  const found = { sequential: 0, delta: 0, once: 0, lastOnly: 0 };
  for (let i = 0; i < EXPERIMENTS; i++) {
    const seen = { sequential: false, delta: false, once: false, lastOnly: false };
    simulate({
      random,
      arms: [draw, draw],
      looks: LOOKS,
      unitsPerLook,
      look: ([control, treatment]) => {
        const { different, once, delta } = judge(control!, treatment!, kind);
        seen.sequential ||= different;
        seen.delta ||= delta;
        seen.once ||= once;
        seen.lastOnly = once;
        return 'go on';
      },
    });
    for (const key of ['sequential', 'delta', 'once', 'lastOnly'] as const) found[key] += Number(seen[key]);
  }
  const share = (n: number) => n / EXPERIMENTS;
  return {
    sequential: share(found.sequential),
    delta: share(found.delta),
    once: share(found.once),
    lastOnly: share(found.lastOnly),
  };
}

describe('2,000 experiments without a difference, 50 looks each', () => {
  // The figures are in docs/internals/statistics.md.
  it.each<[string, Draw, MetricKind, units: number, Figures]>([
    [
      'proportions of 30 %',
      bernoulli(0.3),
      'proportion',
      100,
      { sequential: 0.0175, delta: 0.021, once: 0.3475, lastOnly: 0.0535 },
    ],
    [
      'proportions of 3 %',
      bernoulli(0.03),
      'proportion',
      100,
      { sequential: 0.013, delta: 0.07, once: 0.322, lastOnly: 0.059 },
    ],
    [
      'means of a skewed metric',
      logNormal(1),
      'mean',
      50,
      { sequential: 0.008, delta: 0.014, once: 0.3035, lastOnly: 0.0515 },
    ],
  ])('%s: at most one in twenty is called different at any look', (_what, draw, kind, units, documented) => {
    const figures = falsePositives(draw, kind, units);
    expect(figures.sequential).toBeLessThanOrEqual(0.05);
    // The single-look test: correct if used once (5 % plus or minus three standard deviations) …
    expect(Math.abs(figures.lastOnly - 0.05)).toBeLessThan(0.0147);
    // … and far off if used fifty times.
    expect(figures.once).toBeGreaterThan(0.25);
    for (const key of ['sequential', 'delta', 'once', 'lastOnly'] as const)
      expect(figures[key], key).toBeCloseTo(documented[key], 2);
  });

  it('three treatments against one control: at most 5 % find any difference', () => {
    const random = seeded(3);
    const draw = bernoulli(0.3);
    let wrong = 0;
    for (let i = 0; i < 1_000; i++) {
      let seen = false;
      simulate({
        random,
        arms: [draw, draw, draw, draw],
        looks: LOOKS,
        unitsPerLook: 50,
        look: ([control, ...treatments]) => {
          seen = treatments.some((one) => judge(control!, one, 'proportion', ALPHA / 3).different);
          return seen ? 'stop' : 'go on';
        },
      });
      wrong += Number(seen);
    }
    expect(wrong / 1_000).toBeLessThanOrEqual(0.05);
  });

  it('a guardrail without any allowance is lost by mistake in at most 5 %', () => {
    const random = seeded(4);
    const draw = bernoulli(0.02);
    const rail = {
      metric: 'error_rate',
      max_relative_increase: 0,
      max_absolute_increase: 0,
      action: 'rollback',
    } as const;
    let lost = 0;
    for (let i = 0; i < 1_000; i++) {
      let seen = false;
      simulate({
        random,
        arms: [draw, draw],
        looks: LOOKS,
        unitsPerLook: 40,
        look: ([control, treatment]) => {
          const result = checkGuardrail({
            rail,
            variant: 't',
            kind: 'proportion',
            control: control!,
            treatment: treatment!,
          });
          seen = result.state === 'lost';
          return seen ? 'stop' : 'go on';
        },
      });
      lost += Number(seen);
    }
    expect(lost / 1_000).toBeLessThanOrEqual(0.05);
  });
});

describe('500 experiments with a lift, 200 units a look up to 10,000', () => {
  it.each([
    { from: 0.3, to: 0.36, power: 1, medianUnits: 2_400 },
    { from: 0.3, to: 0.33, power: 0.656, medianUnits: 5_800 },
  ])('from $from to $to: found in $power, at $medianUnits units', ({ from, to, power, medianUnits }) => {
    const random = seeded(5);
    const truth = to / from - 1;
    const found: number[] = [];
    let missedTruth = 0;
    for (let i = 0; i < 500; i++) {
      let firstFound = 0;
      let missed = false;
      simulate({
        random,
        arms: [bernoulli(from), bernoulli(to)],
        looks: LOOKS,
        unitsPerLook: 100,
        look: ([control, treatment]) => {
          const { different, lift } = judge(control!, treatment!, 'proportion');
          missed ||= lift !== null && (lift.low > truth || lift.high < truth);
          if (different && firstFound === 0) firstFound = control!.n + treatment!.n;
          return 'go on';
        },
      });
      if (firstFound > 0) found.push(firstFound);
      missedTruth += Number(missed);
    }
    found.sort((a, b) => a - b);
    expect(found.length / 500).toBeCloseTo(power, 2);
    expect(found[found.length >> 1]).toBe(medianUnits);
    // The lift's interval covers the truth at all looks simultaneously.
    expect(missedTruth / 500).toBeLessThanOrEqual(0.05);
  });
});
