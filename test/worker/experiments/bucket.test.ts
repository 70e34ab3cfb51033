import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUCKETS, bucketOf, inRange, variantRanges } from '../../../worker/experiments/pick-variant.ts';
import { chiSquareTail } from '../../../worker/experiments/statistics/gamma.ts';

fc.configureGlobal({ seed: 6 });

/** growthbook at 8f1db44, `packages/sdk-js/test/cases.json` (spec 0.8.0), section `hash`, version 2. */
const PUBLISHED: [seed: string, value: string, bucket: number][] = [
  ['seed', 'a', 0.0505],
  ['seed', 'b', 0.2696],
  ['foo', 'ab', 0.2575],
  ['foo', 'def', 0.2019],
  ['89123klj', '8952klfjas09ujkasdf', 0.124],
  ['90850943850283058242805', '123', 0.7516],
  ['()**(%$##$%#$#', '___)((*":&', 0.0128],
];

/** Ours; computed by a few lines of Python over `(seed + unit).encode()`. */
const NOT_ASCII: [seed: string, value: string, bucket: number][] = [
  ['seed', '\u00e4', 0.6365],
  ['seed', 'Zo\u00eb', 0.0535],
  ['seed', '\u65e5\u672c\u8a9e', 0.9898],
  ['\u00e9t\u00e9', '\u00f1', 0.0566],
  // The same letter in one piece and in two: we do not normalise.
  ['seed', '\u00e9', 0.9593],
  ['seed', 'e\u0301', 0.6216],
  ['support-intent-2', 'acme/user/\u{1f600}', 0.8318],
  ['support-intent-2', 'acme/user/\u017c\u00f3\u0142w', 0.6243],
];

/** The same file, sections `getBucketRange` (without those that mend bad input) and `chooseVariation`. */
const PUBLISHED_RANGES: [weights: number[], coverage: number, ranges: [number, number][]][] = [
  [
    [0.5, 0.5],
    1,
    [
      [0, 0.5],
      [0.5, 1],
    ],
  ],
  [
    [0.5, 0.5],
    0.5,
    [
      [0, 0.25],
      [0.5, 0.75],
    ],
  ],
  [
    [0.5, 0.5],
    0,
    [
      [0, 0],
      [0.5, 0.5],
    ],
  ],
  [
    [0.25, 0.25, 0.25, 0.25],
    1,
    [
      [0, 0.25],
      [0.25, 0.5],
      [0.5, 0.75],
      [0.75, 1],
    ],
  ],
  [
    [0.4, 0.6],
    1,
    [
      [0, 0.4],
      [0.4, 1],
    ],
  ],
  [
    [0.2, 0.3, 0.5],
    1,
    [
      [0, 0.2],
      [0.2, 0.5],
      [0.5, 1],
    ],
  ],
  [
    [0.2, 0.3, 0.5],
    0.2,
    [
      [0, 0.04],
      [0.2, 0.26],
      [0.5, 0.6],
    ],
  ],
  [
    [0.4, 0.5999],
    1,
    [
      [0, 0.4],
      [0.4, 0.9999],
    ],
  ],
];
const PUBLISHED_CHOICES: [n: number, ranges: [number, number][], chosen: number][] = [
  [
    0.2,
    [
      [0, 0.5],
      [0.5, 1],
    ],
    0,
  ],
  [
    0.6,
    [
      [0, 0.5],
      [0.5, 1],
    ],
    1,
  ],
  [
    0,
    [
      [0, 0.5],
      [0.5, 1],
    ],
    0,
  ],
  [
    0.5,
    [
      [0, 0.5],
      [0.5, 1],
    ],
    1,
  ],
  [
    0.2,
    [
      [0, 0.25],
      [0.5, 0.75],
    ],
    0,
  ],
  [
    0.25,
    [
      [0, 0.25],
      [0.5, 0.75],
    ],
    -1,
  ],
  [
    0.8,
    [
      [0, 0.25],
      [0.5, 0.75],
    ],
    -1,
  ],
  [
    0.5,
    [
      [0, 0.5],
      [0.5, 0.5],
      [0.5, 1],
    ],
    2,
  ],
];

const inBuckets = ([from, to]: [number, number]) => ({
  from: Math.round(from * BUCKETS),
  to: Math.round(to * BUCKETS),
});

