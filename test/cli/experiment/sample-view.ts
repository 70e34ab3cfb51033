import {
  ExperimentEvaluation,
  ExperimentView,
  type ExperimentComparison,
} from '../../../protocol/admin-api/experiments.ts';

/** A Saturday morning, UTC. */
export const NOON = Date.UTC(2026, 0, 31, 12);
export const ID = 'exp_0123456789abcdef';

export const DOCUMENT = {
  name: 'support/intent',
  version: 3,
  status: 'ramping',
  seed: 'support-intent-2',
  unit: 'user',
  variants: [
    { key: 'control', adapter: 'support/intent@3', weight: 0.5 },
    { key: 'treatment', adapter: 'support/intent@4', weight: 0.5 },
  ],
  coverage: 0.05,
  metrics: [
    { key: 'thumbs', kind: 'proportion', better: 'up' },
    { key: 'latency_ms', kind: 'mean', better: 'down' },
  ],
  guardrails: [
    { metric: 'error_rate', max_relative_increase: 0.5, max_absolute_increase: 0.02, action: 'rollback' },
  ],
  ramp: { steps: [0.01, 0.05, 0.25, 1], hold_minutes: 60, min_units: 200 },
};

export const THUMBS: ExperimentComparison = {
  metric: 'thumbs',
  kind: 'proportion',
  better: 'up',
  variant: 'treatment',
  control: { n: 398, mean: 0.312 },
  treatment: { n: 412, mean: 0.34 },
  verdict: 'open',
  reason: null,
  difference: { low: -0.004, estimate: 0.028, high: 0.06 },
  lift: { low: -0.012, estimate: 0.0897, high: 0.1914 },
  p_value: 0.21,
  adjusted: false,
};

export const LATENCY: ExperimentComparison = {
  ...THUMBS,
  metric: 'latency_ms',
  kind: 'mean',
  better: 'down',
  control: { n: 398, mean: 412.34 },
  treatment: { n: 412, mean: 371.05 },
  verdict: 'better',
  difference: { low: -61.2, estimate: -41.29, high: -21.3 },
  lift: { low: -0.148, estimate: -0.1001, high: -0.0522 },
};

/** A look at {@link DOCUMENT}. */
export const lookOf = (changes: Record<string, unknown> = {}): ExperimentEvaluation =>
  ExperimentEvaluation.parse({
    at: NOON - 60_000,
    seed: DOCUMENT.seed,
    coverage: 0.05,
    units: { control: 398, treatment: 412 },
    sample_ratio: { state: 'ok', p_value: 0.623 },
    alpha: 0.05,
    comparisons: [THUMBS, LATENCY],
    health: [],
    guardrails: [
      {
        metric: 'error_rate',
        variant: 'treatment',
        action: 'rollback',
        state: 'kept',
        control: 0.011,
        treatment: 0.012,
        lost: null,
      },
    ],
    shadow: {},
    decision: { action: 'wait', reason: 'hold_time', until: NOON + 30 * 60_000 },
    ...changes,
  });

/** An experiment as the admin API shows it. */
export const viewOf = (
  document: Record<string, unknown> = {},
  changes: Record<string, unknown> = {},
): ExperimentView =>
  ExperimentView.parse({
    id: ID,
    owner: 'default',
    document: { ...DOCUMENT, ...document },
    seeds: [DOCUMENT.seed],
    created_at: NOON - 7_200_000,
    created_by: 'bootstrap',
    started_at: NOON - 5_400_000,
    coverage_at: NOON - 1_800_000,
    evaluation: lookOf(),
    ...changes,
  });
