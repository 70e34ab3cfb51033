/** The effect as a Gaussian posterior, as gbstats has it (`EffectBayesianABTest`); by default with a flat prior. */
import type { Effect, Interval } from './effect.ts';
import { normalCdf, normalDensity } from './gamma.ts';
import { normalQuantile } from './quantiles.ts';

export interface GaussianPrior {
  mean: number;
  variance: number;
}

export interface Posterior {
  mean: number;
  deviation: number;
  /** The treatment is better than control with this probability. */
  chanceToWin: number;
  /** What taking this arm costs on average, in the effect's unit: nought when it is better. */
  expectedLoss: { control: number; treatment: number };
  interval: Interval;
}

/** @param better which way the metric is meant to go. @param prior null = flat. */
export function posterior(
  effect: Effect,
  better: 'up' | 'down',
  alpha: number,
  prior: GaussianPrior | null = null,
): Posterior {
  const weight = 1 / effect.standardError ** 2;
  const precision = weight + (prior === null ? 0 : 1 / prior.variance);
  const mean =
    prior === null ? effect.estimate : (effect.estimate * weight + prior.mean / prior.variance) / precision;
  const deviation = Math.sqrt(1 / precision);
  const half = -normalQuantile(alpha / 2) * deviation;
  const gain = meanAboveZero(mean, deviation);
  const loss = meanAboveZero(-mean, deviation);
  const up = better === 'up';
  return {
    mean,
    deviation,
    chanceToWin: normalCdf((up ? mean : -mean) / deviation),
    expectedLoss: up ? { control: gain, treatment: loss } : { control: loss, treatment: gain },
    interval: { low: mean - half, high: mean + half },
  };
}

/** Expectation of max(X, 0) for a normal X. */
export function meanAboveZero(mean: number, deviation: number): number {
  const z = mean / deviation;
  return Math.max(0, mean * normalCdf(z) + deviation * normalDensity(z));
}
