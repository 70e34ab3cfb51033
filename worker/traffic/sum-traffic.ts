/** Sums completions: in fixed buckets of time, over batches, and over the points of a report. */
import { MAX_OUTCOMES } from './limits.ts';
import type { EndedCompletion, RequestChunk, TrafficRow, TrafficPoint } from './ports.ts';
import type { TrafficReport } from '../../protocol/admin-api/traffic.ts';

/**
 * Upper bounds of the buckets, ms. Fixed, so histograms can be added and percentiles taken of any sum. Up to
 * 30 s each bound is at most two thirds above the one before. One more bucket counts longer times.
 */
export const BOUNDS_MS: readonly number[] = [
  ...[5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700],
  ...[1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000],
  ...[60_000, 300_000, 600_000],
];

export const BUCKETS = BOUNDS_MS.length + 1;

export const emptyHistogram = (): number[] => new Array<number>(BUCKETS).fill(0);

/** @param ms a value equal to a bound belongs to the bucket below it. */
export function bucketOf(ms: number): number {
  const at = BOUNDS_MS.findIndex((bound) => ms <= bound);
  return at === -1 ? BUCKETS - 1 : at;
}

export function addHistogram(sum: number[], more: readonly number[]): void {
  for (const [i, count] of more.entries()) sum[i] = (sum[i] ?? 0) + count;
}

/**
 * @param share 0.5 = the median.
 * @returns ms, assuming that values are spread evenly within their bucket; at most the last bound; null if
 * there are none.
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

const MINUTE_MS = 60_000;

/** Name of the row for names beyond the limit; no name contains it. */
export const UNNAMED = '*';

/** @returns what it counts in its minute, by name and key. */
export function rowOf(ended: EndedCompletion): TrafficRow {
  const ttft = emptyHistogram();
  const duration = emptyHistogram();
  if (ended.ttft_ms !== null) ttft[bucketOf(ended.ttft_ms)] = 1;
  duration[bucketOf(ended.duration_ms)] = 1;
  return {
    at: 60 * Math.floor(ended.at / MINUTE_MS),
    ...{
      tenant: ended.tenant,
      name: ended.name,
      keyId: ended.key_id,
      status: ended.status,
      code: ended.code,
    },
    requests: 1,
    promptTokens: ended.prompt_tokens,
    completionTokens: ended.completion_tokens,
    ttft,
    duration,
  };
}

/** Sums by time and series. */
export type TrafficRows = Map<string, TrafficRow>;

/** @param row is not kept. @returns whether nothing was counted there before. */
export function addTraffic(rows: TrafficRows, row: TrafficRow): boolean {
  const { at, tenant, name, keyId, status, code } = row;
  const key = `${at} ${tenant} ${keyId} ${status} ${code} ${name}`;
  const sum = rows.get(key);
  if (sum === undefined) {
    rows.set(key, { ...row, ttft: [...row.ttft], duration: [...row.duration] });
    return true;
  }
  sum.requests += row.requests;
  sum.promptTokens += row.promptTokens;
  sum.completionTokens += row.completionTokens;
  addHistogram(sum.ttft, row.ttft);
  addHistogram(sum.duration, row.duration);
  return false;
}

/** Merges names and keys beyond the busiest `most` into a row of their tenant without them. */
export function boundNames(rows: Iterable<TrafficRow>, most: number): TrafficRow[] {
  const named: TrafficRow[] = [];
  const sums: TrafficRows = new Map();
  for (const row of rows)
    if (row.name === UNNAMED) addTraffic(sums, row);
    else named.push(row);
  named.sort((a, b) => b.requests - a.requests);
  for (const row of named.slice(most)) addTraffic(sums, { ...row, name: UNNAMED, keyId: '' });
  return [...sums.values(), ...named.slice(0, most)];
}

/** Adds requests of a tenant; the newest `most` of them stay. @returns how many more there are. */
export function addRequests(chunks: Map<string, RequestChunk>, chunk: RequestChunk, most: number): number {
  const { tenant } = chunk;
  const before = chunks.get(tenant) ?? { tenant, requests: [], leftOut: 0 };
  const all = [...before.requests, ...chunk.requests].sort((a, b) => b.at - a.at);
  const requests = all.slice(0, most);
  const leftOut = before.leftOut + chunk.leftOut + all.length - requests.length;
  chunks.set(tenant, { tenant, requests, leftOut });
  return requests.length - before.requests.length;
}

/** The client disconnected, which is not an error. */
const CLIENT_LEFT = 499;
export const isError = (status: number): boolean => status >= 400 && status !== CLIENT_LEFT;

const percentiles = (counts: readonly number[]) => ({
  p50: quantile(counts, 0.5),
  p95: quantile(counts, 0.95),
});

function summed(points: readonly TrafficPoint[]) {
  const ttft = emptyHistogram();
  const duration = emptyHistogram();
  const sum = { requests: 0, errors: 0, prompt_tokens: 0, completion_tokens: 0 };
  for (const point of points) {
    sum.requests += point.requests;
    if (isError(point.status)) sum.errors += point.requests;
    sum.prompt_tokens += point.promptTokens;
    sum.completion_tokens += point.completionTokens;
    addHistogram(ttft, point.ttft);
    addHistogram(duration, point.duration);
  }
  return { ...sum, ttft_ms: percentiles(ttft), duration_ms: percentiles(duration) };
}

/** @param points oldest first. */
export function summedPoints(points: readonly TrafficPoint[]): TrafficReport['points'] {
  const steps = new Map<number, TrafficPoint[]>();
  for (const point of points) {
    const step = steps.get(point.at);
    if (step === undefined) steps.set(point.at, [point]);
    else step.push(point);
  }
  return [...steps].map(([at, of]) => ({ at: 1000 * at, ...summed(of) }));
}

export function sumOf(points: readonly TrafficPoint[]): TrafficReport['total'] {
  const outcomes = new Map<string, TrafficReport['total']['outcomes'][number]>();
  for (const { status, code, requests } of points) {
    const key = `${status} ${code}`;
    const outcome = outcomes.get(key) ?? { status, code, requests: 0 };
    outcome.requests += requests;
    outcomes.set(key, outcome);
  }
  return {
    ...summed(points),
    outcomes: [...outcomes.values()]
      .sort((a, b) => b.requests - a.requests || a.status - b.status || (a.code < b.code ? -1 : 1))
      .slice(0, MAX_OUTCOMES),
  };
}
