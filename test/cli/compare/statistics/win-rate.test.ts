import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { winRate, Z_95 } from '../../../../cli/compare/statistics/win-rate.ts';

const outcomes = fc
  .record({ wins: fc.nat(400), ties: fc.nat(400), losses: fc.nat(400) })
  .filter(({ wins, ties, losses }) => wins + ties + losses > 0);

/** The score at a win rate, with the likeliest probability of a loss found by searching the likelihood. */
function scoreBySearch(
  { wins, ties, losses }: { wins: number; ties: number; losses: number },
  rate: number,
): number {
  const n = wins + ties + losses;
  const difference = 2 * rate - 1;
  const likelihood = (loss: number): number => {
    const log = (count: number, p: number): number => (count === 0 ? 0 : count * Math.log(p));
    return (
      log(wins, loss + difference) + log(losses, loss) + log(ties, Math.max(0, 1 - 2 * loss - difference))
    );
  };
  let low = Math.max(0, -difference);
  let high = (1 - difference) / 2;
  for (let i = 0; i < 200; i++) {
    const [left, right] = [low + (high - low) / 3, high - (high - low) / 3];
    if (likelihood(left) < likelihood(right)) low = left;
    else high = right;
  }
  const loss = (low + high) / 2;
  return (wins - losses - n * difference) / Math.sqrt(n * (2 * loss + difference - difference * difference));
}

describe('winRate', () => {
  // Newcombe, Statistics in Medicine 17 (1998), 857, table I, method 3: Wilson's, which this is without ties.
  it.each([
    { wins: 81, n: 263, low: 0.2553, high: 0.3662 },
    { wins: 15, n: 148, low: 0.0624, high: 0.1605 },
    { wins: 0, n: 20, low: 0, high: 0.1611 },
    { wins: 1, n: 29, low: 0.0061, high: 0.1718 },
  ])('is Wilson’s without ties: $wins of $n', ({ wins, n, low, high }) => {
    const rate = winRate({ wins, ties: 0, losses: n - wins })!;
    expect(rate.estimate).toBeCloseTo(wins / n, 12);
    expect(rate.low).toBeCloseTo(low, 4);
    expect(rate.high).toBeCloseTo(high, 4);
  });

  it('knows nothing of nothing', () => {
    expect(winRate({ wins: 0, ties: 0, losses: 0 })).toBeNull();
  });

  it('only ties: one half, and z²/(n + z²) as the difference’s half-width', () => {
    const n = 10;
    const half = Z_95 ** 2 / (n + Z_95 ** 2) / 2;
    const rate = winRate({ wins: 0, ties: n, losses: 0 })!;
    expect(rate.estimate).toBe(0.5);
    expect(rate.low).toBeCloseTo(0.5 - half, 10);
    expect(rate.high).toBeCloseTo(0.5 + half, 10);
  });

  it('lies where the score is z, with the likelihood maximised by searching', () => {
    const cases = [
      { wins: 30, ties: 15, losses: 12 },
      { wins: 3, ties: 40, losses: 9 },
      { wins: 1, ties: 43, losses: 0 },
      { wins: 7, ties: 1, losses: 2 },
    ];
    for (const one of cases) {
      const { low, high } = winRate(one)!;
      expect(scoreBySearch(one, low)).toBeCloseTo(Z_95, 4);
      expect(scoreBySearch(one, high)).toBeCloseTo(-Z_95, 4);
    }
  });

  it('holds the estimate, stays within 0 and 1, and turns around with the sides', () => {
    fc.assert(
      fc.property(outcomes, ({ wins, ties, losses }) => {
        const one = winRate({ wins, ties, losses })!;
        const other = winRate({ wins: losses, ties, losses: wins })!;
        expect(one.low).toBeLessThanOrEqual(one.estimate + 1e-9);
        expect(one.high).toBeGreaterThanOrEqual(one.estimate - 1e-9);
        expect(one.low).toBeGreaterThanOrEqual(0);
        expect(one.high).toBeLessThanOrEqual(1);
        expect(one.low).toBeCloseTo(1 - other.high, 9);
        expect(one.estimate).toBeCloseTo(1 - other.estimate, 12);
      }),
    );
  });

  it('is surer with more of the same', () => {
    fc.assert(
      fc.property(outcomes, ({ wins, ties, losses }) => {
        const one = winRate({ wins, ties, losses })!;
        const more = winRate({ wins: 4 * wins, ties: 4 * ties, losses: 4 * losses })!;
        expect(more.high - more.low).toBeLessThan(one.high - one.low);
      }),
    );
  });
});
