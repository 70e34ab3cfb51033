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
  });

  describe('with at_least', () => {
    const verdict = (sum: number, better: 'up' | 'down', atLeast?: number, n = 100_000) =>
      analyze(
        experimentOf({
          metrics: [
            {
              key: 'thumbs',
              kind: 'proportion',
              better,
              ...(atLeast === undefined ? {} : { at_least: atLeast }),
            },
          ],
        }),
        tallies({ metrics: { thumbs: { control: of(n, 0.3 * n), treatment: of(n, sum * n) } } }),
      ).comparisons[0]?.verdict;

    it('says that a treatment is not worse once its whole interval is above that', () => {
      expect(verdict(0.3, 'up')).toBe('open');
      expect(verdict(0.3, 'up', -0.03)).toBe('not_worse');
      expect(verdict(0.3, 'up', -0.01)).toBe('open');
      expect(verdict(0.3, 'up', -0.03, 5_000)).toBe('open');
    });

    it('also of one that is a little worse, if that is allowed; and better is better', () => {
      expect(verdict(0.29, 'up')).toBe('worse');
      expect(verdict(0.29, 'up', -0.06)).toBe('not_worse');
      expect(verdict(0.29, 'up', -0.05)).toBe('worse');
      expect(verdict(0.32, 'up', -0.05)).toBe('better');
    });

    it('the way that is better: of a metric that should fall, 2 % more is -2 %', () => {
      expect(verdict(0.31, 'down')).toBe('worse');
      expect(verdict(0.31, 'down', -0.06)).toBe('not_worse');
      expect(verdict(0.29, 'down', -0.06)).toBe('better');
    });
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
    expect(thumbs).toMatchObject({ verdict: 'better', result: { lift: null, pValue: 0 } });
  });

  it('takes the time before into account where there is one', () => {
    const paired = (sum: number) => ({
      ...{ ...of(1_000, sum), paired: 1_000, pairedSum: sum },
      ...{ preSum: 500, preSumSquares: 500, products: 450 },
    });
    const plain = tallies({ metrics: { thumbs: { control: of(1_000, 500), treatment: of(1_000, 530) } } });
    const before = tallies({ metrics: { thumbs: { control: paired(500), treatment: paired(530) } } });
    const [without] = analyze(experimentOf(), plain).comparisons;
    const [withIt] = analyze(experimentOf(), before).comparisons;
    expect([without?.result?.adjusted, withIt?.result?.adjusted]).toEqual([null, { share: 1 }]);
    expect(withIt?.result?.pValue).toBeLessThan(without?.result?.pValue ?? NaN);
  });

  it('stays with what units did before when some have nothing from before, and says of how many it is known', () => {
    const gapped = (sum: number, known: number) => ({
      ...{ ...of(1_000, sum), paired: known, pairedSum: 0.5 * known },
      ...{ preSum: 0.5 * known, preSumSquares: 0.5 * known, products: 0.45 * known },
    });
    const result = (known: number) =>
      analyze(
        experimentOf(),
        tallies({ metrics: { thumbs: { control: gapped(500, known), treatment: gapped(530, known) } } }),
      ).comparisons[0]!.result!;
    const width = (known: number) => {
      const { low, high } = result(known).difference.interval;
      return high - low;
    };
    expect(result(800).adjusted).toEqual({ share: 0.8 });
    expect(width(1_000)).toBeLessThan(width(800));
    expect(width(800)).toBeLessThan(width(200));
    // Of fewer than 50 nothing is learnt.
    expect(result(49).adjusted).toBeNull();
  });

  it('expects units by the buckets that the arms really have: thirds have the same number at every step', () => {
    const thirds = experimentOf({ variants: variantsOf([0.333333, 0.333333, 0.333333]), coverage: 0.01 });
    const units = { a: 330_000, b: 340_000, c: 330_000 };
    expect(analyze(thirds, { units, metrics: {} }).sampleRatio.state).toBe('alarm');
    const even = { a: 333_300, b: 333_400, c: 333_300 };
    for (const coverage of [0.001, 0.01, 1])
      expect(analyze({ ...thirds, coverage }, { units: even, metrics: {} }).sampleRatio.state).toBe('ok');
  });
});
