/** Made-up units for simulations of experiments: one after another, the same ones for the same seed. */

/** Evenly distributed in [0, 1). */
export type Random = () => number;

/** sfc32 (Doty-Humphrey, PractRand), as the tests have it. */
export function seeded(seed: number): Random {
  let [a, b, c, counter] = [0x9e3779b9, 0x243f6a88, seed | 0, 1];
  const next = (): number => {
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

export const normal = (random: Random): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

export interface Shape {
  name: string;
  kind: 'proportion' | 'mean';
  /** What a unit is like; its values are made from it. */
  unit: (random: Random) => number;
  /** One request of such a unit. */
  value: (unit: number, random: Random) => number;
  /** Units come back: half of all requests are of a unit that was there before, any of them. */
  returns: boolean;
}

const once = (name: string, kind: Shape['kind'], unit: Shape['unit']): Shape => ({
  ...{ name, kind, unit, returns: false },
  value: (one) => one,
});

const binary = (rate: number): Shape =>
  once(`binary, ${100 * rate} %`, 'proportion', (random) => (random() < rate ? 1 : 0));
const logNormal = (sigma: number): Shape =>
  once(`log-normal, sigma ${sigma}`, 'mean', (random) => Math.exp(sigma * normal(random)));

export const SHAPES: readonly Shape[] = [
  ...[0.005, 0.01, 0.03, 0.1, 0.3].map(binary),
  ...[0.7, 1, 1.5, 2].map(logNormal),
  {
    name: 'binary, 3 %, returning users',
    kind: 'proportion',
    unit: (random) => Math.min(1, -0.03 * Math.log(1 - random())),
    value: (rate, random) => (random() < rate ? 1 : 0),
    returns: true,
  },
  {
    name: 'log-normal, sigma 1, returning users',
    kind: 'mean',
    unit: (random) => Math.exp(Math.SQRT1_2 * normal(random)),
    value: (level, random) => level * Math.exp(Math.SQRT1_2 * normal(random)),
    returns: true,
  },
];
