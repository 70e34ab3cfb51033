import {
  isLive,
  type Experiment,
  type ExperimentComparison,
  type ExperimentEvaluation,
} from '../../../protocol/index.ts';
import type { TallyMoments, TallySnapshot } from '../ports.ts';
import { analyze, type Comparison } from '../analyze.ts';
import { cappedMetrics, withCaps } from '../capped.ts';
import { coveragePhases } from '../coverage-phases.ts';
import { decide, type Situation } from '../decide.ts';
import { progressOf } from '../foresee.ts';
import { pairsAtLook } from '../pairs/pairs-at-look.ts';
import type { PairTally } from '../pairs/ports.ts';
import { healthOf, reportedMetrics } from '../health.ts';
import { segmentsAtLook } from '../segments.ts';
import { spreadOf, spreadOfArm } from '../spread.ts';

/** One look: what was counted, what follows. Pure. @param before the last look of this seed. */
export function evaluationOf({
  snapshot,
  before,
  pairTally,
  ...situation
}: Omit<Situation, 'analysis' | 'pairs'> & {
  snapshot: TallySnapshot;
  before: ExperimentEvaluation | null;
  /** null without a judge. */
  pairTally: PairTally | null;
}): ExperimentEvaluation {
  const { experiment, now } = situation;
  const phases = coveragePhases(before, experiment, snapshot.units);
  const capped = cappedMetrics(experiment, snapshot);
  const analysis = analyze(experiment, { ...snapshot, phases, capped });
  const pairs = pairsAtLook(experiment, pairTally);
  const segments = segmentsAtLook(experiment, snapshot);
  const health = healthOf(experiment, snapshot, now);
  const decision = decide({ ...situation, analysis, pairs, health });
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
    progress:
      isLive(experiment) && sampleRatio.state !== 'alarm'
        ? progressOf({
            ...{ experiment, tallies: withCaps(snapshot, capped) },
            ...{ startedAt: situation.startedAt, now },
          })
        : null,
    ...(sampleRatio.state === 'alarm' ? {} : { spread: spreadOf(experiment, snapshot) }),
    ...(sampleRatio.state === 'alarm' || segments === null ? {} : { segments }),
    shadow: shadowOf(snapshot),
    ...(pairs === null ? {} : { pairs }),
    decision,
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

function shadowOf({ shadow, shadowSketches }: TallySnapshot): ExperimentEvaluation['shadow'] {
  const entries = Object.entries(shadow).map(([metric, moments]) => {
    const spread = spreadOfArm(moments, shadowSketches[metric]);
    const percentiles = spread === null ? {} : { p50: spread.p50, p95: spread.p95 };
    return [metric, { ...armOf(moments), ...percentiles }] as const;
  });
  return Object.fromEntries(entries);
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
    ...(comparison.cap === undefined ? {} : { cap: comparison.cap }),
    adjusted: (result?.adjusted ?? null) !== null,
    adjusted_share: result?.adjusted?.share ?? null,
  };
}
type Bounds = Readonly<{ low: number; high: number }>;
