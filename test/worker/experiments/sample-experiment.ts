import { Experiment } from '../../../protocol/experiment.ts';

/** A document as a client would send it, with what a test wants to be different. */
export function experimentInput(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name: 'support/intent',
    version: 1,
    status: 'running',
    seed: 'support-intent-2',
    unit: 'user',
    variants: [
      { key: 'control', adapter: 'support/intent@3', weight: 0.5 },
      { key: 'treatment', adapter: 'support/intent@4', weight: 0.5 },
    ],
    coverage: 1,
    metrics: [
      { key: 'thumbs', kind: 'proportion', better: 'up' },
      { key: 'latency_ms', kind: 'mean', better: 'down' },
    ],
    guardrails: [
      { metric: 'error_rate', max_relative_increase: 0.5, max_absolute_increase: 0.02, action: 'rollback' },
    ],
    ...changes,
  };
}

export const experimentOf = (changes: Record<string, unknown> = {}): Experiment =>
  Experiment.parse(experimentInput(changes));

/** `weights` as variants a, b, c …, the first of them control. */
export const variantsOf = (weights: readonly number[]): Record<string, unknown>[] =>
  weights.map((weight, i) => ({
    key: String.fromCharCode(97 + i),
    adapter: `support/intent@${i + 1}`,
    weight,
  }));
