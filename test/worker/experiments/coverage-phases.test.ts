import { describe, expect, it } from 'vitest';
import {
  analyze,
  coveragePhases,
  dealtPhases,
  type CoveragePhase,
} from '../../../worker/experiments/analyze.ts';
import { border } from '../../../worker/experiments/pick-variant.ts';
import { chiSquareTail } from '../../../worker/experiments/statistics/gamma.ts';
import type { ExperimentEvaluation } from '../../../protocol/admin-api/experiments.ts';
import { experimentOf, variantsOf } from './sample-experiment.ts';
import { seeded } from './statistics/simulate.ts';

const lookOf = (units: Record<string, number>, phases?: readonly CoveragePhase[]): ExperimentEvaluation => ({
  ...{ at: 1, seed: 's', coverage: 1, units, alpha: 0.05, comparisons: [], guardrails: [], shadow: {} },
  ...{ health: [], arms: {} },
  sample_ratio: { state: 'ok', p_value: 1, ...(phases === undefined ? {} : { phases: [...phases] }) },
  decision: { action: 'wait', reason: 'not_significant' },
  progress: null,
});
const at = (coverage: number, weights = [0.5, 0.5]) =>
  experimentOf({ coverage, variants: variantsOf(weights) });

describe('coveragePhases', () => {
  it('counts who has come under the present coverage, and what came before it', () => {
    const first = coveragePhases(null, at(0.01), { a: 10, b: 12 });
    expect(first).toEqual([{ coverage: 0.01, units: { a: 10, b: 12 } }]);
    const more = coveragePhases(lookOf({ a: 10, b: 12 }, first), at(0.01), { a: 15, b: 13 });
    expect(more).toEqual([{ coverage: 0.01, units: { a: 15, b: 13 } }]);
    const step = coveragePhases(lookOf({ a: 15, b: 13 }, more), at(0.1), { a: 40, b: 50 });
    expect(step).toEqual([...more, { coverage: 0.1, units: { a: 25, b: 37 } }]);
  });

  it('tests nothing of what came before phases were written down', () => {
    const phases = coveragePhases(lookOf({ a: 900, b: 100 }), at(0.5), { a: 910, b: 112 });
    expect(phases).toEqual([
      { coverage: 0, units: { a: 900, b: 100 } },
      { coverage: 0.5, units: { a: 10, b: 12 } },
    ]);
    expect(dealtPhases(at(0.5), phases)).toHaveLength(1);
  });

  it('begin anew with a tally that was lost', () => {
    const before = [
      { coverage: 0.1, units: { a: 900, b: 900 } },
      { coverage: 0.5, units: { a: 500, b: 500 } },
    ];
    const phases = coveragePhases(lookOf({ a: 1_400, b: 1_400 }, before), at(0.5), { a: 10, b: 12 });
    expect(phases).toEqual([{ coverage: 0.5, units: { a: 10, b: 12 } }]);
    const next = coveragePhases(lookOf({ a: 10, b: 12 }, phases), at(0.5), { a: 20, b: 22 });
    expect(next).toEqual([{ coverage: 0.5, units: { a: 20, b: 22 } }]);
  });

  it('never grow beyond 41', () => {
    let phases: CoveragePhase[] = [];
    for (let i = 1; i <= 100; i++) {
      const units = { a: 10 * i, b: 10 * i };
      phases = coveragePhases(lookOf(units, phases), at(i / 100), units);
    }
    expect(phases).toHaveLength(42);
    expect(phases.reduce((sum, { units }) => sum + units['a']!, 0)).toBe(1_000);
  });
});

/** As buckets were given and judged before: a share of false alarms. */
const before = (weights: readonly number[], coverage: number): number[] => {
  let start = 0;
  return weights.map((weight) => {
    const from = border(start);
    const to = border(start + coverage * weight);
    start += weight;
    return to - from;
  });
};

describe('a ramp of healthy experiments, 200 of them', () => {
  const THIRDS = [0.333333, 0.333333, 0.333333];
  /** Units by whatever buckets: those of the earlier step are seen first, and only once. */
  function ramp(
    weights: readonly number[],
    bucketsAt: (coverage: number) => number[],
    steps: [number, number][],
  ) {
    const random = seeded(7);
    const alarms = { phases: 0, chiSquare: 0 };
    const deal = (buckets: readonly number[]): number => {
      let left = random() * buckets.reduce((sum, one) => sum + one, 0);
      return buckets.findIndex((one) => (left -= one) < 0);
    };
    for (let run = 0; run < 200; run++) {
      const seen = { phases: false, chiSquare: false };
      const units = Object.fromEntries(weights.map((_, arm) => [String.fromCharCode(97 + arm), 0]));
      let last: ExperimentEvaluation | null = null;
      let earlier = weights.map(() => 0);
      for (const [coverage, many] of steps) {
        const buckets = bucketsAt(coverage);
        const added = buckets.map((one, arm) => one - earlier[arm]!);
        for (let n = 1; n <= many; n++) {
          units[String.fromCharCode(97 + deal(added))]! += 1;
          if (n % 500 !== 0) continue;
          const experiment = at(coverage, [...weights]);
          const phases = coveragePhases(last, experiment, units);
          last = lookOf({ ...units }, phases);
          seen.phases ||= analyze(experiment, { units, phases, metrics: {} }).sampleRatio.state === 'alarm';
          const all = Object.values(units);
          const [whole, total] = [buckets, all].map((list) => list.reduce((sum, one) => sum + one, 0)) as [
            number,
            number,
          ];
          const statistic = all.reduce((sum, one, arm) => {
            const expected = (total * buckets[arm]!) / whole;
            return sum + (one - expected) ** 2 / expected;
          }, 0);
          seen.chiSquare ||= chiSquareTail(statistic, weights.length - 1) < 0.001;
        }
        earlier = buckets;
      }
      alarms.phases += Number(seen.phases);
      alarms.chiSquare += Number(seen.chiSquare);
    }
    return { phases: alarms.phases / 200, chiSquare: alarms.chiSquare / 200 };
  }
  const now = (weights: readonly number[]) => (coverage: number) =>
    dealtPhases(at(coverage, [...weights]), [{ coverage, units: {} }])[0]!.dealt[0] as number[];

  it('three arms from 0.1 to 1 %: as it was, most of them alarmed; now at most one of a hundred', () => {
    const steps: [number, number][] = [
      [0.001, 1_500],
      [0.01, 1_500],
    ];
    expect(ramp(THIRDS, (coverage) => before(THIRDS, coverage), steps).chiSquare).toBeGreaterThan(0.6);
    expect(now(THIRDS)(0.001)).toEqual([3, 3, 3]);
    expect(now(THIRDS)(0.01)).toEqual([33, 33, 33]);
    expect(ramp(THIRDS, now(THIRDS), steps).phases).toBeLessThanOrEqual(0.01);
  });

  it('nor does one in which rounding moves the shares: 90 and 10 are 14 and 2 buckets, then 135 and 15', () => {
    const weights = [0.9, 0.1];
    expect([0.0015, 0.015].map(now(weights))).toEqual([
      [14, 2],
      [135, 15],
    ]);
    const steps: [number, number][] = [
      [0.0015, 5_000],
      [0.015, 5_000],
      [0.1, 5_000],
    ];
    const alarms = ramp(weights, now(weights), steps);
    expect(alarms.phases).toBeLessThanOrEqual(0.01);
    expect(alarms.chiSquare).toBeGreaterThan(0.5);
  });
});
