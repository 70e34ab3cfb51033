/** Times in fixed buckets: counts of two histograms add up, so that percentiles can be taken of any sum of them. */

/** Upper bounds, ms, each at most two thirds above the one before until 30 s; what is longer than the last is beyond. */
export const BOUNDS_MS: readonly number[] = [
  ...[5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700],
  ...[1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000],
  ...[60_000, 300_000, 600_000],
];

export const BUCKETS = BOUNDS_MS.length + 1;

export const emptyHistogram = (): number[] => new Array<number>(BUCKETS).fill(0);

/** @param ms a value on a bound belongs below it. */
export function bucketOf(ms: number): number {
  const at = BOUNDS_MS.findIndex((bound) => ms <= bound);
  return at === -1 ? BUCKETS - 1 : at;
}

export function addHistogram(sum: number[], more: readonly number[]): void {
  for (const [i, count] of more.entries()) sum[i] = (sum[i] ?? 0) + count;
}

/**
 * @param share 0.5 = the median.
 * @returns ms, as if values were spread evenly within their bucket; null of none. Beyond the last bound it is that bound.
 */
export function quantile(counts: readonly number[], share: number): number | null {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const wanted = share * total;
  let below = 0;
  for (const [i, count] of counts.entries()) {
    if (count > 0 && below + count >= wanted) {
      const from = i === 0 ? 0 : (BOUNDS_MS[i - 1] ?? 0);
      const to = BOUNDS_MS[i] ?? from;
      return Math.round(10 * (from + ((wanted - below) / count) * (to - from))) / 10;
    }
    below += count;
  }
  return BOUNDS_MS.at(-1) ?? null;
}
