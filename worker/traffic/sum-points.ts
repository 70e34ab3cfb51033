/** Counts by status and code as the admin API shows them: a point a step, and all together. */
import type { TrafficReport } from '../../protocol/index.ts';
import { addHistogram, emptyHistogram, quantile } from './histogram.ts';
import { MAX_OUTCOMES } from './limits.ts';
import type { TrafficPoint } from './ports.ts';

/** The client left, which is no failure. */
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
    outcomes: [...outcomes.values()].sort((a, b) => b.requests - a.requests).slice(0, MAX_OUTCOMES),
  };
}
