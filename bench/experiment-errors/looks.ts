/** Experiments without a difference, looked at all the time: how many are called something at some look. */
import type { ExperimentGuardrail } from '../../protocol/index.ts';
import { ALPHA, compare, MIN_VALUES } from '../../worker/experiments/analyze.ts';
import {
  checkGuardrail,
  GUARDRAIL_ALPHA,
  GUARDRAIL_MIN_UNITS,
  GUARDRAIL_TUNING_UNITS,
} from '../../worker/experiments/statistics/guardrail.ts';
import { oneSidedMultiplier, sequentialMultiplier } from '../../worker/experiments/statistics/sequential.ts';
import { seeded, type Random, type Shape } from './units.ts';

/** Treatment's share of the units. */
export const SPLITS = [0.5, 0.2, 0.1, 0.05, 0.8, 0.9, 0.95] as const;
/** A guardrail without an allowance: anything that is more loses it. */
const RAIL = {
  metric: 'm',
  max_absolute_increase: 0,
  action: 'rollback',
} as const satisfies ExperimentGuardrail;
/** Multipliers are looked up: so many for each unit. */
const FINE = 8;
/** After each request up to 2,000, then after each two thousandth part more: in between nothing moves. */
const LOOK_GROWTH = 1 + 1 / 2_000;
/** So seldom the shortened formulas of this file are held to those of the worker. */
const CHECKED_EVERY = 997;

const squares = (most: number, multiplier: (n: number) => number): Float64Array =>
  Float64Array.from({ length: (most + 16) * FINE }, (_, i) => multiplier((i + 1) / FINE) ** 2);

/** Of each of {@link SPLITS}: shares of experiments. */
export interface Wrong {
  verdicts: number[];
  guardrails: number[];
}

const N_M = 0;
const N_T = 1;
const S_M = 2;
const S_T = 3;
const Q_M = 4;
const Q_T = 5;
const FIELDS = 6;

/** @param params.units that an experiment ends with. */
export function simulateLooks(shape: Shape, params: { runs: number; units: number; seed: number }): Wrong {
  const { runs, units, seed } = params;
  const random = seeded(seed);
  const tables = {
    verdict: squares(units, (n) => sequentialMultiplier(n, ALPHA)),
    guardrail: squares(units, (n) => oneSidedMultiplier(n, GUARDRAIL_ALPHA, GUARDRAIL_TUNING_UNITS)),
  };
  const wrong = { verdicts: SPLITS.map(() => 0), guardrails: SPLITS.map(() => 0) };
  for (let run = 0; run < runs; run++) {
    const seen = oneExperiment(shape, units, random, tables);
    for (const [split] of SPLITS.entries()) {
      wrong.verdicts[split]! += (seen.verdict[split]! ? 1 : 0) / runs;
      wrong.guardrails[split]! += (seen.guardrail[split]! ? 1 : 0) / runs;
    }
  }
  return wrong;
}

/** All splits see the same units. */
function oneExperiment(
  { kind, unit: makeUnit, value: makeValue, returns }: Shape,
  units: number,
  random: Random,
  tables: { verdict: Float64Array; guardrail: Float64Array },
) {
  const seen = { verdict: new Uint8Array(SPLITS.length), guardrail: new Uint8Array(SPLITS.length) };
  const sums = SPLITS.map(() => new Float64Array(FIELDS));
  const [level, place, count, total] = Array.from(
    { length: 4 },
    () => new Float64Array(returns ? units : 1),
  ) as [Float64Array, Float64Array, Float64Array, Float64Array];
  let known = 0;
  let next = 1;
  for (let request = 1; known < units; request++) {
    let [was, first] = [0, true];
    let at = 0;
    let side: number;
    let is: number;
    if (!returns) {
      known += 1;
      side = random();
      is = makeUnit(random);
    } else {
      first = known === 0 || random() < 0.5;
      at = first ? known++ : Math.floor(random() * known);
      if (first) {
        level[at] = makeUnit(random);
        place[at] = random();
      } else was = total[at]! / count[at]!;
      total[at]! += makeValue(level[at]!, random);
      count[at]! += 1;
      side = place[at]!;
      is = total[at]! / count[at]!;
    }
    const looks = request >= next;
    if (looks) next = Math.max(request + 1, Math.floor(request * LOOK_GROWTH));
    for (let split = 0; split < SPLITS.length; split++) {
      const own = sums[split]!;
      const arm = side < SPLITS[split]! ? 1 : 0;
      if (first) own[N_M + arm]! += 1;
      own[S_M + arm]! += is - was;
      own[Q_M + arm]! += is * is - was * was;
      if (!looks) continue;
      if (seen.verdict[split]! === 0 && isCalled(own, kind, tables.verdict)) seen.verdict[split] = 1;
      if (seen.guardrail[split]! === 0 && isLost(own, kind, tables.guardrail)) seen.guardrail[split] = 1;
      if (next % CHECKED_EVERY === 0) holdToWorker(own, kind, tables);
    }
  }
  return seen;
}

