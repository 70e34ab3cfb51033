/** Experiments without a difference, looked at all the time: how many are called something at some look. */
import type { ExperimentGuardrail } from '../../protocol/experiment.ts';
import { ALPHA, compare, MIN_VALUES } from '../../worker/experiments/analyze.ts';
import {
  checkGuardrail,
  GUARDRAIL_ALPHA,
  GUARDRAIL_MIN_UNITS,
  GUARDRAIL_TUNING_UNITS,
  cautiousLevel,
  oneSidedMultiplier,
  sequentialMultiplier,
} from '../../worker/experiments/statistics/sequential.ts';
import { seeded, type Random, type Shape } from './units.ts';

/** Treatment's share of the units. */
export const SPLITS = [0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95] as const;
/** A guardrail without an allowance: anything that is more loses it. */
const RAIL = {
  metric: 'm',
  max_absolute_increase: 0,
  action: 'rollback',
} as const satisfies ExperimentGuardrail;
/** Multipliers are looked up: so many for each unit. */
const FINE = 8;
/** After each request up to 500, then after each five hundredth part more: in between little moves. */
const LOOK_GROWTH = 1 + 1 / 500;
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
/** n, sum, sum of squares. */
const CELL = 3;

/** Squares of multipliers, by eighths of a unit. */
interface Tables {
  verdict: Float64Array;
  guardrail: Float64Array;
}

/** @param params.units that an experiment ends with. */
export function simulateLooks(shape: Shape, params: { runs: number; units: number; seed: number }): Wrong {
  const { runs, units, seed } = params;
  const random = seeded(seed);
  const tables: Tables = {
    verdict: squares(units, (n) => sequentialMultiplier(n, cautiousLevel(ALPHA))),
    guardrail: squares(units, (n) =>
      oneSidedMultiplier(n, cautiousLevel(GUARDRAIL_ALPHA), GUARDRAIL_TUNING_UNITS),
    ),
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

/**
 * All splits see the same units. Each unit has a place between 0 and 1 and is counted in the cell between two splits'
 * borders; treatment has the cells below its share.
 */
function oneExperiment(shape: Shape, units: number, random: Random, tables: Tables) {
  const { kind, unit: makeUnit, value: makeValue, returns } = shape;
  const seen = { verdict: new Uint8Array(SPLITS.length), guardrail: new Uint8Array(SPLITS.length) };
  const cells = new Float64Array((SPLITS.length + 1) * CELL);
  const known = returns ? units : 0;
  const [levels, counts, totals] = [
    new Float64Array(known),
    new Float64Array(known),
    new Float64Array(known),
  ];
  const cellOf = new Uint8Array(known);
  let there = 0;
  let next = 1;
  for (let request = 1; there < units; request++) {
    let cell: number;
    if (!returns || there === 0 || random() < 0.5) {
      const at = there++;
      const level = makeUnit(random);
      const is = makeValue(level, random);
      const place = random();
      cell = 0;
      while (cell < SPLITS.length && place >= SPLITS[cell]!) cell++;
      cell *= CELL;
      cells[cell]! += 1;
      cells[cell + 1]! += is;
      cells[cell + 2]! += is * is;
      if (returns) {
        levels[at] = level;
        counts[at] = 1;
        totals[at] = is;
        cellOf[at] = cell;
      }
    } else {
      const at = Math.floor(random() * there);
      const was = totals[at]! / counts[at]!;
      counts[at]! += 1;
      totals[at]! += makeValue(levels[at]!, random);
      const is = totals[at]! / counts[at]!;
      cell = cellOf[at]!;
      cells[cell + 1]! += is - was;
      cells[cell + 2]! += is * is - was * was;
    }
    if (request < next) continue;
    next = Math.max(request + 1, Math.floor(request * LOOK_GROWTH));
    look(cells, kind, tables, seen, next % CHECKED_EVERY === 0);
  }
  return seen;
}

const sums = new Float64Array(FIELDS);

function look(
  cells: Float64Array,
  kind: Shape['kind'],
  tables: Tables,
  seen: { verdict: Uint8Array; guardrail: Uint8Array },
  checked: boolean,
): void {
  sums.fill(0);
  for (let at = 0; at < cells.length; at += CELL) {
    sums[N_M]! += cells[at]!;
    sums[S_M]! += cells[at + 1]!;
    sums[Q_M]! += cells[at + 2]!;
  }
  for (let split = 0; split < SPLITS.length; split++) {
    const at = split * CELL;
    for (let field = 0; field < CELL; field++) {
      sums[2 * field + 1]! += cells[at + field]!;
      sums[2 * field]! -= cells[at + field]!;
    }
    if (seen.verdict[split] === 0 && isCalled(sums, kind, tables.verdict)) seen.verdict[split] = 1;
    if (seen.guardrail[split] === 0 && isLost(sums, kind, tables.guardrail)) seen.guardrail[split] = 1;
    if (checked) holdToWorker(sums, kind, tables);
  }
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
function holdToWorker(sums: Float64Array, kind: Shape['kind'], tables: Tables): void {
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
