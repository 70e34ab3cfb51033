/** Welch's t-test: right when there is one look, whose time was fixed before. Shown as that, and decides nothing. */
import type { Effect, Interval } from './effect.ts';
import type { Arm } from './moments.ts';
import { studentCritical, studentTwoTails } from './quantiles.ts';

/** Degrees of freedom after Welch and Satterthwaite; both arms need a variance and two units. */
export function welchDegrees(control: Arm, treatment: Arm): number {
  const a = control.variance / control.n;
  const b = treatment.variance / treatment.n;
  return (a + b) ** 2 / (a ** 2 / (control.n - 1) + b ** 2 / (treatment.n - 1));
}

export function fixedHorizon(
  effect: Effect,
  degrees: number,
  alpha: number,
): { interval: Interval; pValue: number } {
  const half = studentCritical(alpha, degrees) * effect.standardError;
  return {
    interval: { low: effect.estimate - half, high: effect.estimate + half },
    pValue: studentTwoTails(effect.estimate / effect.standardError, degrees),
  };
}
