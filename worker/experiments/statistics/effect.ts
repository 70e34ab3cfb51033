/**
 * The difference between two arms: as it is, and by CUPED (Deng, Xu, Kohavi and Walker 2013), where what units did
 * before the experiment explains a part of what they do in it, so that the rest varies less. Formulas of CUPED as in
 * gbstats (`RegressionAdjustedStatistic`).
 */
import { err, ok, type Result } from '../../../protocol/api-error.ts';
import { type Arm, armOf, type GappedMoments, type MetricKind, type PairedMoments } from './moments.ts';

/** An estimate that is close to normal. */
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

/** Why there is no effect to tell. */
export type NoEffect = 'too_few_values' | 'no_variance';

/** Treatment's mean less control's, and what is needed to say it as a share of control's. */
export interface Difference {
  estimate: number;
  /** Of the plain means, where {@link estimate} is adjusted: the delta method's derivative is taken here, as in gbstats. */
  plain: number;
  variance: number;
  /** Size of control's mean, and its variance. */
  base: number;
  baseVariance: number;
  /** Of what control contributes to the difference with {@link base}. */
  covariance: number;
  /** {@link effectiveUnits} of the two arms. */
  n: number;
}

/**
 * Units of an equal-arm experiment with the same precision: 4 n_c n_t / (n_c + n_t). With equal arms all of
 * them; with 95 and 5 of a hundred, 19: what a large arm has more than a small one says nothing of the small
 * one.
 */
export const effectiveUnits = (control: number, treatment: number): number =>
  control + treatment === 0 ? 0 : (4 * control * treatment) / (control + treatment);

/**
 * How much of what varies in the other arm is taken for each arm's own. A small arm in which nothing rare has happened
 * yet has a small mean and a small variance at the same time, and by its own looks sure: where the large arm varies
 * more, 1 - n_small / n_large of that is borrowed. The variance of the difference is then the larger one of that with
 * each arm's own and that with one pooled variance, the score test's; with equal arms they are the same.
 */
function borrowedShares(control: Arm, treatment: Arm): { control: number; treatment: number } {
  const [small, large] = control.n < treatment.n ? [control, treatment] : [treatment, control];
  const share = large.variance > small.variance ? 1 - small.n / large.n : 0;
  return small === control ? { control: share, treatment: 0 } : { control: 0, treatment: share };
}

/** @param share of `other`. */
const mixed = (own: number, other: number, share: number): number => own + share * (other - own);

/** The arms with the variances that they are compared by: see {@link borrowedShares}. */
export function cautiousArms(control: Arm, treatment: Arm): [Arm, Arm] {
  const shares = borrowedShares(control, treatment);
  return [
    { ...control, variance: mixed(control.variance, treatment.variance, shares.control) },
    { ...treatment, variance: mixed(treatment.variance, control.variance, shares.treatment) },
  ];
}

/**
 * Formulas as in gbstats, of the arms as they are: what decides gets them from {@link cautiousArms}. An arm that does not
 * vary cannot be judged: `no_variance`.
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
 * Lift: the difference as a share of control's mean, 0.1 = 10 % more, with the variance of a ratio to first order, the
 * delta method (gbstats `variance_of_ratios`). Only as good as control's mean is certain.
 * @returns null when control's mean is 0.
 */
export function liftEffect(difference: Difference): Effect | null {
  const { base, covariance, baseVariance, n } = difference;
  if (base === 0) return null;
  const at = difference.plain / base;
  const variance = (difference.variance + 2 * at * covariance + at ** 2 * baseVariance) / base ** 2;
  return { estimate: difference.estimate / base, standardError: Math.sqrt(variance), n };
}

/**
 * Fieller's interval for the lift (1954): all lifts `t` for which the difference less `t` times the base is within
 * `multiplier` standard errors of 0. It leaves 0 out exactly when the interval of the difference does, and tends to the
 * delta method's as control's mean becomes certain.
 * @param multiplier standard errors on each side. @returns null while control's mean itself may be 0: any lift may be.
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
 * Treatment's mean less `factor` times control's: above 0 when treatment is more than that many times control. Unlike
 * the lift it needs no division, so that it holds for rare events too. Where there is no excess, treatment is control
 * `factor` times as large: so the variances are compared on that scale.
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
 * Both arms with the mean of `pre`, over both, in the place of those that are not known. Whether one is known is settled
 * before the experiment, so that the arms stay alike; a unit without one is then adjusted by nothing.
 * @param control, @param treatment at least one unit has one.
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

/** How much of `pre` to take off, from both arms together; 0 when one of the two does not vary. */
export function cupedTheta(control: PairedMoments, treatment: PairedMoments, kind: MetricKind): number {
  const joint = both(control, treatment);
  const pre = armOf(preOf(joint), kind).variance;
  if (pre === 0 || armOf(joint, kind).variance === 0) return 0;
  return covariance(joint, kind) / pre;
}

/** An arm with `theta` times the pre-period taken off each value. */
export function adjustedArm(moments: PairedMoments, theta: number, kind: MetricKind): Arm {
  const post = armOf(moments, kind);
  const pre = armOf(preOf(moments), kind);
  const variance = post.variance + theta ** 2 * pre.variance - 2 * theta * covariance(moments, kind);
  return { n: moments.n, mean: post.mean - theta * pre.mean, variance: Math.max(0, variance) };
}

/**
 * The difference of adjusted means. Lift stays relative to control's plain mean, which is what a reader knows. What a
 * small arm borrows of the large one it borrows of all that varies.
 * @param borrowed nothing of either gives gbstats' formula.
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
