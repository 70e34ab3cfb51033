/**
 * The difference between two arms, plain or with CUPED (Deng, Xu, Kohavi and Walker 2013): values from before
 * the experiment explain part of those in it, which reduces the variance. CUPED's formulas follow gbstats
 * (`RegressionAdjustedStatistic`).
 */
import { err, ok, type Result } from '../../../protocol/api-error.ts';
import { type Arm, armOf, type GappedMoments, type MetricKind, type PairedMoments } from './moments.ts';

/** An approximately normal estimate. */
export interface Effect {
  estimate: number;
  standardError: number;
  /** {@link effectiveUnits} of the two arms. */
  n: number;
}

export interface Interval {
  low: number;
  high: number;
}

/** Why an effect cannot be estimated. */
export type NoEffect = 'too_few_values' | 'no_variance';

/** Treatment's mean minus control's, and what is needed to express it relative to control's. */
export interface Difference {
  estimate: number;
  /**
   * The difference of the plain means if {@link estimate} is adjusted: like gbstats, the delta method takes
   * its derivative here.
   */
  plain: number;
  variance: number;
  /** Absolute value of control's mean, and its variance. */
  base: number;
  baseVariance: number;
  /** Covariance of the difference with {@link base}, from control's part of it. */
  covariance: number;
  /** {@link effectiveUnits} of the two arms. */
  n: number;
}

/**
 * Units of an equal-arm experiment with the same precision: 4 n_c n_t / (n_c + n_t). With equal arms that is
 * all of them; with arms of 95 and 5, it is 19: more units in the large arm say nothing about the small one.
 */
export const effectiveUnits = (control: number, treatment: number): number =>
  control + treatment === 0 ? 0 : (4 * control * treatment) / (control + treatment);

/**
 * How much of the other arm's variance each arm borrows. While nothing rare has happened in a small arm, its
 * mean and variance are both small, so it looks certain. If the large arm varies more, the small one borrows
 * 1 - n_small / n_large of that variance. The difference then has the larger of two variances: with separate
 * arms, or pooled as in the score test. With equal arms they are the same.
 */
function borrowedShares(control: Arm, treatment: Arm): { control: number; treatment: number } {
  const [small, large] = control.n < treatment.n ? [control, treatment] : [treatment, control];
  const share = large.variance > small.variance ? 1 - small.n / large.n : 0;
  return small === control ? { control: share, treatment: 0 } : { control: 0, treatment: share };
}

/** @param share of `other`. */
const mixed = (own: number, other: number, share: number): number => own + share * (other - own);

/** The arms with the variances that are used to compare them: see {@link borrowedShares}. */
export function cautiousArms(control: Arm, treatment: Arm): [Arm, Arm] {
  const shares = borrowedShares(control, treatment);
  return [
    { ...control, variance: mixed(control.variance, treatment.variance, shares.control) },
    { ...treatment, variance: mixed(treatment.variance, control.variance, shares.treatment) },
  ];
}

/**
 * Formulas as in gbstats, for the plain arms; decisions use {@link cautiousArms} instead. Error:
 * `no_variance` for an arm that does not vary.
 */
export function differenceOf(control: Arm, treatment: Arm): Result<Difference, NoEffect> {
  if (Math.min(control.n, treatment.n) < 2) return err('too_few_values');
  if (control.variance <= 0 || treatment.variance <= 0) return err('no_variance');
  const baseVariance = control.variance / control.n;
  return ok({
    estimate: treatment.mean - control.mean,
    plain: treatment.mean - control.mean,
    variance: baseVariance + treatment.variance / treatment.n,
    base: Math.abs(control.mean),
    baseVariance,
    covariance: Math.sign(control.mean) * baseVariance,
    n: effectiveUnits(control.n, treatment.n),
  });
}

export function absoluteEffect({ estimate, variance, n }: Difference): Effect {
  return { estimate, standardError: Math.sqrt(variance), n };
}

/**
 * Lift: the difference relative to control's mean, 0.1 = 10 % more. Its variance is a ratio's to first order,
 * by the delta method (gbstats `variance_of_ratios`), so control's mean must be well known.
 * @returns null if control's mean is 0.
 */
export function liftEffect(difference: Difference): Effect | null {
  const { base, covariance, baseVariance, n } = difference;
  if (base === 0) return null;
  const at = difference.plain / base;
  const variance = (difference.variance + 2 * at * covariance + at ** 2 * baseVariance) / base ** 2;
  return { estimate: difference.estimate / base, standardError: Math.sqrt(variance), n };
}

/**
 * Fieller's interval for the lift (1954): all lifts `t` for which the difference minus `t` times the base is
 * within `multiplier` standard errors of 0. It excludes 0 exactly when the difference's interval does, and
 * converges to the delta method's as control's mean becomes certain.
 * @param multiplier standard errors on each side.
 * @returns null while control's mean may be 0: then no lift can be excluded.
 */