describe('bucketOf', () => {
  it.each([...PUBLISHED, ...NOT_ASCII])('puts seed %j, unit %j at %d', (seed, unit, bucket) => {
    expect(bucketOf(seed, unit) / BUCKETS).toBe(bucket);
  });

  it('is what docs/internals/statistics.md says', () => {
    const docs = readFileSync(new URL('../../../docs/internals/statistics.md', import.meta.url), 'utf8');
    const rows = [...docs.matchAll(/^\| `(".*?")` +\| `(".*?")` +\| (\d+) +\|/gm)];
    expect(rows).toHaveLength(10);
    for (const [, seed = '', unit = '', bucket] of rows)
      expect(bucketOf(JSON.parse(seed) as string, JSON.parse(unit) as string)).toBe(Number(bucket));
  });

  it('spreads 100,000 units evenly over 100 cells, whatever they are called', () => {
    for (const name of [(i: number) => `user-${i}`, (i: number) => `acme/user/${i * 7919}@example.com`]) {
      const cells = new Array<number>(100).fill(0);
      for (let i = 0; i < 100_000; i++) cells[Math.floor(bucketOf('support-intent-2', name(i)) / 100)]! += 1;
      const statistic = cells.reduce((sum, n) => sum + (n - 1_000) ** 2 / 1_000, 0);
      expect(chiSquareTail(statistic, 99)).toBeGreaterThan(0.001);
    }
  });

  it('deals anew under another seed: 100,000 units in a 10 by 10 table are independent', () => {
    const table = new Array<number>(100).fill(0);
    for (let i = 0; i < 100_000; i++) {
      const row = Math.floor(bucketOf('first', `user-${i}`) / 1_000);
      table[row * 10 + Math.floor(bucketOf('second', `user-${i}`) / 1_000)]! += 1;
    }
    const statistic = table.reduce((sum, n) => sum + (n - 1_000) ** 2 / 1_000, 0);
    expect(chiSquareTail(statistic, 99)).toBeGreaterThan(0.001);
  });
});

describe('variantRanges', () => {
  it.each(PUBLISHED_RANGES)('lays %j at coverage %d out as published', (weights, coverage, ranges) => {
    expect(variantRanges(weights, coverage)).toEqual(ranges.map(inBuckets));
  });

  it.each(PUBLISHED_CHOICES)('chooses for %d in %j', (n, ranges, chosen) => {
    const bucket = Math.round(n * BUCKETS);
    expect(ranges.map(inBuckets).findIndex((range) => inRange(bucket, range))).toBe(chosen);
  });

  const weights = fc
    .array(fc.integer({ min: 1, max: 1_000 }), { minLength: 2, maxLength: 10 })
    .map((parts) => parts.map((part) => part / parts.reduce((sum, one) => sum + one, 0)));
  const share = fc.double({ min: 0, max: 1, noNaN: true });

  it('gives every bucket to one variant at full coverage, and never one to two', () => {
    fc.assert(
      fc.property(weights, share, (parts, coverage) => {
        const whole = variantRanges(parts, 1);
        expect(whole[0]?.from).toBe(0);
        expect(whole.at(-1)?.to).toBe(BUCKETS);
        for (const [i, { to }] of whole.entries()) expect(whole[i + 1]?.from ?? BUCKETS).toBe(to);
        for (const [i, range] of variantRanges(parts, coverage).entries()) {
          expect(range.from).toBe(whole[i]?.from);
          expect(range.to).toBeLessThanOrEqual(whole[i]!.to);
          expect(range.to).toBeGreaterThanOrEqual(range.from);
        }
      }),
    );
  });

  it('gives equal weights the same number of buckets at every step below the last', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 10 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (arms, coverage) => {
          const ranges = variantRanges(
            Array.from({ length: arms }, () => 1 / arms),
            coverage,
          );
          expect(new Set(ranges.map(({ from, to }) => to - from)).size).toBe(1);
        },
      ),
    );
    expect(variantRanges([1 / 3, 1 / 3, 1 / 3], 1).map(({ from, to }) => to - from)).toEqual([
      3_333, 3_334, 3_333,
    ]);
  });

  it('only adds buckets as coverage grows', () => {
    fc.assert(
      fc.property(weights, share, share, (parts, one, other) => {
        const less = variantRanges(parts, Math.min(one, other));
        const more = variantRanges(parts, Math.max(one, other));
        for (const [i, { to }] of less.entries()) expect(more[i]!.to).toBeGreaterThanOrEqual(to);
      }),
    );
  });
});
