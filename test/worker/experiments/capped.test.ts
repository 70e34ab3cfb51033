/** Means that are capped at control's p99: the sums, what they are worth, and the error level of what is decided. */
import { describe, expect, it } from 'vitest';
import type { ExperimentMetric } from '../../../protocol/experiment.ts';
import { compare, cappedMetrics, MIN_CAPPING_UNITS } from '../../../worker/experiments/analyze.ts';
import { addValue, NO_MOMENTS, type Moments } from '../../../worker/experiments/statistics/moments.ts';
import { moveInSketch, type OpenSketch } from '../../../worker/experiments/statistics/sketch.ts';
import { experimentOf } from './sample-experiment.ts';
import { logNormal, seeded, type Draw } from './statistics/simulate.ts';

const METRIC: ExperimentMetric = { key: 'revenue', kind: 'mean', better: 'up', cap: 'p99' };
const EXPERIMENT = experimentOf({ metrics: [METRIC] });

interface Arm {
  moments: Moments;
  sketch: OpenSketch;
}
const emptyArm = (): Arm => ({ moments: NO_MOMENTS, sketch: new Map() });
function tell(arm: Arm, value: number): void {
  arm.moments = addValue(arm.moments, value);
  moveInSketch(arm.sketch, { was: null, is: value, told: value });
}
const cappedOf = (control: Arm, treatment: Arm) =>
  cappedMetrics(EXPERIMENT, {
    metrics: { revenue: { control: control.moments, treatment: treatment.moments } },
    sketches: { revenue: { control: control.sketch, treatment: treatment.sketch } },
  })['revenue']!;

describe('a metric that is capped', () => {
  it('has in both arms the mean of values that are cut at control’s p99', () => {
    const random = seeded(5);
    const [control, treatment] = [emptyArm(), emptyArm()];
    const told: number[][] = [[], []];
    for (let i = 0; i < 2_000; i += 1)
      for (const [at, arm] of [control, treatment].entries()) {
        const value = logNormal(2)(random) * (at === 0 ? 1 : 1.4);
        told[at]!.push(value);
        tell(arm, value);
      }
    const p99 = [...told[0]!].sort((a, b) => a - b)[1_979]!;
    const { value: cap, arms } = cappedOf(control, treatment);
    // The border of the bucket in which it lies.
    expect(cap! / p99).toBeGreaterThanOrEqual(1);
    expect(cap! / p99).toBeLessThan(1.041);
    for (const [at, key] of ['control', 'treatment'].entries()) {
      const direct = told[at]!.reduce((sum, one) => sum + Math.min(one, cap!), 0);
      expect(arms[key]!.sum / direct).toBeCloseTo(1, 9);
      const atP99 = told[at]!.reduce((sum, one) => sum + Math.min(one, p99), 0);
      expect(arms[key]!.sum / atP99).toBeGreaterThanOrEqual(1);
      expect(arms[key]!.sum / atP99).toBeLessThan(1.041);
    }
  });

  it('is not told before control has values enough, nor where one arm is not known value by value', () => {
    const [control, treatment] = [emptyArm(), emptyArm()];
    for (let i = 1; i < MIN_CAPPING_UNITS; i += 1) tell(control, i);
    tell(treatment, 5);
    expect(cappedOf(control, treatment)).toEqual({ value: null, arms: {} });
    tell(control, 200);
    expect(cappedOf(control, treatment).value).toBeGreaterThanOrEqual(198);
    const unknown = cappedMetrics(EXPERIMENT, {
      metrics: { revenue: { control: control.moments, treatment: treatment.moments } },
      sketches: { revenue: { control: control.sketch } },
    });
    expect(unknown['revenue']).toEqual({ value: null, arms: {} });
    const both = { control: control.moments, treatment: control.moments };
    const open = compare({ metric: METRIC, variant: 'treatment', ...both, alpha: 0.05, cap: null });
    expect(open).toMatchObject({ verdict: 'open', reason: 'too_few_values', cap: null });
  });

  /** @returns looks until something was called, of those that called it; looked at 40 times, 100 units an arm each. */
  function called(draws: [Draw, Draw], experiments: number, isCapped: boolean): number[] {
    const random = seeded(11);
    const found: number[] = [];
    for (let run = 0; run < experiments; run += 1) {
      const arms = [emptyArm(), emptyArm()] as const;
      for (let look = 1; look <= 40; look += 1) {
        for (let i = 0; i < 100; i += 1) arms.forEach((arm, at) => tell(arm, draws[at]!(random)));
        const { value, arms: capped } = cappedOf(...arms);
        const [control, treatment] = isCapped
          ? [capped['control'] ?? NO_MOMENTS, capped['treatment'] ?? NO_MOMENTS]
          : [arms[0].moments, arms[1].moments];
        const asked = { metric: METRIC, variant: 'treatment', control, treatment, alpha: 0.05 };
        const { verdict } = compare(isCapped ? { ...asked, cap: value } : asked);
        if (verdict === 'open') continue;
        found.push(look);
        break;
      }
    }
    return found;
  }

  it('is called different where it is not in at most 5 % of experiments, with long tails', () => {
    expect(called([logNormal(2), logNormal(2)], 300, true).length / 300).toBeLessThanOrEqual(0.05);
  });

  it('finds what long tails hide', () => {
    const more: Draw = (random) => 1.35 * logNormal(2)(random);
    const capped = called([logNormal(2), more], 60, true).length;
    const plain = called([logNormal(2), more], 60, false).length;
    expect(capped).toBeGreaterThan(plain + 20);
  });
});
