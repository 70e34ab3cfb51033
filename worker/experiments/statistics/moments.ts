/** Sufficient statistics of a variant's units for one metric; one value per unit. */

export interface Moments {
  /** Units with a value. */
  n: number;
  sum: number;
  sumSquares: number;
}

/** Includes the same units' values from before the experiment (`pre`), for CUPED. */
export interface PairedMoments extends Moments {
  preSum: number;
  preSumSquares: number;
  /** Sum of value times pre. */
  products: number;
}

/** `proportion`: values between 0 and 1. */
export type MetricKind = 'proportion' | 'mean';

/** An arm in the form that the formulas use. */
export interface Arm {
  n: number;
  mean: number;
  /** Of a unit's value. */
  variance: number;
}

export const NO_MOMENTS: Moments = { n: 0, sum: 0, sumSquares: 0 };

/**
 * Some units have no earlier value. The fields that {@link Moments} does not have cover only units with one.
 */
export interface GappedMoments extends PairedMoments {
  /** Units with an earlier value, and the sum of their values. */
  paired: number;
  pairedSum: number;
}

export const isPaired = (moments: Moments): moments is GappedMoments => 'pairedSum' in moments;

export function addValue(moments: Moments, value: number): Moments {
  return { n: moments.n + 1, sum: moments.sum + value, sumSquares: moments.sumSquares + value * value };
}

/** Replaces one unit's value: its mean has changed with another request. */
export function replaceValue(moments: Moments, before: number, after: number): Moments {
  return {
    n: moments.n,
    sum: moments.sum - before + after,
    sumSquares: moments.sumSquares - before * before + after * after,
  };
}

export function addMoments(a: Moments, b: Moments): Moments {
  return { n: a.n + b.n, sum: a.sum + b.sum, sumSquares: a.sumSquares + b.sumSquares };
}

/**
 * The mean, and the variance as in gbstats: divided by n for proportions, which is p(1 - p) if values are 0
 * and 1, and by n - 1 for means. Rounding can make a difference of large squares negative: that counts as 0.
 */
export function armOf({ n, sum, sumSquares }: Moments, kind: MetricKind): Arm {
  if (n === 0) return { n, mean: 0, variance: 0 };
  const mean = sum / n;
  const divisor = kind === 'proportion' ? n : n - 1;
  return { n, mean, variance: divisor === 0 ? 0 : Math.max(0, (sumSquares - sum * mean) / divisor) };
}

/**
 * A proportion with two added units, one success and one failure (Agresti and Caffo 2000). Its variance is
 * never 0, so an arm where everything fails can be compared with one where nothing does.
 */
export function cautiousProportion({ n, sum }: Moments): Arm {
  const mean = (sum + 1) / (n + 2);
  return { n: n + 2, mean, variance: mean * (1 - mean) };
}

/** {@link armOf}, but a proportion of exactly 0 or 1 gets the variance of {@link cautiousProportion}. */
export function variedArm(moments: Moments, kind: MetricKind): Arm {
  const arm = armOf(moments, kind);
  const sure = kind === 'proportion' && arm.n > 0 && (arm.mean === 0 || arm.mean === 1);
  return sure ? { ...arm, variance: cautiousProportion(moments).variance } : arm;
}

/**
 * One unit's requests for one metric. Its value is the mean over its requests; `before` is the first reported
 * value from before the experiment.
 */
export interface UnitValue {
  n: number;
  sum: number;
  /** From before the experiment; null if none was reported. */
  before: number | null;
}

export type RunningMoments = GappedMoments;

export const NO_RUNNING_MOMENTS: RunningMoments = {
  ...NO_MOMENTS,
  paired: 0,
  pairedSum: 0,
  preSum: 0,
  preSumSquares: 0,
  products: 0,
};

/** @param was null = this is the unit's first request. */
export function withRequest(was: UnitValue | null, value: number, before: number | null): UnitValue {
  return {
    n: (was?.n ?? 0) + 1,
    sum: (was?.sum ?? 0) + value,
    before: was?.before ?? before,
  };
}

export const meanOf = ({ n, sum }: UnitValue): number => sum / n;

/** Updates the sums when a unit changes from `was` to `is`: snapshots read only sums, not units. */
export function moveUnit(moments: RunningMoments, was: UnitValue | null, is: UnitValue): RunningMoments {
  const after = meanOf(is);
  const values = was === null ? addValue(moments, after) : replaceValue(moments, meanOf(was), after);
  const { before } = is;
  if (before === null) return { ...moments, ...values };
  const isNew = was === null || was.before === null;
  const pre = isNew ? before : 0;
  const moved = isNew ? after : after - meanOf(was);
  return {
    ...values,
    paired: moments.paired + (isNew ? 1 : 0),
    pairedSum: moments.pairedSum + moved,
    preSum: moments.preSum + pre,
    preSumSquares: moments.preSumSquares + pre * pre,
    products: moments.products + before * moved,
  };
}
