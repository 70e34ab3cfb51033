/** What an experiment can tell by so many units: for its plan, and for how far it has come. Decides nothing. */
import {
  activeTreatments,
  PLANNED_LIFTS,
  type Experiment,
  type ExperimentFinding,
  type ExperimentProgress,
} from '../../protocol/index.ts';
import { ALPHA, MIN_VALUES, type Tallies } from './analyze.ts';
import { MIN_UNITS } from './decide.ts';
import { armOf, NO_MOMENTS } from './statistics/moments.ts';
import { liftToFind, unitsToFind, type ArmWeights, type Baseline } from './statistics/power.ts';

const DAY = 86_400_000;
/** A rate of less than this time says nothing, ms. */
const SHORTEST = 10 * 60_000;

/** Level of one comparison. */
export const alphaOf = ({ variants }: Pick<Experiment, 'variants'>): number =>
  ALPHA / Math.max(1, variants.length - 1);

/**
 * @param params.share of the units have a value. @param params.unitsADay in both arms; null = nobody knows.
 * @param params.unitsNow that there are already. @param params.leastUnits, params.leastDays before any proposal.
 */
export function findings(params: {
  baseline: Baseline;
  better: 'up' | 'down';
  weights: ArmWeights;
  alpha: number;
  share: number;
  unitsADay: number | null;
  unitsNow: number;
  leastDays: number;
}): ExperimentFinding[] {
  const { baseline, better, weights, alpha, share, unitsADay, unitsNow, leastDays } = params;
  return PLANNED_LIFTS.map((lift) => {
    const signed = better === 'up' ? lift : -lift;
    const values =
      share > 0 ? unitsToFind({ baseline, weights, lift: signed, alpha, least: MIN_VALUES }) : null;
    if (values === null) return { lift, units: null, days: null };
    const units = Math.max(0, Math.max(MIN_UNITS, Math.ceil(values / share)) - unitsNow);
    const days = unitsADay === null || unitsADay <= 0 ? null : Math.max(leastDays, units / unitsADay);
    return { lift, units, days };
  });
}

/** How far a live experiment has come; null before there is a value, and where nothing varies. */
export function progressOf(params: {
  experiment: Experiment;
  tallies: Tallies;
  startedAt: number;
  now: number;
}): ExperimentProgress | null {
  const { experiment, tallies, startedAt, now } = params;
  const metric = experiment.metrics[0]!;
  const control = experiment.variants[0]!.key;
  const moments = (variant: string) => tallies.metrics[metric.key]?.[variant] ?? NO_MOMENTS;
  const [variant] = activeTreatments(experiment).sort((a, b) => moments(a).n - moments(b).n);
  if (variant === undefined || Math.min(moments(control).n, moments(variant).n) === 0) return null;
  const arm = armOf(moments(control), metric.kind);
  const values: ArmWeights = { control: arm.n, treatment: moments(variant).n };
  const unitsNow = (tallies.units[control] ?? 0) + (tallies.units[variant] ?? 0);
  if (arm.variance <= 0 || unitsNow === 0) return null;
  const baseline: Baseline = { kind: metric.kind, mean: arm.mean, variance: arm.variance };
  const alpha = alphaOf(experiment);
  const ranMs = now - startedAt;
  const unitsADay = ranMs < SHORTEST ? null : (unitsNow * DAY) / ranMs;
  const found =
    Math.min(values.control, values.treatment) < MIN_VALUES
      ? null
      : liftToFind({ baseline, units: values, alpha, better: metric.better });
  return {
    variant,
    lift_now: found === null ? null : Math.abs(found),
    units_per_day: unitsADay,
    finds: findings({
      ...{ baseline, better: metric.better, weights: values, alpha, unitsADay, unitsNow },
      share: Math.min(1, (values.control + values.treatment) / unitsNow),
      leastDays: Math.max(0, (experiment.min_days ?? 0) - ranMs / DAY),
    }),
  };
}
