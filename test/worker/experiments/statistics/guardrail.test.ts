import { describe, expect, it } from 'vitest';
import type { ExperimentGuardrail } from '../../../../protocol/experiment.ts';
import { checkGuardrail } from '../../../../worker/experiments/statistics/sequential.ts';

const check = (
  control: [n: number, sum: number],
  treatment: [n: number, sum: number],
  limits: Partial<ExperimentGuardrail> = { max_absolute_increase: 0.02, max_relative_increase: 0.5 },
) => {
  const of = ([n, sum]: [number, number]) => ({ n, sum, sumSquares: sum });
  return checkGuardrail({
    rail: { metric: 'error_rate', action: 'rollback', ...limits },
    variant: 'treatment',
    kind: 'proportion',
    control: of(control),
    treatment: of(treatment),
  });
};

describe('checkGuardrail', () => {
  it('is lost at once by an adapter that always fails, even if control never did', () => {
    expect(check([8, 0], [8, 8])).toMatchObject({
      state: 'lost',
      lost: { limit: 'absolute', allowed: 0.02 },
    });
    expect(check([7, 0], [100, 100]).state).toBe('too_few_units');
  });

  it('is kept with chance fluctuations, with less harm than it allows, and with an improvement', () => {
    expect(check([100, 2], [100, 5]).state).toBe('kept');
    expect(check([5_000, 100], [5_000, 150]).state).toBe('kept');
    expect(check([5_000, 500], [5_000, 100]).state).toBe('kept');
  });

  it('is lost if either limit is', () => {
    const [control, treatment]: [number, number][] = [
      [20_000, 200],
      [20_000, 500],
    ];
    expect(check(control!, treatment!, { max_absolute_increase: 0.02 }).state).toBe('kept');
    expect(check(control!, treatment!, { max_relative_increase: 0.5 })).toMatchObject({
      state: 'lost',
      lost: { limit: 'relative', allowed: 0.5 },
      control: 0.01,
      treatment: 0.025,
    });
  });

  it('supports means too, and reports when nothing is certain', () => {
    const latency = (n: number, mean: number, variance = 400) => ({
      n,
      sum: n * mean,
      sumSquares: n * mean ** 2 + (n - 1) * variance,
    });
    const of = (treatment: ReturnType<typeof latency>, control = latency(200, 100)) =>
      checkGuardrail({
        rail: { metric: 'latency_ms', action: 'hold', max_relative_increase: 0.1 },
        variant: 'treatment',
        kind: 'mean',
        control,
        treatment,
      }).state;
    expect(of(latency(200, 130))).toBe('lost');
    expect(of(latency(200, 105))).toBe('kept');
    expect(of(latency(200, 130, 0), latency(200, 100, 0))).toBe('unknown');
    // From -100 it may rise by a tenth of 100, to -90.
    expect(of(latency(200, -60), latency(200, -100))).toBe('lost');
    expect(of(latency(200, -95), latency(200, -100))).toBe('kept');
  });
});
