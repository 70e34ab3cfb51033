import type {
  Experiment,
  ExperimentComparison,
  ExperimentDecision,
  ExperimentEvaluation,
} from '../../../protocol/index.ts';
import type { TallyMoments, TallySnapshot } from '../ports.ts';
import { analyze, type Comparison } from '../analyze.ts';
import { coveragePhases } from '../coverage-phases.ts';
import { decide, type Decision } from '../decide.ts';
import { healthOf, reportedMetrics } from '../health.ts';

/**
 * One look: what was counted, what follows. Pure.
 * @param params.before the last look of this seed. @param params.startedAt when the seed went live, @param params.coverageAt when its coverage was set, unix ms.
 */
export function evaluationOf(params: {
  experiment: Experiment;
  snapshot: TallySnapshot;
  before: ExperimentEvaluation | null;
  startedAt: number;
  coverageAt: number;
  now: number;
}): ExperimentEvaluation {
  const { experiment, snapshot, before, startedAt, coverageAt, now } = params;
  const phases = coveragePhases(before, experiment, snapshot.units);
  const analysis = analyze(experiment, { ...snapshot, phases });
  const health = healthOf(experiment, snapshot, now);
  const decision = decide({ experiment, analysis, health, startedAt, stepStartedAt: coverageAt, now });
  const { sampleRatio, alpha, comparisons, guardrails } = analysis;
  return {
    at: now,
    seed: experiment.seed,
    coverage: experiment.coverage,
    units: Object.fromEntries(experiment.variants.map(({ key }) => [key, snapshot.units[key] ?? 0])),
    sample_ratio: { state: sampleRatio.state, p_value: sampleRatio.pValue, phases },
    ...{ health, arms: armsOf(experiment, snapshot) },
    alpha,
    // Whoever sees results believes them: behind the alarm there are none.
    comparisons: sampleRatio.state === 'alarm' ? [] : comparisons.map(comparisonOf),
    guardrails,
    shadow: Object.fromEntries(
      Object.entries(snapshot.shadow).map(([metric, moments]) => [metric, armOf(moments)]),
    ),
    decision: decisionOf(decision),
  };
}

function armsOf(experiment: Experiment, { counts, metrics }: TallySnapshot): ExperimentEvaluation['arms'] {
  const [reported] = reportedMetrics(experiment);
  return Object.fromEntries(
    experiment.variants.map(({ key }) => [
      key,
      {
        answers: counts[key]?.answers ?? 0,
        cold_starts: counts[key]?.cold ?? 0,
        rated: reported === undefined ? null : (metrics[reported]?.[key]?.n ?? 0),
      },
    ]),
  );
}

const armOf = ({ n, sum }: TallyMoments): { n: number; mean: number } => ({ n, mean: n === 0 ? 0 : sum / n });

function comparisonOf(comparison: Comparison): ExperimentComparison {
  const { metric, variant, control, treatment, verdict, reason, result } = comparison;
  const estimated = ({ estimate, interval: { low, high } }: { estimate: number; interval: Bounds }) => ({
    estimate,
    low,
    high,
  });
  return {
    ...{ metric: metric.key, kind: metric.kind, better: metric.better },
    ...{ variant, control, treatment, verdict, reason },
    difference: result && estimated(result.difference),
    lift: result?.lift ? estimated(result.lift) : null,
    p_value: result?.pValue ?? null,
    adjusted: result?.adjusted ?? false,
  };
}
type Bounds = Readonly<{ low: number; high: number }>;

function decisionOf(decision: Decision): ExperimentDecision {
  switch (decision.action) {
    case 'rollback': {
      const { metric, variant } = decision.guardrail;
      return { action: 'rollback', reason: 'guardrail', metric, variant };
    }
    case 'hold':
      if (decision.reason === 'guardrail') {
        const { metric, variant } = decision.guardrail;
        return { action: 'hold', reason: 'guardrail', metric, variant };
      }
      return decision.reason === 'sample_ratio'
        ? { action: 'hold', reason: 'sample_ratio', p_value: decision.pValue }
        : decision;
    case 'wait':
      return decision.reason === 'hold_time'
        ? { action: 'wait', reason: 'hold_time', until: decision.untilMs }
        : decision;
    case 'advance':
      return decision;
    case 'propose_winner':
      return { action: 'propose_winner', variant: decision.variant };
  }
}
