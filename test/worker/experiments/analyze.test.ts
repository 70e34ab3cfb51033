import { describe, expect, it } from 'vitest';
import { analyze, type Tallies } from '../../../worker/experiments/analyze.ts';
import type { Moments } from '../../../worker/experiments/statistics/moments.ts';
import { experimentOf, variantsOf } from './sample-experiment.ts';

const of = (n: number, sum: number, sumSquares = sum): Moments => ({ n, sum, sumSquares });
const tallies = (changes: Partial<Tallies> = {}): Tallies => ({
  units: { control: 1_000, treatment: 1_000 },
  metrics: {
    thumbs: { control: of(1_000, 300), treatment: of(1_000, 420) },
    latency_ms: { control: of(1_000, 100_000, 1.1e7), treatment: of(1_000, 150_000, 2.4e7) },
    error_rate: { control: of(1_000, 10), treatment: of(1_000, 12) },
  },
  ...changes,
});

describe('analyze', () => {
  it('judges every metric the way it is meant to go', () => {
    const { comparisons, units, sampleRatio, guardrails } = analyze(experimentOf(), tallies());
    expect(units).toBe(2_000);
    expect(sampleRatio.state).toBe('ok');
    expect(guardrails.map(({ metric, state }) => [metric, state])).toEqual([['error_rate', 'kept']]);
    expect(comparisons.map(({ metric, verdict }) => [metric.key, verdict])).toEqual([
      ['thumbs', 'better'],
      ['latency_ms', 'worse'],
    ]);
    const [thumbs] = comparisons;
    expect(thumbs).toMatchObject({
      control: { n: 1_000, mean: 0.3 },
      treatment: { mean: 0.42 },
      reason: null,
    });
    expect(thumbs?.result?.lift?.estimate).toBeCloseTo(0.4, 12);
    expect(thumbs?.result?.lift?.interval.low).toBeGreaterThan(0);
    expect(thumbs?.result?.bayes?.chanceToWin).toBeGreaterThan(0.99);
    expect(comparisons[1]?.result?.bayes?.chanceToWin).toBeLessThan(0.01);
  });

  it('is wider than the test for one look, which it shows beside', () => {
    const result = analyze(experimentOf(), tallies()).comparisons[0]?.result;
    expect(result?.once.interval.low).toBeGreaterThan(result?.difference.interval.low ?? NaN);
    expect(result?.once.pValue).toBeLessThan(result?.pValue ?? NaN);
    expect(result?.once.lift?.high).toBeLessThan(result?.lift?.interval.high ?? NaN);
  });

  it('gives each of several treatments its share of the error: one that is significant alone is not among four', () => {
    const arm = (sum: number) => of(1_000, sum);
    const two = analyze(experimentOf({ variants: variantsOf([0.5, 0.5]) }), {
      units: { a: 1_000, b: 1_000 },
      metrics: { thumbs: { a: arm(300), b: arm(374) } },
    });
    const five = analyze(experimentOf({ variants: variantsOf([0.2, 0.2, 0.2, 0.2, 0.2]) }), {
      units: { a: 1_000, b: 1_000, c: 1_000, d: 1_000, e: 1_000 },
      metrics: { thumbs: { a: arm(300), b: arm(374), c: arm(300), d: arm(300), e: arm(300) } },
    });
    expect([two.alpha, five.alpha]).toEqual([0.05, 0.0125]);
    expect(two.comparisons[0]?.verdict).toBe('better');
    expect(
      five.comparisons.filter(({ metric }) => metric.key === 'thumbs').map(({ verdict }) => verdict),
    ).toEqual(['open', 'open', 'open', 'open']);
  });

  it('calls nothing a difference below 50 values an arm, and has no result without values', () => {
    const [thumbs, latency] = analyze(
      experimentOf(),
      tallies({ metrics: { thumbs: { control: of(49, 0), treatment: of(49, 49) } } }),
    ).comparisons;
    expect(thumbs).toMatchObject({ verdict: 'open', reason: 'too_few_values' });
    expect(thumbs?.result?.difference.estimate).toBe(1);
    expect(latency).toMatchObject({ result: null, reason: 'too_few_values', verdict: 'open' });
  });

  it('decides by the difference where there is no lift: control has never had one', () => {
    const [thumbs] = analyze(
      experimentOf(),
      tallies({ metrics: { thumbs: { control: of(200, 0), treatment: of(200, 200) } } }),
    ).comparisons;
    expect(thumbs).toMatchObject({ verdict: 'better', result: { lift: null, bayes: null, pValue: 0 } });
  });

  it('takes the time before into account where there is one', () => {
    const paired = (sum: number) => ({ ...of(1_000, sum), preSum: 500, preSumSquares: 500, products: 450 });
    const plain = tallies({ metrics: { thumbs: { control: of(1_000, 500), treatment: of(1_000, 530) } } });
    const before = tallies({ metrics: { thumbs: { control: paired(500), treatment: paired(530) } } });
    const [without] = analyze(experimentOf(), plain).comparisons;
    const [withIt] = analyze(experimentOf(), before).comparisons;
    expect([without?.result?.adjusted, withIt?.result?.adjusted]).toEqual([false, true]);
    expect(withIt?.result?.pValue).toBeLessThan(without?.result?.pValue ?? NaN);
  });

  it('expects units by the buckets that the arms really have: thirds of 1 % are 33, 34 and 33', () => {
    const thirds = experimentOf({ variants: variantsOf([0.333333, 0.333333, 0.333333]), coverage: 0.01 });
    const units = { a: 330_000, b: 340_000, c: 330_000 };
    expect(analyze(thirds, { units, metrics: {} }).sampleRatio.state).toBe('ok');
    expect(analyze({ ...thirds, coverage: 1 }, { units, metrics: {} }).sampleRatio.state).toBe('alarm');
  });
});
