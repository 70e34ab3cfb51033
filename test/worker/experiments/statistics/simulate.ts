/** Experiments with simulated units, reproducible by seed. */
import { NO_MOMENTS, type Moments } from '../../../../worker/experiments/statistics/moments.ts';

/** Uniform in [0, 1). */
export type Random = () => number;

/** sfc32 (Doty-Humphrey, PractRand): small, fast, and long enough for a few billion draws. */
export function seeded(seed: number): Random {
  let [a, b, c, counter] = [0x9e3779b9, 0x243f6a88, seed | 0, 1];
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 20; i++) next();
  return next;
}

export type Draw = (random: Random) => number;

export const bernoulli =
  (rate: number): Draw =>
  (random) =>
    random() < rate ? 1 : 0;

/** Skewed like latencies: median 1, and with sigma 1 a mean of 1.65. */
export const logNormal =
  (sigma: number): Draw =>
  (random) =>
    Math.exp(sigma * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));

/**
 * Calls `look` after each batch of units; ends early if it returns 'stop'.
 * @returns the number of looks.
 */
export function simulate(params: {
  random: Random;
  /** One for each arm. */
  arms: readonly Draw[];
  looks: number;
  /** Of each arm, for each look. */
  unitsPerLook: number;
  look: (moments: Moments[]) => 'go on' | 'stop';
}): number {
  const moments = params.arms.map(() => NO_MOMENTS);
  for (let taken = 1; taken <= params.looks; taken++) {
    for (const [arm, draw] of params.arms.entries()) {
      const batch = { n: 0, sum: 0, sumSquares: 0 };
      for (let i = 0; i < params.unitsPerLook; i++) {
        const value = draw(params.random);
        batch.sum += value;
        batch.sumSquares += value * value;
      }
      const { sum, sumSquares } = moments[arm]!;
      moments[arm] = {
        n: moments[arm]!.n + params.unitsPerLook,
        sum: sum + batch.sum,
        sumSquares: sumSquares + batch.sumSquares,
      };
    }
    if (params.look(moments) === 'stop') return taken;
  }
  return params.looks;
}
