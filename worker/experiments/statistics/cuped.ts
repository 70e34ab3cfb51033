/**
 * CUPED (Deng, Xu, Kohavi and Walker 2013): what units did before the experiment explains a part of what they do in it;
 * the rest varies less. Formulas as in gbstats (`RegressionAdjustedStatistic`).
 */
import { err, ok, type Result } from '../../../protocol/index.ts';
import type { Difference, NoEffect } from './effect.ts';
import { armOf, type Arm, type MetricKind, type PairedMoments } from './moments.ts';

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

/** The difference of adjusted means. Lift stays relative to control's plain mean, which is what a reader knows. */
export function cupedDifference(
  control: PairedMoments,
  treatment: PairedMoments,
  kind: MetricKind,
): Result<Difference, NoEffect> {
  if (Math.min(control.n, treatment.n) < 2) return err('too_few_values');
  const theta = cupedTheta(control, treatment, kind);
  const a = adjustedArm(control, theta, kind);
  const b = adjustedArm(treatment, theta, kind);
  if (a.variance === 0 || b.variance === 0) return err('no_variance');
  const plain = armOf(control, kind);
  const shared = (plain.variance - theta * covariance(control, kind)) / control.n;
  return ok({
    estimate: b.mean - a.mean,
    plain: armOf(treatment, kind).mean - plain.mean,
    variance: a.variance / control.n + b.variance / treatment.n,
    base: Math.abs(plain.mean),
    baseVariance: plain.variance / control.n,
    covariance: Math.sign(plain.mean) * shared,
    n: control.n + treatment.n,
  });
}
