import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DataOrder,
  lengthBuckets,
  makeBatches,
  planSteps,
  rowLength,
} from '../../../gpu-origin/training/batches.ts';
import { mulberry32 } from '../../../gpu-origin/model/rotation.ts';
import type { TrainingRow, TrainingSequence } from '../../../gpu-origin/training/rows.ts';

/** The same cases every time. */
fc.configureGlobal({ seed: 20_261_130 });

describe('planSteps', () => {
  it.each([
    [{ rows: 16, batch: 8, epochs: 3, leastSteps: 1 }, 6],
    [{ rows: 17, batch: 8, epochs: 3, leastSteps: 1 }, 9],
    [{ rows: 17, batch: 8, epochs: 0.5, leastSteps: 1 }, 2],
    [{ rows: 3, batch: 8, epochs: 2, leastSteps: 60 }, 60],
  ])('plans %j', (plan, steps) => expect(planSteps(plan)).toBe(steps));
});

describe('mulberry32', () => {
  // From the reference implementation in C.
  it('gives the numbers of the reference', () => {
    const random = mulberry32(1);
    expect([random(), random(), random()].map((value) => value * 2 ** 32)).toEqual([
      2693262067, 11749833, 2265367787,
    ]);
  });
});

const lengths = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 120 });
const batch = fc.integer({ min: 1, max: 20 });
const seed = fc.integer({ min: 0, max: 0xffff_ffff });

