/** Judged pairs, with a look after each. The seeds are fixed, so the figures are too. */
import { describe, expect, it } from 'vitest';
import { PAIR_TUNING } from '../../../../worker/experiments/limits.ts';
import { pairsToFind } from '../../../../worker/experiments/statistics/power.ts';
import { winRate } from '../../../../worker/experiments/statistics/sequential.ts';
import { seeded } from './simulate.ts';

const ALPHA = 0.05;
const RUNS = 400;
const PAIRS = 1_000;

/** The number of pairs after which each run had a result; Infinity = never. */
function calledAfter(wins: number, ties: number): number[] {
  const random = seeded(7);
  return Array.from({ length: RUNS }, () => {
    const counts = { wins: 0, ties: 0, losses: 0 };
    for (let pair = 1; pair <= PAIRS; pair += 1) {
      counts[random() < ties ? 'ties' : random() < wins ? 'wins' : 'losses'] += 1;
      const rate = winRate(counts, ALPHA, PAIR_TUNING);
      if (rate !== null && (rate.interval.low > 0.5 || rate.interval.high < 0.5)) return pair;
    }
    return Infinity;
  });
}
const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1]!;

describe('winRate', () => {
  it.each([0, 0.5, 0.9])('with %d of ties it calls two equal ones different in at most 5 of 100', (ties) =>
    expect(calledAfter(0.5, ties).filter(Number.isFinite).length / RUNS).toBeLessThanOrEqual(ALPHA),
  );

  it.each([
    [0.6, 220],
    [0.65, 115],
  ])('finds %f of wins after %i pairs in the median', (wins, pairs) =>
    expect(median(calledAfter(wins, 0))).toBeLessThanOrEqual(pairs),
  );

  it('counts a tie as half a win, and excludes 0.5 with ties exactly as without', () => {
    const without = winRate({ wins: 60, ties: 0, losses: 20 }, ALPHA, PAIR_TUNING)!;
    const withTies = winRate({ wins: 60, ties: 80, losses: 20 }, ALPHA, PAIR_TUNING)!;
    expect(without.estimate).toBe(0.75);
    expect(withTies.estimate).toBe(0.625);
    expect(withTies.interval.low - 0.5).toBeCloseTo((without.interval.low - 0.5) / 2, 12);
    expect(withTies.pValue).toBe(without.pValue);
  });

  it('is null before the first win or loss, and stays within 0 and 1', () => {
    expect(winRate({ wins: 0, ties: 9, losses: 0 }, ALPHA, PAIR_TUNING)).toBeNull();
    const { estimate, interval } = winRate({ wins: 1, ties: 0, losses: 0 }, ALPHA, PAIR_TUNING)!;
    expect([estimate, interval]).toEqual([1, { low: 0, high: 1 }]);
    expect(winRate({ wins: 23, ties: 0, losses: 0 }, ALPHA, PAIR_TUNING)!.interval.low).toBeLessThan(0.5);
    expect(winRate({ wins: 24, ties: 0, losses: 0 }, ALPHA, PAIR_TUNING)!.interval.low).toBeGreaterThan(0.5);
  });
});

describe('pairsToFind', () => {
  it('is the number at which four of five runs have a result', () => {
    for (const rate of [0.6, 0.65]) {
      const planned = pairsToFind(rate, ALPHA, PAIR_TUNING);
      const called = calledAfter(rate, 0).filter((pairs) => pairs <= planned).length / RUNS;
      expect(called).toBeGreaterThan(0.75);
      expect(called).toBeLessThan(0.88);
    }
    // bench/judged-pairs.ts: 720 in the median, 1,638 for nine of ten.
    expect(pairsToFind(0.55, ALPHA, PAIR_TUNING)).toBeGreaterThan(720);
    expect(pairsToFind(0.55, ALPHA, PAIR_TUNING)).toBeLessThan(1_638);
    // Fewer than 24 wins in a row never give a result.
    expect(pairsToFind(1, ALPHA, PAIR_TUNING)).toBeGreaterThanOrEqual(24);
  });
});
