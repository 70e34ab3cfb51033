import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bradleyTerry, type Comparison } from '../../../../cli/compare/statistics/bradley-terry.ts';

const PLAYERS = 4;
const comparison = fc
  .record({
    a: fc.nat(PLAYERS - 1),
    b: fc.nat(PLAYERS - 1),
    score: fc.constantFrom(0, 0.5, 1),
    group: fc.nat(20),
  })
  .filter(({ a, b }) => a !== b);
const comparisons = fc.array(comparison, { maxLength: 60 });

/** `wins` of a over b, `ties`, `losses`, each in a group of its own. */
const results = (a: number, b: number, [wins, ties, losses]: [number, number, number]): Comparison[] =>
  [...Array(wins).fill(1), ...Array(ties).fill(0.5), ...Array(losses).fill(0)].map((score, i) => ({
    a,
    b,
    score: score as number,
    group: 1_000 * (PLAYERS * a + b) + i,
  }));

const estimates = (all: readonly Comparison[], players = PLAYERS): number[] =>
  bradleyTerry(players, all).map(({ estimate }) => estimate);

/** Zermelo's and Hunter's iteration (Annals of Statistics 32, 2004, 384), which is slower and needs no derivatives. */
function byIteration(players: number, all: readonly Comparison[]): number[] {
  const wins = Array.from({ length: players }, () => 0.5 * (players - 1));
  const games = Array.from({ length: players }, (_, i) =>
    Array.from({ length: players }, (__, j): number => (i === j ? 0 : 1)),
  );
  for (const { a, b, score } of all) {
    wins[a]! += score;
    wins[b]! += 1 - score;
    games[a]![b]!++;
    games[b]![a]!++;
  }
  let worth = wins.map(() => 1);
  for (let i = 0; i < 20_000; i++)
    worth = worth.map(
      (own, p) => wins[p]! / games[p]!.reduce((sum: number, n, q) => sum + n / (own + worth[q]!), 0),
    );
  const logs = worth.map(Math.log);
  const mean = logs.reduce((sum, log) => sum + log, 0) / players;
  return logs.map((log) => log - mean);
}

