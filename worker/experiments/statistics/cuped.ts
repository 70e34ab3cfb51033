/**
 * CUPED (Deng, Xu, Kohavi and Walker 2013): what units did before the experiment explains a part of what they do in it;
 * the rest varies less. Formulas as in gbstats (`RegressionAdjustedStatistic`).
 */
import { err, ok, type Result } from '../../../protocol/index.ts';
import { borrowedShares, effectiveUnits, mixed, type Difference, type NoEffect } from './effect.ts';
import { armOf, type Arm, type GappedMoments, type MetricKind, type PairedMoments } from './moments.ts';

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
