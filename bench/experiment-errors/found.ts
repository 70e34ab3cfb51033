/** Power, as it is planned and as it is simulated; intervals that leave the truth out; margins that are called kept. */
import { ALPHA, compare, MIN_VALUES } from '../../worker/experiments/analyze.ts';
import { powerOf, unitsToFind } from '../../worker/experiments/statistics/power.ts';
import { seeded } from './units.ts';

const LOOK_GROWTH = 1.02;

export interface Effect {
  rate: number;
  lift: number;
  /** Its share of the units. */
  treatment: number;
}

export interface Found {
  /** Units that the plan asks for, and what it promises by then. */
  planned: number;
  promised: number;
  /** Shares of experiments that long in which it was found, and in which the lift's interval left the truth out. */
  found: number;
  missed: number;
  /** In which a treatment that is exactly at its margin was called not worse. */
  kept: number;
}

export function simulateFound(
  { rate, lift, treatment }: Effect,
  { runs, seed }: { runs: number; seed: number },
): Found {
  const random = seeded(seed);
  const baseline = { kind: 'proportion', mean: rate, variance: rate * (1 - rate) } as const;
  const weights = { control: 1 - treatment, treatment };
  const planned = unitsToFind({ baseline, weights, lift, alpha: ALPHA, least: MIN_VALUES }) ?? 0;
  const units = { control: planned * weights.control, treatment: planned * weights.treatment };
  const metric = {
    key: 'm',
    kind: 'proportion',
    better: 'up',
    ...(lift < 0 ? { at_least: lift } : {}),
  } as const;
  const seen = { found: 0, missed: 0, kept: 0 };
  for (let run = 0; run < runs; run++) {
    const arms = [0, 1].map(() => ({ n: 0, sum: 0, sumSquares: 0 }));
    const now = { found: false, missed: false, kept: false };
    for (let n = 1, next = 100; n <= planned; n++) {
      const arm = random() < treatment ? 1 : 0;
      const value = random() < rate * (arm === 1 ? 1 + lift : 1) ? 1 : 0;
      arms[arm]!.n += 1;
      arms[arm]!.sum += value;
      arms[arm]!.sumSquares += value;
      if (n < next && n < planned) continue;
      next = Math.ceil(n * LOOK_GROWTH);
      const compared = compare({
        metric,
        variant: 't',
        control: arms[0]!,
        treatment: arms[1]!,
        alpha: ALPHA,
      });
      const within = compared.result?.lift?.interval;
      const zero = compared.result?.difference.interval;
      now.found ||= compared.reason === null && zero !== undefined && (zero.low > 0 || zero.high < 0);
      now.kept ||= compared.verdict === 'not_worse' || compared.verdict === 'better';
      now.missed ||=
        compared.reason === null && within !== undefined && (within.low > lift || within.high < lift);
    }
    for (const key of ['found', 'missed', 'kept'] as const) seen[key] += Number(now[key]) / runs;
  }
  return { planned, promised: powerOf({ baseline, units, lift, alpha: ALPHA }), ...seen };
}
