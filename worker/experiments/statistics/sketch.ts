/**
 * How the values of one variant on one metric are spread, in buckets whose borders grow by a constant factor: DDSketch
 * (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB
 * 2019, 1908.10693). Sketches of shards are added bucket by bucket, and nothing is lost by that.
 */
import type { Moments } from './moments.ts';

/** A percentile of positive values is told with at most this relative error. */
export const SKETCH_ERROR = 0.02;
/** Upper border of a bucket over its lower one. */
const GROWTH = (1 + SKETCH_ERROR) / (1 - SKETCH_ERROR);
const LOG_GROWTH = Math.log(GROWTH);
/** Smaller ones are all taken for 0: a thousandth of what anybody counts in (ms, tokens, cents). */
const LEAST = 1e-3;
/** The bucket of what is below {@link LEAST}, and that of all that is below 0: of these no percentile is told. */
const ZERO = indexOf(LEAST) - 1;
const NEGATIVE = ZERO - 1;
/** Larger ones than this share the last bucket: 692 buckets and these two at most. */
const LAST = indexOf(1e9);

/** What lies in one bucket. Units lie where their value is, the mean of their own; answers each where they are. */
export interface SketchBucket {
  /** Units, and the sum of their values and of the squares of these. */
  n: number;
  sum: number;
  sumSquares: number;
  /** Values as they were told, one an answer. */
  told: number;
}

/** By the bucket's index; borders of index i are {@link GROWTH} to the power of i - 1 and of i. */
export type Sketch = ReadonlyMap<number, SketchBucket>;
export type OpenSketch = Map<number, SketchBucket>;

/** A sketch as it is written and sent: index, n, sum, sumSquares, told. */
export type SketchRow = [index: number, n: number, sum: number, sumSquares: number, told: number];

function indexOf(value: number): number {
  return Math.ceil(Math.log(value) / LOG_GROWTH);
}

function bucketOf(value: number): number {
  if (value < 0) return NEGATIVE;
  return value < LEAST ? ZERO : Math.min(LAST, indexOf(value));
}

export const toRows = (sketch: Sketch): SketchRow[] =>
  [...sketch].map(([index, { n, sum, sumSquares, told }]) => [index, n, sum, sumSquares, told]);

export const fromRows = (rows: readonly SketchRow[]): OpenSketch =>
  new Map(rows.map(([index, n, sum, sumSquares, told]) => [index, { n, sum, sumSquares, told }]));

/**
 * A unit's value moves, because it was told one more.
 * @param was null = the unit is new.
 */
export function moveInSketch(
  sketch: OpenSketch,
  { was, is, told }: { was: number | null; is: number; told: number },
): void {
  if (was !== null) add(sketch, bucketOf(was), { n: -1, sum: -was, sumSquares: -was * was, told: 0 });
  add(sketch, bucketOf(is), { n: 1, sum: is, sumSquares: is * is, told: 0 });
  add(sketch, bucketOf(told), { n: 0, sum: 0, sumSquares: 0, told: 1 });
}

/** Adds another one to `sketch`. */
export function joinSketch(sketch: OpenSketch, other: Sketch): void {
  for (const [index, bucket] of other) add(sketch, index, bucket);
}

function add(sketch: OpenSketch, index: number, more: SketchBucket): void {
  const has = sketch.get(index) ?? { n: 0, sum: 0, sumSquares: 0, told: 0 };
  const n = has.n + more.n;
  const told = has.told + more.told;
  if (n === 0 && told === 0) sketch.delete(index);
  // Without units nothing is left of their sums but rounding.
  else if (n === 0) sketch.set(index, { n, sum: 0, sumSquares: 0, told });
  else sketch.set(index, { n, sum: has.sum + more.sum, sumSquares: has.sumSquares + more.sumSquares, told });
}

/** Whether it is of the same units as `moments`: one that was begun late, or not kept up, is of no use. */
export function isSketchOf(sketch: Sketch, moments: Moments): boolean {
  let [n, sum] = [0, 0];
  for (const bucket of sketch.values()) {
    if (bucket.n < 0) return false;
    n += bucket.n;
    sum += bucket.sum;
  }
  const rounding = 1e-6 * Math.sqrt(moments.n * Math.max(0, moments.sumSquares));
  return n === moments.n && Math.abs(sum - moments.sum) <= rounding;
}

/** Values that were told, one an answer. */
export const toldIn = (sketch: Sketch): number =>
  [...sketch.values()].reduce((sum, { told }) => sum + told, 0);

/**
 * The value below or at which a share `at` of all that were told lie, one an answer, to {@link SKETCH_ERROR} of it.
 * @returns null when there are none, and where it is below 0.
 */
export function percentile(sketch: Sketch, at: number): number | null {
  const index = reached(sketch, at, ({ told }) => told);
  if (index === null || index === NEGATIVE) return null;
  return index === ZERO ? 0 : (2 * GROWTH ** index) / (GROWTH + 1);
}

/** A limit that lies on the border of a bucket, so that what is above it is known exactly. */
export interface Cap {
  value: number;
  /** The last bucket below it. */
  index: number;
}

/**
 * The upper border of the bucket in which the percentile of the units' values lies: at least the percentile, and at most
 * {@link GROWTH} times it (4.1 % more). @returns null when there are none, and where it is below 0.
 */
export function capAt(sketch: Sketch, at: number): Cap | null {
  const index = reached(sketch, at, ({ n }) => n);
  if (index === null || index === NEGATIVE) return null;
  return { index, value: index === ZERO ? LEAST : GROWTH ** index };
}

/** The units' values with `cap` in the place of all that are larger: exactly, since it is a border. */
export function cappedMoments(sketch: Sketch, cap: Cap): Moments {
  const capped = { n: 0, sum: 0, sumSquares: 0 };
  for (const [index, { n, sum, sumSquares }] of sketch) {
    const above = index > cap.index;
    capped.n += n;
    capped.sum += above ? n * cap.value : sum;
    capped.sumSquares += above ? n * cap.value ** 2 : sumSquares;
  }
  return capped;
}

/** The bucket in which a share `at` of what `count` counts is reached; null = there is nothing. */
function reached(sketch: Sketch, at: number, count: (bucket: SketchBucket) => number): number | null {
  const buckets = [...sketch].sort(([a], [b]) => a - b);
  const all = buckets.reduce((sum, [, bucket]) => sum + count(bucket), 0);
  let below = 0;
  for (const [index, bucket] of buckets) {
    below += count(bucket);
    // 0.99 of 100 is the 99th, whatever rounding makes of the product.
    if (count(bucket) > 0 && below >= at * all - 1e-9 * all) return index;
  }
  return null;
}