describe('bradleyTerry', () => {
  it('two players: the log of the odds, with half a win more each', () => {
    const [a, b] = bradleyTerry(2, results(0, 1, [30, 0, 10])) as [
      { estimate: number; low: number; high: number },
      { estimate: number },
    ];
    expect(a.estimate - b.estimate).toBeCloseTo(Math.log(30.5 / 10.5), 9);
    // The difference's variance is 1/30.5 + 1/10.5, and a strength is half of the difference.
    const error = Math.sqrt(1 / 30.5 + 1 / 10.5) / 2;
    expect((a.high - a.low) / 2 / 1.959964).toBeCloseTo(error, 5);
  });

  it('ties are half a win each, and make it surer', () => {
    const tied = bradleyTerry(2, results(0, 1, [10, 20, 0]));
    const split = bradleyTerry(2, results(0, 1, [20, 0, 10]));
    expect(tied[0]!.estimate).toBeCloseTo(split[0]!.estimate, 9);
    expect(tied[0]!.high - tied[0]!.low).toBeLessThan(split[0]!.high - split[0]!.low);
  });

  it('finds what another method finds', () => {
    const all = [
      ...results(0, 1, [12, 3, 5]),
      ...results(1, 2, [9, 1, 4]),
      ...results(2, 0, [2, 6, 8]),
      ...results(3, 0, [0, 0, 7]),
    ];
    for (const [i, strength] of byIteration(PLAYERS, all).entries())
      expect(estimates(all)[i]).toBeCloseTo(strength, 7);
  });

  it('draws towards equality: who never loses is not infinitely strong; 5 of 5 may be luck, 12 of 12 not', () => {
    const few = bradleyTerry(2, results(0, 1, [5, 0, 0]))[0]!;
    const many = bradleyTerry(2, results(0, 1, [5_000, 0, 0]))[0]!;
    expect(few.estimate).toBeCloseTo(Math.log(5.5 / 0.5) / 2, 9);
    expect(many.estimate).toBeCloseTo(Math.log(5_000.5 / 0.5) / 2, 9);
    expect(few.low).toBeLessThan(0);
    expect(bradleyTerry(2, results(0, 1, [12, 0, 0]))[0]!.low).toBeGreaterThan(0);
  });

  it('nothing compared, or only ties: all equal, with an interval', () => {
    for (const all of [[], results(0, 1, [0, 10, 0])]) {
      const [a, b] = bradleyTerry(2, all);
      expect(a!.estimate).toBeCloseTo(0, 12);
      expect(b!.estimate).toBeCloseTo(0, 12);
      expect(a!.high).toBeGreaterThan(0.05);
    }
  });

  it('counts prompts, not comparisons: the same prompt ten times says what it says once', () => {
    const apart = Array.from({ length: 40 }, (_, i) => ({ a: 0, b: 1, score: i % 2, group: i }));
    const together = Array.from({ length: 40 }, (_, i) => ({
      a: 0,
      b: 1,
      score: Math.floor(i / 10) % 2,
      group: Math.floor(i / 10),
    }));
    const width = ([first]: { low: number; high: number }[]): number => first!.high - first!.low;
    expect(width(bradleyTerry(2, together))).toBeGreaterThan(2.5 * width(bradleyTerry(2, apart)));
  });

  it('does not depend on the order of the comparisons, on which side is named first, or on the players’ places', () => {
    fc.assert(
      fc.property(comparisons, fc.shuffledSubarray([0, 1, 2, 3], { minLength: PLAYERS }), (all, places) => {
        const plain = bradleyTerry(PLAYERS, all);
        const turned = bradleyTerry(
          PLAYERS,
          [...all].reverse().map(({ a, b, score, group }) => ({ a: b, b: a, score: 1 - score, group })),
        );
        const moved = bradleyTerry(
          PLAYERS,
          all.map((one) => ({ ...one, a: places[one.a]!, b: places[one.b]! })),
        );
        for (let i = 0; i < PLAYERS; i++)
          for (const part of ['estimate', 'low', 'high'] as const) {
            expect(turned[i]![part]).toBeCloseTo(plain[i]![part], 7);
            expect(moved[places[i]!]![part]).toBeCloseTo(plain[i]![part], 7);
          }
      }),
    );
  });

  it('strengths are finite and their mean is 0', () => {
    fc.assert(
      fc.property(comparisons, (all) => {
        const found = bradleyTerry(PLAYERS, all);
        expect(found.reduce((sum, { estimate }) => sum + estimate, 0)).toBeCloseTo(0, 8);
        for (const { low, high } of found) expect(Number.isFinite(high - low) && high > low).toBe(true);
      }),
    );
  });

  it('one more win never makes a player weaker', () => {
    fc.assert(
      fc.property(comparisons, comparison, (all, { a, b }) => {
        const more = estimates([...all, { a, b, score: 1, group: 99 }]);
        const before = estimates(all);
        expect(more[a]! - more[b]!).toBeGreaterThan(before[a]! - before[b]!);
      }),
    );
  });

  it('its intervals hold the truth in about 95 of 100 comparisons, ties and shared prompts included', () => {
    const truth = [0.6, 0, -0.6];
    let state = 7;
    /** Numerical Recipes' linear congruential generator. */
    const random = (): number => (state = (1_664_525 * state + 1_013_904_223) % 2 ** 32) / 2 ** 32;
    let held = 0;
    const RUNS = 400;
    for (let run = 0; run < RUNS; run++) {
      const all: Comparison[] = [];
      for (let group = 0; group < 60; group++)
        for (const [a, b] of [
          [0, 1],
          [0, 2],
          [1, 2],
        ] as const) {
          const p = 1 / (1 + Math.exp(truth[b]! - truth[a]!));
          const tie = random() < 0.2;
          // Of the rest so many are won that ties as halves leave the probability as it is.
          const won = random() < (p - 0.1) / 0.8;
          all.push({ a, b, score: tie ? 0.5 : won ? 1 : 0, group });
        }
      for (const [i, { low, high }] of bradleyTerry(3, all).entries())
        if (low <= truth[i]! && truth[i]! <= high) held++;
    }
    expect(held / (3 * RUNS)).toBeGreaterThan(0.925);
    expect(held / (3 * RUNS)).toBeLessThan(0.98);
  });
});