export function liftInterval(difference: Difference, multiplier: number): Interval | null {
  const { estimate, variance, base, baseVariance, covariance } = difference;
  const square = multiplier ** 2;
  const a = base ** 2 - square * baseVariance;
  if (a <= 0) return null;
  const b = estimate * base + square * covariance;
  const c = estimate ** 2 - square * variance;
  const root = Math.sqrt(Math.max(0, b ** 2 - a * c));
  return { low: (b - root) / a, high: (b + root) / a };
}

/**
 * Treatment's mean minus `factor` times control's: above 0 if treatment is more than `factor` times control.
 * Needs no division, unlike the lift, so it works for rare events too. Variances are compared on the scale
 * where treatment is exactly `factor` times control.
 */
export function contrast(control: Arm, treatment: Arm, factor: number): Effect {
  const scaled = { n: control.n, mean: factor * control.mean, variance: factor ** 2 * control.variance };
  const [a, b] = cautiousArms(scaled, treatment);
  return {
    estimate: b.mean - a.mean,
    standardError: Math.sqrt(a.variance / a.n + b.variance / b.n),
    n: effectiveUnits(a.n, b.n),
  };
}

/**
 * Replaces missing `pre` values in both arms by their common mean. Whether one is missing is determined
 * before the experiment, so the arms stay comparable, and such a unit is not adjusted.
 * @param control
 * @param treatment at least one unit has a value.
 */
export function imputed(control: GappedMoments, treatment: GappedMoments): [PairedMoments, PairedMoments] {
  const mean = (control.preSum + treatment.preSum) / (control.paired + treatment.paired);
  const of = ({ n, sum, sumSquares, paired, pairedSum, ...pre }: GappedMoments): PairedMoments => ({
    ...{ n, sum, sumSquares },
    preSum: pre.preSum + (n - paired) * mean,
    preSumSquares: pre.preSumSquares + (n - paired) * mean ** 2,
    products: pre.products + mean * (sum - pairedSum),
  });
  return [of(control), of(treatment)];
}

const preOf = ({ n, preSum, preSumSquares }: PairedMoments) => ({
  n,
  sum: preSum,
  sumSquares: preSumSquares,
});

function covariance({ n, sum, preSum, products }: PairedMoments, kind: MetricKind): number {
  if (n <= 1) return 0;
  return (products - (sum * preSum) / n) / (kind === 'proportion' ? n : n - 1);
}

function both(a: PairedMoments, b: PairedMoments): PairedMoments {
  return {
    n: a.n + b.n,
    sum: a.sum + b.sum,
    sumSquares: a.sumSquares + b.sumSquares,
    preSum: a.preSum + b.preSum,
    preSumSquares: a.preSumSquares + b.preSumSquares,
    products: a.products + b.products,
  };
}

/** The coefficient of `pre`, from both arms together; 0 if one of the two does not vary. */
export function cupedTheta(control: PairedMoments, treatment: PairedMoments, kind: MetricKind): number {
  const joint = both(control, treatment);
  const pre = armOf(preOf(joint), kind).variance;
  if (pre === 0 || armOf(joint, kind).variance === 0) return 0;
  return covariance(joint, kind) / pre;
}

/** An arm with `theta` times the pre-period value subtracted from each value. */
export function adjustedArm(moments: PairedMoments, theta: number, kind: MetricKind): Arm {
  const post = armOf(moments, kind);
  const pre = armOf(preOf(moments), kind);
  const variance = post.variance + theta ** 2 * pre.variance - 2 * theta * covariance(moments, kind);
  return { n: moments.n, mean: post.mean - theta * pre.mean, variance: Math.max(0, variance) };
}

/**
 * The difference of adjusted means. The lift stays relative to control's plain mean, which readers know. A
 * small arm borrows from the large arm's full variance.
 * @param borrowed zero for both gives gbstats' formula.
 */
export function cupedDifference(
  control: PairedMoments,
  treatment: PairedMoments,
  kind: MetricKind,
  borrowed = borrowedShares,
): Result<Difference, NoEffect> {
  if (Math.min(control.n, treatment.n) < 2) return err('too_few_values');
  const theta = cupedTheta(control, treatment, kind);
  const a = adjustedArm(control, theta, kind);
  const b = adjustedArm(treatment, theta, kind);
  if (a.variance === 0 || b.variance === 0) return err('no_variance');
  const [plain, other] = [armOf(control, kind), armOf(treatment, kind)];
  const shares = borrowed(a, b);
  const sharedOf = (arm: Arm, moments: PairedMoments) => arm.variance - theta * covariance(moments, kind);
  const shared = mixed(sharedOf(plain, control), sharedOf(other, treatment), shares.control);
  return ok({
    estimate: b.mean - a.mean,
    plain: other.mean - plain.mean,
    variance:
      mixed(a.variance, b.variance, shares.control) / a.n +
      mixed(b.variance, a.variance, shares.treatment) / b.n,
    base: Math.abs(plain.mean),
    baseVariance: mixed(plain.variance, other.variance, shares.control) / a.n,
    covariance: (Math.sign(plain.mean) * shared) / a.n,
    n: effectiveUnits(a.n, b.n),
  });
}
