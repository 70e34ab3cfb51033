import { describe, expect, it } from 'vitest';
import { emptyArm } from '../../../worker/experiments/empty-arm.ts';
import { legalChange } from '../../../worker/experiments/legal-change.ts';
import { experimentOf, variantsOf } from './sample-experiment.ts';

const small = (coverage: number, steps?: number[]) =>
  experimentOf({
    variants: variantsOf([0.9, 0.09, 0.01]),
    coverage,
    ...(steps === undefined ? {} : { ramp: { steps, hold_minutes: 60, min_units: 200 } }),
  });

describe('emptyArm', () => {
  it('names the first share at which a variant would get no bucket, and what is enough', () => {
    expect(emptyArm(small(1))).toBeNull();
    expect(emptyArm(small(0.005))).toBeNull();
    expect(emptyArm(small(0.004))).toEqual({
      field: 'coverage',
      reason:
        "at a coverage of 0.004, variant 'c' with weight 0.01 would get none of the 10000 buckets; take at least 0.005, or a larger weight",
    });
    expect(emptyArm(small(1, [0.01, 0.1, 1]))).toBeNull();
    expect(emptyArm(small(1, [0.001, 0.1]))).toMatchObject({ field: 'ramp.steps.0' });
    expect(emptyArm(small(0))).toBeNull();
  });

  it('advises what is enough for all of them', () => {
    for (const coverage of [0.0001, 0.0005, 0.002]) {
      const least = Number(/at least ([\d.]+)/.exec(emptyArm(small(coverage))!.reason)![1]);
      expect(emptyArm(small(least))).toBeNull();
    }
  });

  it('keeps such a step out of a live experiment, and lets one that has it already be ended', () => {
    const before = small(0.1, [0.1, 1]);
    const change = { ...before, version: before.version + 1 };
    expect(legalChange(before, { ...change, ramp: { ...before.ramp!, steps: [0.001, 1] } })).toMatchObject({
      error: { field: 'ramp.steps.0' },
    });
    const old = small(0.001);
    expect(legalChange(old, { ...old, version: old.version + 1, status: 'decided' }).ok).toBe(true);
    expect(legalChange(old, { ...old, version: old.version + 1, coverage: 0.002 })).toMatchObject({
      error: { field: 'coverage' },
    });
  });
});
