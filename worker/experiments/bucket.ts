import { fnv1a } from '../../protocol/index.ts';

/**
 * GrowthBook's second hash (`hash(seed, value, 2)` of its SDKs, MIT) over UTF-8 bytes: FNV-1a of 32 bits, twice, so
 * that neighbouring units do not get neighbouring buckets. The SDK for JavaScript hashes UTF-16 units, which gives the
 * same on ASCII only.
 */

/** Buckets are 0 to 9,999; a share of the units is a number of buckets. */
export const BUCKETS = 10_000;

/** @param unit a lone surrogate is hashed as U+FFFD. @returns 0 … {@link BUCKETS} - 1. */
export function bucketOf(seed: string, unit: string): number {
  return fnv1a(String(fnv1a(seed + unit))) % BUCKETS;
}

/** Buckets from `from` on, before `to`. */
export interface BucketRange {
  from: number;
  to: number;
}

export const inRange = (bucket: number, { from, to }: BucketRange): boolean => bucket >= from && bucket < to;

/** A share of 0 to 1 as a border between buckets. */
export const border = (share: number): number => Math.min(BUCKETS, Math.round(share * BUCKETS));

/**
 * Each variant's buckets. They begin where the weights alone say and grow with the coverage, so that more coverage only
 * adds units. How many there are depends on coverage and weight, and not on where they begin: equal weights have the
 * same number at every step.
 * @param weights sum to 1. @param coverage 0 … 1.
 */
export function variantRanges(weights: readonly number[], coverage: number): BucketRange[] {
  let start = 0;
  return weights.map((weight) => {
    const from = border(start);
    start += weight;
    const next = border(start);
    return { from, to: coverage === 1 ? next : Math.min(next, from + border(coverage * weight)) };
  });
}
