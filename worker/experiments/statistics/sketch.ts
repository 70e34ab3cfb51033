/**
 * Distribution of a variant's values for one metric, in buckets whose borders grow by a constant factor:
 * DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
 * guarantees", VLDB 2019, 1908.10693). Shards' sketches merge bucket by bucket without loss.
 */
import type { Moments } from './moments.ts';

/** Maximum relative error of a percentile of positive values. */
export const SKETCH_ERROR = 0.02;
/** Ratio of a bucket's borders. */
const GROWTH = (1 + SKETCH_ERROR) / (1 - SKETCH_ERROR);
const LOG_GROWTH = Math.log(GROWTH);
/** Smaller values count as 0: a thousandth of any usual unit (ms, tokens, cents). */
const LEAST = 1e-3;
/** The bucket below {@link LEAST}, and the one for all values below 0, which get no percentiles. */
const ZERO = indexOf(LEAST) - 1;
const NEGATIVE = ZERO - 1;
/** Larger values share the last bucket: 692 buckets and these two at most. */
const LAST = indexOf(1e9);

/** Contents of one bucket. Units are in the bucket of their mean; answers are in their own. */
export interface SketchBucket {
  /** Units, and the sums of their values and squared values. */
  n: number;
  sum: number;
  sumSquares: number;
  /** Reported values, one per answer. */
  told: number;
}

/** By the bucket's index; bucket i has the borders {@link GROWTH}^(i - 1) and {@link GROWTH}^i. */
export type Sketch = ReadonlyMap<number, SketchBucket>;
export type OpenSketch = Map<number, SketchBucket>;

/** A sketch's stored form: index, n, sum, sumSquares, told. */
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
 * Moves a unit's value, because it reported another one.
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

/** Adds another sketch to `sketch`. */
export function joinSketch(sketch: OpenSketch, other: Sketch): void {
  for (const [index, bucket] of other) add(sketch, index, bucket);
}

function add(sketch: OpenSketch, index: number, more: SketchBucket): void {
  const has = sketch.get(index) ?? { n: 0, sum: 0, sumSquares: 0, told: 0 };
  const n = has.n + more.n;
  const told = has.told + more.told;
  if (n === 0 && told === 0) sketch.delete(index);
  // Without units, their sums are only rounding errors.
  else if (n === 0) sketch.set(index, { n, sum: 0, sumSquares: 0, told });
  else sketch.set(index, { n, sum: has.sum + more.sum, sumSquares: has.sumSquares + more.sumSquares, told });
}

/**
 * Whether it covers the same units as `moments`: a sketch that started late, or was not kept up to date, is
 * useless.
 */
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

/** Reported values, one per answer. */
export const toldIn = (sketch: Sketch): number =>
  [...sketch.values()].reduce((sum, { told }) => sum + told, 0);

/**
 * The value below or at which a share `at` of all reported values lies, within {@link SKETCH_ERROR}.
 * @returns null if there are none, or if it is below 0.
 */
export function percentile(sketch: Sketch, at: number): number | null {
  const index = reached(sketch, at, ({ told }) => told);
  if (index === null || index === NEGATIVE) return null;
  return index === ZERO ? 0 : (2 * GROWTH ** index) / (GROWTH + 1);
}

/** A limit at a bucket's border, so that what is above it is known exactly. */
export interface Cap {
  value: number;
  /** The last bucket below it. */
  index: number;
}

/**
 * The upper border of the bucket with the percentile of the units' values: at least the percentile, and at
 * most {@link GROWTH} times it (4.1 % more).
 * @returns null if there are none, or if it is below 0.
 */
export function capAt(sketch: Sketch, at: number): Cap | null {
  const index = reached(sketch, at, ({ n }) => n);
  if (index === null || index === NEGATIVE) return null;
  return { index, value: index === ZERO ? LEAST : GROWTH ** index };
}

/** The units' moments with all larger values replaced by `cap`. Exact, since it is a border. */
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

/** The bucket in which a share `at` of the total of `count` is reached; null = the total is 0. */
function reached(sketch: Sketch, at: number, count: (bucket: SketchBucket) => number): number | null {
  const buckets = [...sketch].sort(([a], [b]) => a - b);
  const all = buckets.reduce((sum, [, bucket]) => sum + count(bucket), 0);
  let below = 0;
  for (const [index, bucket] of buckets) {
    below += count(bucket);
    // 0.99 of 100 is the 99th, despite rounding errors of the product.
    if (count(bucket) > 0 && below >= at * all - 1e-9 * all) return index;
  }
  return null;
}
