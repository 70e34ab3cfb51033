/** Sample ratios: healthy experiments that alarm, and units until a broken one does. */
import { sampleRatio } from '../../worker/experiments/statistics/sample-ratio.ts';
import { normal, seeded, type Random } from './units.ts';

/** Looked at whenever there is this much more. */
const LOOK_GROWTH = 1.005;
const FIRST_LOOK = 16;

export interface Split {
  /** Shares that are expected, and those that the units have. */
  expected: readonly number[];
  true: readonly number[];
}

export const HEALTHY: readonly Split[] = [
  [0.5, 0.5],
  [0.9, 0.1],
  [0.95, 0.05],
  [0.25, 0.25, 0.25, 0.25],
].map((shares) => ({ expected: shares, true: shares }));

/** A share of treatment's units is lost. */
export const BROKEN: readonly Split[] = [1, 0.1, 0.05, 0.02, 0.01].flatMap((lost) =>
  [0.5, 0.1].map((treatment) => {
    const left = treatment * (1 - lost);
    const whole = 1 - treatment + left;
    return { expected: [1 - treatment, treatment], true: [(1 - treatment) / whole, left / whole] };
  }),
);

/** @returns units at each run's alarm, the fewest first; those that never alarmed are left out. */
export function simulateRatio(
  split: Split,
  { runs, units, seed }: { runs: number; units: number; seed: number },
): number[] {
  const random = seeded(seed);
  const alarms: number[] = [];
  for (let run = 0; run < runs; run++) {
    const counts = split.expected.map(() => 0);
    for (let n = 0; n < units;) {
      const more = Math.max(n === 0 ? FIRST_LOOK : 1, Math.floor(n * (LOOK_GROWTH - 1)));
      deal(counts, split.true, more, random);
      n += more;
      if (sampleRatio([{ units: counts, dealt: [split.expected] }]).state === 'alarm') {
        alarms.push(n);
        break;
      }
    }
  }
  return alarms.sort((a, b) => a - b);
}

/** One after another where they are few, else as many as a normal number says: those of a binomial, arm by arm. */
function deal(counts: number[], shares: readonly number[], many: number, random: Random): void {
  let [left, whole] = [many, 1];
  for (const [arm, share] of shares.entries()) {
    const p = arm === shares.length - 1 ? 1 : Math.min(1, share / whole);
    let got = 0;
    if (p === 1) got = left;
    else if (left * p * (1 - p) < 25) for (let i = 0; i < left; i++) got += random() < p ? 1 : 0;
    else
      got = Math.max(
        0,
        Math.min(left, Math.round(left * p + normal(random) * Math.sqrt(left * p * (1 - p)))),
      );
    counts[arm]! += got;
    left -= got;
    whole -= share;
  }
}