describe('DataOrder', () => {
  it('has each row once an epoch, in batches that differ by at most one row', () => {
    fc.assert(
      fc.property(lengths, batch, seed, fc.nat(5), (all, size, of, epoch) => {
        const order = new DataOrder({ lengths: all, batch: size, seed: of });
        const steps = Math.ceil(all.length / size);
        const batches = Array.from({ length: steps }, (_, at) => order.rowsOfStep(epoch * steps + at));
        expect(batches.flat().sort((a, b) => a - b)).toEqual(all.map((_, row) => row));
        const sizes = batches.map((rows) => rows.length);
        expect(Math.max(...sizes)).toBeLessThanOrEqual(size);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('depends on seed and step alone, so that a training can go on anywhere', () => {
    fc.assert(
      fc.property(lengths, batch, seed, fc.array(fc.nat(60), { maxLength: 8 }), (all, size, of, before) => {
        const resumed = new DataOrder({ lengths: all, batch: size, seed: of });
        const straight = new DataOrder({ lengths: all, batch: size, seed: of });
        for (const step of before) resumed.rowsOfStep(step);
        for (let step = 0; step < 20; step += 1)
          expect(resumed.rowsOfStep(step)).toEqual(straight.rowsOfStep(step));
      }),
    );
  });

  it('has another order in each epoch and for each seed', () => {
    const all = Array.from({ length: 64 }, () => 10);
    const epochOf = (of: number, epoch: number) => {
      const order = new DataOrder({ lengths: all, batch: 8, seed: of });
      return Array.from({ length: 8 }, (_, at) => order.rowsOfStep(8 * epoch + at)).join();
    };
    expect(new Set([epochOf(1, 0), epochOf(1, 1), epochOf(1, 2), epochOf(2, 0)]).size).toBe(4);
  });

  it('puts rows of like length together', () => {
    const random = mulberry32(5);
    const all = Array.from({ length: 512 }, () => 1 + Math.floor(500 * random()));
    const order = new DataOrder({ lengths: all, batch: 8, seed: 3 });
    let padded = 0;
    for (let step = 0; step < 64; step += 1) {
      const own = order.rowsOfStep(step).map((row) => all[row]!);
      padded += 8 * Math.max(...own);
    }
    // Without sorting, the longest of eight is 8/9 of 500, and the mean a half: 1.78 times.
    expect(padded / all.reduce((a, b) => a + b)).toBeLessThan(1.1);
  });

  it('keeps a step from changing the next call', () => {
    const order = new DataOrder({ lengths: [1, 2, 3], batch: 3, seed: 1 });
    const first = order.rowsOfStep(0);
    order.rowsOfStep(0).push(7);
    expect(order.rowsOfStep(0)).toEqual(first);
  });

  it('refuses no rows', () => {
    expect(() => new DataOrder({ lengths: [], batch: 1, seed: 1 })).toThrow(RangeError);
  });
});

describe('lengthBuckets', () => {
  it.each([
    [[], []],
    [[1], [16]],
    [[16], [16]],
    [
      [17, 3],
      [16, 32],
    ],
    [
      [20, 40, 60, 80],
      [32, 48, 64, 80],
    ],
    // Two lengths that are near each other share a bucket, if few rows have the shorter one.
    [
      [16, 64, 128, 256, 272],
      [16, 64, 128, 272],
    ],
    [
      [16, 16, 16, 32, 48, 80, 128],
      [16, 48, 80, 128],
    ],
  ])('pads %j to %j', (all, buckets) => expect(lengthBuckets(all)).toEqual(buckets));

  it('has at most four, ascending, in steps of 16, and covers the longest row', () => {
    fc.assert(
      fc.property(lengths, (all) => {
        const buckets = lengthBuckets(all);
        expect(buckets.length).toBeLessThanOrEqual(4);
        expect(buckets.every((length, at) => length % 16 === 0 && length > (buckets[at - 1] ?? 0))).toBe(
          true,
        );
        expect(buckets.at(-1)).toBe(Math.ceil(Math.max(...all) / 16) * 16);
      }),
    );
  });

  it('has the least padding of all choices', () => {
    const cost = (all: readonly number[], buckets: readonly number[]): number =>
      all.reduce((sum, length) => sum + buckets.find((bucket) => bucket >= length)!, 0);
    const few = fc.array(fc.integer({ min: 1, max: 128 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(few, fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { maxLength: 3 }), (all, others) => {
        const other = [...others.map((size) => 16 * size).sort((a, b) => a - b), 128];
        expect(cost(all, lengthBuckets(all))).toBeLessThanOrEqual(cost(all, other));
      }),
      { numRuns: 300 },
    );
  });
});

const sequence = fc
  .array(fc.record({ token: fc.nat(99), label: fc.integer({ min: -1, max: 99 }) }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((places): TrainingSequence => ({
    tokens: Int32Array.from(places, ({ token }) => token),
    labels: Int32Array.from(places, ({ label }) => label),
  }));
const rowsOf = (sequences: number): fc.Arbitrary<TrainingRow[]> =>
  fc.array(
    fc
      .array(sequence, { minLength: sequences, maxLength: sequences })
      .map((own) => ({ line: 1, sequences: own, hash: 0 })),
    { minLength: 1, maxLength: 20 },
  );

describe('makeBatches', () => {
  const limits = fc.record({
    mostTokens: fc.integer({ min: 1, max: 400 }),
    mostScores: fc.integer({ min: 1, max: 20_000 }),
  });

  it.each([1, 2])('loses and adds nothing, within the limits (%i sequences a row)', (perRow) => {
    fc.assert(
      fc.property(rowsOf(perRow), limits, (rows, { mostTokens, mostScores }) => {
        const buckets = lengthBuckets(rows.map(rowLength));
        const batches = makeBatches(rows, { buckets, mostTokens, mostScores });
        const seen = new Map<number, TrainingSequence[]>();
        for (const { rows: count, length, tokens, labels, weights, source } of batches) {
          expect(buckets).toContain(length);
          expect([tokens.length, labels.length, weights.length]).toEqual(Array(3).fill(count * length));
          expect(source).toHaveLength(count);
          if (count > perRow) {
            expect(count * length).toBeLessThanOrEqual(mostTokens);
            expect(count * length ** 2).toBeLessThanOrEqual(mostScores);
          }
          for (const [at, row] of source.entries()) {
            const size = rows[row]!.sequences[(seen.get(row) ?? []).length]!.tokens.length;
            const part = (all: Int32Array, from: number, to: number) =>
              all.slice(at * length + from, at * length + to);
            seen.set(row, [
              ...(seen.get(row) ?? []),
              { tokens: part(tokens, 0, size), labels: part(labels, 0, size) },
            ]);
            expect(part(tokens, size, length).every((token) => token === 0)).toBe(true);
            expect(part(labels, size, length).every((label) => label === -1)).toBe(true);
          }
          expect([...weights]).toEqual([...labels].map((label) => (label === -1 ? 0 : 1)));
        }
        expect([...seen].sort(([a], [b]) => a - b).map(([, sequences]) => sequences)).toEqual(
          rows.map(({ sequences }) => sequences),
        );
      }),
    );
  });

  const plain = (length: number, count = 1): TrainingRow => ({
    line: 1,
    hash: 0,
    sequences: Array.from({ length: count }, () => ({
      tokens: new Int32Array(length).fill(1),
      labels: new Int32Array(length).fill(2),
    })),
  });
  const shapes = (rows: TrainingRow[], mostTokens: number, mostScores: number) =>
    makeBatches(rows, { buckets: [16, 32], mostTokens, mostScores }).map((one) => [one.rows, one.length]);

  it.each([
    [
      'rows of one bucket together',
      [plain(10), plain(20), plain(12)],
      1_000,
      100_000,
      [
        [2, 16],
        [1, 32],
      ],
    ],
    [
      'as many tokens as allowed',
      [plain(10), plain(10), plain(10)],
      32,
      100_000,
      [
        [2, 16],
        [1, 16],
      ],
    ],
    [
      'as many scores as allowed',
      [plain(10), plain(10), plain(10)],
      1_000,
      512,
      [
        [2, 16],
        [1, 16],
      ],
    ],
    [
      'a row that is too large by itself',
      [plain(30), plain(30)],
      1,
      1,
      [
        [1, 32],
        [1, 32],
      ],
    ],
    [
      'a pair undivided',
      [plain(10, 2), plain(10, 2)],
      48,
      100_000,
      [
        [2, 16],
        [2, 16],
      ],
    ],
  ])('makes batches of %s', (_, rows, mostTokens, mostScores, expected) =>
    expect(shapes(rows, mostTokens, mostScores)).toEqual(expected),
  );

  it('refuses a row that no bucket has room for', () => {
    expect(() => shapes([plain(33)], 1_000, 1_000)).toThrow('no bucket has room for 33 tokens');
  });
});
