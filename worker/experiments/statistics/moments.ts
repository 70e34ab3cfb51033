/** Sufficient statistics: all that is kept of the units of one variant for one metric. One value a unit. */

export interface Moments {
  /** Units that have a value. */
  n: number;
  sum: number;
  sumSquares: number;
}

/** With what the same units did before the experiment (`pre`), for CUPED. */
export interface PairedMoments extends Moments {
  preSum: number;
  preSumSquares: number;
  /** Sum of value times pre. */
  products: number;
}

/** `proportion`: values between 0 and 1. */
export type MetricKind = 'proportion' | 'mean';

/** An arm as the formulas see it. */
export interface Arm {
  n: number;
  mean: number;
  /** Of one unit's value. */
  variance: number;
}

export const NO_MOMENTS: Moments = { n: 0, sum: 0, sumSquares: 0 };

/** Some units have no value from before: what is after {@link Moments} is of those alone that have one. */
export interface GappedMoments extends PairedMoments {
  /** Units that have one, and the sum of their values. */
  paired: number;
  pairedSum: number;
}

export const isPaired = (moments: Moments): moments is GappedMoments => 'pairedSum' in moments;

export function addValue(moments: Moments, value: number): Moments {
  return { n: moments.n + 1, sum: moments.sum + value, sumSquares: moments.sumSquares + value * value };
}

/** Takes one unit's value out and puts another one in: its mean has moved with a further request. */
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
 * The mean, and the variance as gbstats has it: divided by n for proportions, which is p(1 - p) when values are 0 and 1,
 * by n - 1 for means. Rounding may leave a difference of large squares below nought: that is no variance.
 */
export function armOf({ n, sum, sumSquares }: Moments, kind: MetricKind): Arm {
  if (n === 0) return { n, mean: 0, variance: 0 };
  const mean = sum / n;
  const divisor = kind === 'proportion' ? n : n - 1;
  return { n, mean, variance: divisor === 0 ? 0 : Math.max(0, (sumSquares - sum * mean) / divisor) };
}

/**
 * A proportion with two units more, one with and one without (Agresti and Caffo 2000): its variance is never nought, so
 * that an arm in which everything fails can be told from one in which nothing does.
 */
export function cautiousProportion({ n, sum }: Moments): Arm {
  const mean = (sum + 1) / (n + 2);
  return { n: n + 2, mean, variance: mean * (1 - mean) };
}

/** {@link armOf}; a proportion of exactly 0 or 1 gets the variance that {@link cautiousProportion} gives it. */
export function variedArm(moments: Moments, kind: MetricKind): Arm {
  const arm = armOf(moments, kind);
  const sure = kind === 'proportion' && arm.n > 0 && (arm.mean === 0 || arm.mean === 1);
  return sure ? { ...arm, variance: cautiousProportion(moments).variance } : arm;
}

/**
 * One unit's requests on one metric. Its value is the mean over its requests; what it was before the experiment
 * (`before`) is the first that was told of it.
 */
export interface UnitValue {
  n: number;
  sum: number;
  /** From before the experiment; null while nobody has told it. */
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

/** The sums once a unit that `was` so `is` so: a snapshot reads sums and no units. */
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
