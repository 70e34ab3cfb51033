import { err, ok, type Result } from '../../../protocol/index.ts';
import type { Arm } from './moments.ts';

/** An estimate that is close to normal. */
export interface Effect {
  estimate: number;
  standardError: number;
  /** Units of both arms together. */
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
  /** Units of both arms together. */
  n: number;
}

/** An arm that does not vary cannot be judged: `no_variance`, as in gbstats. */
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
    n: control.n + treatment.n,
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
 * the lift it needs no division, so that it holds for rare events too.
 */
export function contrast(control: Arm, treatment: Arm, factor: number): Effect {
  const variance = treatment.variance / treatment.n + (factor ** 2 * control.variance) / control.n;
  return {
    estimate: treatment.mean - factor * control.mean,
    standardError: Math.sqrt(variance),
    n: control.n + treatment.n,
  };
}
