import {
  isLive,
  type Experiment,
  type ExperimentComparison,
  type ExperimentEvaluation,
  type ExperimentPairs,
  metricOf,
  type ExperimentSpread,
} from '../../../protocol/index.ts';
import type { TallyMoments, TallySnapshot } from '../ports.ts';
import { analyze, type Comparison, cappedMetrics, withCaps } from '../analyze.ts';
import { coveragePhases } from '../coverage-phases.ts';
import { decide, type Situation } from '../decide.ts';
import { progressOf } from '../foresee.ts';
import type { PairTally } from '../pairs/ports.ts';
import { healthOf, reportedMetrics } from '../health.ts';
import { segmentsAtLook } from '../segments.ts';
import { winRate } from '../statistics/sequential.ts';
import { PAIR_ALPHA, PAIR_TUNING } from '../pairs/limits.ts';
import type { Moments } from '../statistics/moments.ts';
import { percentile, toldIn, type Sketch } from '../statistics/sketch.ts';

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

/** What the pairs of one look come to; null without a judge. Pure. */
function pairsAtLook(
  { judge, shadow, variants }: Experiment,
  tally: PairTally | null,
): ExperimentPairs | null {
  const variant = variants.find(({ adapter }) => adapter === shadow?.adapter);
  if (judge === undefined || variant === undefined || tally === null) return null;
  const { wins, ties, losses, same, choices, first, asked, agreed, failures, tokensToday } = tally;
  const rate = winRate(tally, PAIR_ALPHA, PAIR_TUNING);
  return {
    ...{ variant: variant.key, wins, ties, losses, same, failures },
    win_rate: rate && { estimate: rate.estimate, ...rate.interval },
    p_value: rate?.pValue ?? 1,
    verdict: rate === null ? 'open' : verdictOf(rate.interval),
    first_chosen: choices === 0 ? null : first / choices,
    agreement: asked === 0 ? null : agreed / asked,
    tokens_today: tokensToday,
  };
}

function verdictOf({ low, high }: { low: number; high: number }): ExperimentPairs['verdict'] {
  if (low > 0.5) return 'better';
  return high < 0.5 ? 'worse' : 'open';
}

/** Told of every experiment, listed or not: a mean hides the answers that somebody waited long for. */
const TIMES = ['ttft_ms', 'latency_ms'];

/** How times, and the values of the listed metrics that are no rates, are spread; where it is known. */
function spreadOf(
  experiment: Experiment,
  { metrics, sketches }: Pick<TallySnapshot, 'metrics' | 'sketches'>,
): NonNullable<ExperimentEvaluation['spread']> {
  const listed = experiment.metrics.map(({ key }) => key);
  const wanted = [...listed, ...TIMES.filter((key) => !listed.includes(key))].filter(
    (key) => metricOf(experiment, key)?.kind === 'mean',
  );
  const byMetric = wanted.map((metric) => {
    const arms = experiment.variants.flatMap(({ key }) => {
      const spread = spreadOfArm(metrics[metric]?.[key], sketches[metric]?.[key]);
      return spread === null ? [] : [[key, spread] as const];
    });
    return [metric, Object.fromEntries(arms)] as const;
  });
  return Object.fromEntries(byMetric.filter(([, arms]) => Object.keys(arms).length > 0));
}

/** @returns null where nobody knows, or where half of the values are below 0. */
function spreadOfArm(moments: Moments | undefined, sketch: Sketch | undefined): ExperimentSpread | null {
  if (moments === undefined || moments.n === 0 || sketch === undefined) return null;
  const [p50, p95] = [percentile(sketch, 0.5), percentile(sketch, 0.95)];
  if (p50 === null || p95 === null) return null;
  return { values: toldIn(sketch), mean: moments.sum / moments.n, p50, p95 };
}
