import type { ExperimentEvaluation } from '../../protocol/admin-api/experiments.ts';
import type { Result } from '../../protocol/api-error.ts';
import { type Experiment, metricOf, type ExperimentMetric } from '../../protocol/experiment.ts';
import {
  cupedDifference,
  cupedTheta,
  imputed,
  absoluteEffect,
  cautiousArms,
  differenceOf,
  liftEffect,
  liftInterval,
  type Difference,
  type Interval,
  type NoEffect,
} from './statistics/effect.ts';
import {
  checkGuardrail,
  type GuardrailResult,
  cautiousLevel,
  sequentialInterval,
  sequentialMultiplier,
  sequentialPValue,
} from './statistics/sequential.ts';
import { NO_MOMENTS, type Moments, armOf, isPaired, variedArm } from './statistics/moments.ts';
import { sampleRatio, type SampleRatio, type DealtPhase } from './statistics/sample-ratio.ts';
import { capAt, cappedMoments, type Sketch } from './statistics/sketch.ts';
import { rangesOf } from './pick-variant.ts';

/**
 * Units of control with a value before a metric is capped by them: two of them are above the p99 then. With
 * fewer the cap would be control's largest value, which cuts off only the treatment's.
 */
export const MIN_CAPPING_UNITS = 200;
const P99 = 0.99;

/** A metric whose document says `cap`. */
export interface CappedMetric {
  /** Larger values of units count as it; null = unknown. */
  value: number | null;
  /** By variant's key, capped; empty while the cap is unknown. */
  arms: Readonly<Record<string, Moments>>;
}
export type CappedMetrics = Readonly<Record<string, CappedMetric>>;

interface Counted {
  metrics: Readonly<Record<string, Readonly<Record<string, Moments>>>>;
  sketches: Readonly<Record<string, Readonly<Record<string, Sketch>>>>;
}

const UNKNOWN: CappedMetric = { value: null, arms: {} };

/** The metrics that are capped at control's p99, both arms at the same value. */
export function cappedMetrics(
  { metrics, variants }: Pick<Experiment, 'metrics' | 'variants'>,
  counted: Counted,
): CappedMetrics {
  const keys = variants.map(({ key }) => key);
  return Object.fromEntries(
    metrics.filter(({ cap }) => cap !== undefined).map(({ key }) => [key, cappedMetric(key, keys, counted)]),
  );
}

function cappedMetric(metric: string, keys: readonly string[], { metrics, sketches }: Counted): CappedMetric {
  const own = sketches[metric] ?? {};
  const control = keys[0] === undefined ? undefined : own[keys[0]];
  const unitsOf = (key: string): number => metrics[metric]?.[key]?.n ?? 0;
  if (control === undefined || unitsOf(keys[0] ?? '') < MIN_CAPPING_UNITS) return UNKNOWN;
  // An arm whose values are not known one by one cannot be capped, and could not be compared with a capped one.
  if (keys.some((key) => unitsOf(key) > 0 && own[key] === undefined)) return UNKNOWN;
  const cap = capAt(control, P99);
  if (cap === null) return UNKNOWN;
  const arms = keys.map((key) => {
    const sketch = own[key];
    return [key, sketch === undefined ? NO_MOMENTS : cappedMoments(sketch, cap)] as const;
  });
  return { value: cap.value, arms: Object.fromEntries(arms) };
}

/** The counts, with the capped sums of capped metrics. */
export const withCaps = <T extends Pick<Counted, 'metrics'>>(counted: T, capped: CappedMetrics): T => ({
  ...counted,
  metrics: {
    ...counted.metrics,
    ...Object.fromEntries(
      Object.entries(capped).flatMap(([key, { value, arms }]) => (value === null ? [] : [[key, arms]])),
    ),
  },
});

/** Probability that all comparisons of one metric together find a difference where there is none. */
export const ALPHA = 0.05;
/**
 * Values that both arms need before a difference is reported: the formulas assume that means are close to
 * normal.
 */
export const MIN_VALUES = 50;

/** Recorded under the current seed. */
export interface Tallies {
  /** Units by variant's key. */
  units: Readonly<Record<string, number>>;
  /** The units by the coverage under which they came, oldest first; default: all under the current one. */
  phases?: readonly CoveragePhase[];
  /** By metric's key, by variant's key. */
  metrics: Readonly<Record<string, Readonly<Record<string, Moments>>>>;
  /** Of capped metrics; guardrails use the uncapped values. */
  capped?: CappedMetrics;
}