function isCalled(sums: Float64Array, kind: Shape['kind'], table: Float64Array): boolean {
  const [a, b] = [sums[N_M]!, sums[N_T]!];
  if (a < MIN_VALUES || b < MIN_VALUES) return false;
  const [mean, other] = [sums[S_M]! / a, sums[S_T]! / b];
  const one = kind === 'proportion' ? 0 : 1;
  let v = (sums[Q_M]! - sums[S_M]! * mean) / (a - one);
  let w = (sums[Q_T]! - sums[S_T]! * other) / (b - one);
  if (kind === 'proportion') {
    if (mean === 0 || mean === 1) v = cautious(sums[S_M]!, a);
    if (other === 0 || other === 1) w = cautious(sums[S_T]!, b);
  }
  return (other - mean) ** 2 > table[placeOf(a, b)]! * variance(a, b, v, w);
}

function isLost(sums: Float64Array, kind: Shape['kind'], table: Float64Array): boolean {
  let [a, b] = [sums[N_M]!, sums[N_T]!];
  if (a < GUARDRAIL_MIN_UNITS || b < GUARDRAIL_MIN_UNITS) return false;
  let [s, t] = [sums[S_M]!, sums[S_T]!];
  let [v, w] = [0, 0];
  if (kind === 'proportion') {
    v = cautious(s, a);
    w = cautious(t, b);
    a += 2;
    b += 2;
    s += 1;
    t += 1;
  } else {
    v = (sums[Q_M]! - (s * s) / a) / (a - 1);
    w = (sums[Q_T]! - (t * t) / b) / (b - 1);
  }
  const excess = t / b - s / a;
  return excess > 0 && excess ** 2 > table[placeOf(a, b)]! * variance(a, b, v, w);
}

const cautious = (sum: number, n: number): number => {
  const mean = (sum + 1) / (n + 2);
  return mean * (1 - mean);
};
/** The larger one of that with each arm's own variance, and with the pooled one. */
const variance = (a: number, b: number, v: number, w: number): number => {
  const own = v / a + w / b;
  const shared = v / b + w / a;
  return own > shared ? own : shared;
};
const placeOf = (a: number, b: number): number => Math.floor(((4 * a * b) / (a + b)) * FINE) - 1;

/** @throws Error when the worker would say something else; at the border, where a table is too coarse, either is right. */
function holdToWorker(
  sums: Float64Array,
  kind: Shape['kind'],
  tables: { verdict: Float64Array; guardrail: Float64Array },
): void {
  const control = { n: sums[N_M]!, sum: sums[S_M]!, sumSquares: sums[Q_M]! };
  const treatment = { n: sums[N_T]!, sum: sums[S_T]!, sumSquares: sums[Q_T]! };
  const metric = { key: 'm', kind, better: 'up' } as const;
  const verdict = compare({ metric, variant: 't', control, treatment, alpha: ALPHA }).verdict !== 'open';
  const lost = checkGuardrail({ rail: RAIL, variant: 't', kind, control, treatment }).state === 'lost';
  const same = (is: boolean, how: (table: Float64Array) => boolean, table: Float64Array): boolean =>
    is === how(table) || how(table.map((one) => one * 0.99)) !== how(table.map((one) => one * 1.01));
  if (
    !same(verdict, (table) => isCalled(sums, kind, table), tables.verdict) ||
    !same(lost, (table) => isLost(sums, kind, table), tables.guardrail)
  )
    throw new Error(
      `not what the worker says: ${JSON.stringify({ kind, control, treatment, verdict, lost })}`,
    );
}
