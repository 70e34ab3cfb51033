/** Experiments without a difference whose units have a value from before, some of them: CUPED with gaps. */
import { ALPHA, compare } from '../../worker/experiments/analyze.ts';
import { type GappedMoments, NO_RUNNING_MOMENTS } from '../../worker/experiments/statistics/moments.ts';
import { normal, seeded, type Random } from './units.ts';

/** Share of the units whose value from before is known. */
export const KNOWN = [1, 0.8, 0.3, 0.05, 0] as const;
/** Treatment's share. */
export const BEFORE_SPLITS = [0.5, 0.1, 0.05] as const;
const FIRST_LOOK = 100;
const LOOK_GROWTH = 1.04;

interface Pair {
  value: number;
  before: number;
  /** Heavy users have been there before more often: three times as often as light ones. */
  heavy: boolean;
}

export const BEFORE_SHAPES = [
  {
    name: 'log-normal',
    kind: 'mean',
    draw: (random: Random): Pair => {
      const level = normal(random);
      const one = (): number => Math.exp(0.8 * level + 0.4 * normal(random));
      return { value: one(), before: one(), heavy: level > 0 };
    },
  },
  {
    name: 'binary',
    kind: 'proportion',
    draw: (random: Random): Pair => {
      const rate = random() < 0.5 ? 0.05 : 0.5;
      return {
        value: random() < rate ? 1 : 0,
        before: random() < rate ? 1 : 0,
        heavy: rate > 0.1,
      };
    },
  },
] as const;

interface Cell {
  known: number;
  split: number;
  arms: [GappedMoments, GappedMoments];
  called: number;
  /** Sums over runs of the interval's width at the end. */
  width: number;
}

/** @returns for each of {@link KNOWN} and {@link BEFORE_SPLITS} how many were called, and how wide intervals ended. */
export function simulateBefore(
  { kind, draw }: (typeof BEFORE_SHAPES)[number],
  { runs, units, seed }: { runs: number; units: number; seed: number },
): Omit<Cell, 'arms'>[] {
  const random = seeded(seed);
  const cells = KNOWN.flatMap((known) =>
    BEFORE_SPLITS.map((split): Cell => ({ known, split, arms: nobody(), called: 0, width: 0 })),
  );
  for (let run = 0; run < runs; run++) {
    const seen = new Set<Cell>();
    for (const cell of cells) cell.arms = nobody();
    for (let n = 1, next = FIRST_LOOK; n <= units; n++) {
      const { value, before, heavy } = draw(random);
      const [place, lot] = [random(), random()];
      for (const { known, split, arms } of cells) {
        const sums = arms[place < split ? 1 : 0];
        sums.n += 1;
        sums.sum += value;
        sums.sumSquares += value * value;
        if (lot >= (known === 1 ? 1 : Math.min(1, known * (heavy ? 1.5 : 0.5)))) continue;
        sums.paired += 1;
        sums.pairedSum += value;
        sums.preSum += before;
        sums.preSumSquares += before * before;
        sums.products += value * before;
      }
      if (n < next && n < units) continue;
      next = Math.ceil(n * LOOK_GROWTH);
      for (const cell of cells) {
        const [control, treatment] = cell.arms;
        const metric = { key: 'm', kind, better: 'up' } as const;
        const { verdict, result } = compare({ metric, variant: 't', control, treatment, alpha: ALPHA });
        if (verdict !== 'open') seen.add(cell);
        if (n === units && result !== null)
          cell.width += (result.difference.interval.high - result.difference.interval.low) / runs;
      }
    }
    for (const cell of seen) cell.called += 1 / runs;
  }
  return cells.map(({ arms: _, ...cell }) => cell);
}

const nobody = (): [GappedMoments, GappedMoments] => [{ ...NO_RUNNING_MOMENTS }, { ...NO_RUNNING_MOMENTS }];