/** One treatment against control on one metric. */
export interface Comparison {
  metric: ExperimentMetric;
  variant: string;
  control: { n: number; mean: number };
  treatment: { n: number; mean: number };
  /** Cap of the units' values; null = not known yet, absent = not capped. */
  cap?: number | null;
  /** null, with the reason, when nothing can be computed. */
  result: ComparisonResult | null;
  reason: NoEffect | null;
  /**
   * `not_worse`: all of the lift's interval is above the metric's `at_least`, whether or not it includes 0.
   * `open` also when there are too few values or no result.
   */
  verdict: 'better' | 'not_worse' | 'worse' | 'open';
}

export interface ComparisonResult {
  /** Treatment's mean minus control's, in the metric's unit. */
  difference: { estimate: number; interval: Interval };
  /** The same as a share of control's mean; null while control's mean may be 0. */
  lift: { estimate: number; interval: Interval } | null;
  /** Below alpha at some look with probability alpha at most when there is no difference. */
  pValue: number;
  /** Share of units whose earlier behaviour was taken into account (CUPED); null = not applied. */
  adjusted: { share: number } | null;
}

export interface Analysis {
  /** In all variants. */
  units: number;
  /** If not `ok`, results must be shown with a warning; with `alarm`, not at all. */
  sampleRatio: SampleRatio;
  /**
   * Level of one comparison: {@link ALPHA} divided by the treatments (Bonferroni). There is no correction for
   * metrics.
   */
  alpha: number;
  /** The metrics in their order, the treatments in theirs. */
  comparisons: Comparison[];
  guardrails: GuardrailResult[];
}

export function analyze(experiment: Experiment, tallies: Tallies): Analysis {
  const [control, ...treatments] = experiment.variants.map(({ key }) => key) as [string, ...string[]];
  const of = (metric: string, variant: string): Moments => tallies.metrics[metric]?.[variant] ?? NO_MOMENTS;
  const units = experiment.variants.map(({ key }) => tallies.units[key] ?? 0);
  const alpha = ALPHA / treatments.length;
  // Removed variants have had no new units since.
  const stillIn = (byArm: readonly number[]): number[] =>
    byArm.filter((_, arm) => experiment.dropped?.includes(experiment.variants[arm]!.key) !== true);
  return {
    units: units.reduce((sum, n) => sum + n, 0),
    sampleRatio: sampleRatio(
      dealtPhases(
        experiment,
        tallies.phases ?? [{ coverage: experiment.coverage, units: { ...tallies.units } }],
      ).map(({ units, dealt: [first, ...others] }) => ({
        units: stillIn(units),
        dealt: [stillIn(first), ...others.map(stillIn)],
      })),
    ),
    alpha,
    comparisons: experiment.metrics.flatMap((metric) => {
      const capped = tallies.capped?.[metric.key];
      const arm = (variant: string) => capped?.arms[variant] ?? of(metric.key, variant);
      return treatments.map((variant) =>
        compare({
          ...{ metric, variant, alpha, control: arm(control), treatment: arm(variant) },
          ...(capped === undefined ? {} : { cap: capped.value }),
        }),
      );
    }),
    guardrails: experiment.guardrails.flatMap((rail) =>
      treatments.map((variant) =>
        checkGuardrail({
          rail,
          variant,
          kind: metricOf(experiment, rail.metric)?.kind ?? 'mean',
          control: of(rail.metric, control),
          treatment: of(rail.metric, variant),
        }),
      ),
    ),
  };
}

/**
 * The difference decides: its interval is valid for rare events too, for which the delta method's lift is far
 * too certain.
 */
export function compare(params: {
  metric: ExperimentMetric;
  variant: string;
  control: Moments;
  treatment: Moments;
  alpha: number;
  /** See {@link Comparison}. */
  cap?: number | null;
}): Comparison {
  const { metric, variant, control, treatment, alpha, cap } = params;
  const shown = (moments: Moments) => ({ n: moments.n, mean: armOf(moments, metric.kind).mean });
  const capped = cap === undefined ? {} : { cap };
  const comparison = { metric, variant, control: shown(control), treatment: shown(treatment), ...capped };
  const { difference, adjusted } = differenceFor(params);
  if (!difference.ok) return { ...comparison, result: null, reason: difference.error, verdict: 'open' };
  const effect = absoluteEffect(difference.value);
  const level = cautiousLevel(alpha);
  const interval = sequentialInterval(effect, level);
  const lift = liftEffect(difference.value);
  const liftWithin = liftInterval(difference.value, sequentialMultiplier(effect.n, level));
  const known = lift !== null && liftWithin !== null;
  const result: ComparisonResult = {
    difference: { estimate: effect.estimate, interval },
    lift: known ? { estimate: lift.estimate, interval: liftWithin } : null,
    pValue: Math.min(1, (sequentialPValue(effect, level) * alpha) / level),
    adjusted,
  };
  if (Math.min(control.n, treatment.n) < MIN_VALUES || cap === null)
    return { ...comparison, result, reason: 'too_few_values', verdict: 'open' };
  return { ...comparison, result, reason: null, verdict: verdictOf(result, metric) };
}

