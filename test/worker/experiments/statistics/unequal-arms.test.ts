/**
 * Unequal arms without a difference, judged with plain and with cautious variances;
 * bench/experiment-errors.ts produces the whole table. The seeds are fixed, so the figures are too; they are
 * in bench/LOG.md.
 */
import { describe, expect, it } from 'vitest';
import { ALPHA, compare, MIN_VALUES } from '../../../../worker/experiments/analyze.ts';
import {
  checkGuardrail,
  GUARDRAIL_MIN_UNITS,
  GUARDRAIL_TUNING_UNITS,
  oneSidedMultiplier,
  sequentialMultiplier,
} from '../../../../worker/experiments/statistics/sequential.ts';
import {
  armOf,
  cautiousProportion,
  variedArm,
  type MetricKind,
  type Moments,
} from '../../../../worker/experiments/statistics/moments.ts';
import { bernoulli, logNormal, seeded, type Draw } from './simulate.ts';

const EXPERIMENTS = 300;
const UNITS = 15_000;
const LOOK_GROWTH = 1.02;
const RAIL = { metric: 'm', max_absolute_increase: 0, action: 'rollback' } as const;

/** Each arm's own variance, counting all units equally. */
const before = {
  verdict(control: Moments, treatment: Moments, kind: MetricKind): boolean {
    if (Math.min(control.n, treatment.n) < MIN_VALUES) return false;
    const [a, b] = [variedArm(control, kind), variedArm(treatment, kind)];
    const half = Math.sqrt(a.variance / a.n + b.variance / b.n) * sequentialMultiplier(a.n + b.n, ALPHA);
    return Math.abs(b.mean - a.mean) > half;
  },
  guardrail(control: Moments, treatment: Moments, kind: MetricKind): boolean {
    if (Math.min(control.n, treatment.n) < GUARDRAIL_MIN_UNITS) return false;
    const arm = (moments: Moments) =>
      kind === 'proportion' ? cautiousProportion(moments) : armOf(moments, kind);
    const [a, b] = [arm(control), arm(treatment)];
    const error = Math.sqrt(a.variance / a.n + b.variance / b.n);
    return b.mean - a.mean > error * oneSidedMultiplier(a.n + b.n, 0.05, GUARDRAIL_TUNING_UNITS);
  },
};
const now = {
  verdict(control: Moments, treatment: Moments, kind: MetricKind): boolean {
    const metric = { key: 'm', kind, better: 'up' } as const;
    return compare({ metric, variant: 't', control, treatment, alpha: ALPHA }).verdict !== 'open';
  },
  guardrail: (control: Moments, treatment: Moments, kind: MetricKind): boolean =>
    checkGuardrail({ rail: RAIL, variant: 't', kind, control, treatment }).state === 'lost',
};

/** @returns shares of experiments in percent: plain and cautious verdicts, plain and cautious guardrails. */
function errors(draw: Draw, kind: MetricKind, treatmentShare: number): number[] {
  const random = seeded(21);
  const found = [0, 0, 0, 0];
  for (let run = 0; run < EXPERIMENTS; run++) {
    const arms = [0, 1].map(() => ({ n: 0, sum: 0, sumSquares: 0 })) as [Moments, Moments];
    const seen = [false, false, false, false];
    for (let n = 1, next = 20; n <= UNITS; n++) {
      const arm = arms[random() < treatmentShare ? 1 : 0];
      const value = draw(random);
      arm.n += 1;
      arm.sum += value;
      arm.sumSquares += value * value;
      if (n < next) continue;
      next = Math.ceil(n * LOOK_GROWTH);
      for (const [i, how] of [before.verdict, now.verdict, before.guardrail, now.guardrail].entries())
        seen[i] ||= how(...arms, kind);
    }
    for (const [i, one] of seen.entries()) found[i]! += Number(one);
  }
  return found.map((n) => Number(((100 * n) / EXPERIMENTS).toFixed(1)));
}

describe('300 experiments without a difference, with continuous looks, to 15,000 units', () => {
  it.each<[string, Draw, MetricKind, treatment: number, figures: number[]]>([
    ['binary, 1 %; treatment 50 %', bernoulli(0.01), 'proportion', 0.5, [2, 2, 0.3, 0.3]],
    ['binary, 1 %; treatment 5 %', bernoulli(0.01), 'proportion', 0.05, [9.3, 0, 0, 0]],
    ['binary, 3 %; treatment 90 %', bernoulli(0.03), 'proportion', 0.9, [8, 0, 3, 0]],
    ['log-normal, sigma 1.5; treatment 50 %', logNormal(1.5), 'mean', 0.5, [2.7, 2, 1.7, 1]],
    ['log-normal, sigma 1.5; treatment 10 %', logNormal(1.5), 'mean', 0.1, [13, 0, 0, 0]],
    ['log-normal, sigma 1.5; treatment 90 %', logNormal(1.5), 'mean', 0.9, [14, 0, 30.3, 0]],
  ])('%s', (_what, draw, kind, treatmentShare, figures) => {
    const found = errors(draw, kind, treatmentShare);
    expect(found).toEqual(figures);
    expect(found[1]).toBeLessThanOrEqual(5);
    expect(found[3]).toBeLessThanOrEqual(5);
  });
});