function differenceFor({ metric, control, treatment }: Parameters<typeof compare>[0]): {
  difference: Result<Difference, NoEffect>;
  adjusted: ComparisonResult['adjusted'];
} {
  if (isPaired(control) && isPaired(treatment) && Math.min(control.paired, treatment.paired) >= MIN_VALUES) {
    const arms = imputed(control, treatment);
    if (cupedTheta(...arms, metric.kind) !== 0)
      return {
        difference: cupedDifference(...arms, metric.kind),
        adjusted: { share: (control.paired + treatment.paired) / (control.n + treatment.n) },
      };
  }
  const arms = cautiousArms(variedArm(control, metric.kind), variedArm(treatment, metric.kind));
  return { difference: differenceOf(...arms), adjusted: null };
}

function verdictOf(
  { difference: { interval }, lift }: ComparisonResult,
  { better, at_least: atLeast }: ExperimentMetric,
): Comparison['verdict'] {
  /** With the sign that makes higher better. */
  const gain = ({ low, high }: Interval): Interval =>
    better === 'up' ? { low, high } : { low: -high, high: -low };
  const { low, high } = gain(interval);
  if (low > 0) return 'better';
  if (atLeast !== undefined && lift !== null && gain(lift.interval).low > atLeast) return 'not_worse';
  return high < 0 ? 'worse' : 'open';
}

/** New units by variant's key under this coverage; 0 = before coverage was recorded. */
export type CoveragePhase = NonNullable<ExperimentEvaluation['sample_ratio']['phases']>[number];

/** A ramp has at most 20 steps; of more, the oldest are merged, and no longer tested. */
const MOST_PHASES = 40;

/** Fewer than at the last look: a lost tally (backups contain none) started over. */
const countedAnew = (before: ExperimentEvaluation | null, units: Readonly<Record<string, number>>): boolean =>
  Object.entries(before?.units ?? {}).some(([key, count]) => (units[key] ?? 0) < count);

/**
 * Units since the last look count for the current coverage. Those between that look and a manual change did not
 * come under it; they are few, and {@link dealtPhases} allows for them.
 * @param before the last look of this seed. @param units so far.
 */
export function coveragePhases(
  before: ExperimentEvaluation | null,
  { coverage, variants }: Pick<Experiment, 'coverage' | 'variants'>,
  units: Readonly<Record<string, number>>,
): CoveragePhase[] {
  const unknown = before === null ? [] : [{ coverage: 0, units: before.units }];
  const known = countedAnew(before, units) ? [] : (before?.sample_ratio.phases ?? unknown);
  const earlier = known.at(-1)?.coverage === coverage ? known.slice(0, -1) : known;
  const counted = (phases: readonly CoveragePhase[], key: string): number =>
    phases.reduce((sum, phase) => sum + (phase.units[key] ?? 0), 0);
  const byVariant = (of: (key: string) => number): Record<string, number> =>
    Object.fromEntries(variants.map(({ key }) => [key, of(key)]));
  const old = earlier.slice(0, Math.max(0, earlier.length - MOST_PHASES));
  const joined = old.length === 0 ? [] : [{ coverage: 0, units: byVariant((key) => counted(old, key)) }];
  return [
    ...joined,
    ...earlier.slice(old.length),
    { coverage, units: byVariant((key) => Math.max(0, (units[key] ?? 0) - counted(earlier, key))) },
  ];
}

/**
 * The buckets that each phase assigns from. When a bucket is first covered, its units are new; later, most of
 * those in earlier buckets have been seen. So new units come from all current buckets, from the added ones, or
 * from a mixture.
 */
export function dealtPhases(
  { variants }: Pick<Experiment, 'variants'>,
  phases: readonly CoveragePhase[],
): DealtPhase[] {
  const bucketsAt = (coverage: number): number[] =>
    rangesOf({ variants, coverage }).map(({ from, to }) => to - from);
  return phases.flatMap(({ coverage, units }, place) => {
    const present = bucketsAt(coverage);
    if (coverage === 0) return [];
    const others = phases
      .slice(0, place)
      .map((phase) => bucketsAt(phase.coverage))
      .flatMap((earlier) => [earlier, present.map((buckets, arm) => buckets - earlier[arm]!)])
      .filter((buckets) => buckets.some((one) => one > 0) && buckets.every((one) => one >= 0));
    return [{ units: variants.map(({ key }) => units[key] ?? 0), dealt: [present, ...others] as const }];
  });
}
