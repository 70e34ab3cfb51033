/** Decides how the rows of a decode step run: in groups or together, and which of them separately. */
import { linearShapes, type LlamaConfig } from '../model/base-model.ts';
import { layoutBytes, widestRanks, type RankByKind } from './adapter-batch.ts';

/** How a decode step runs: its rows in groups, one core each, or all together on all cores. */
export interface LaneChoice {
  /** @param rows of the step. */
  takesLanes(rows: number): boolean;
  /** Reports the duration of the step that was asked about last, ms. */
  took(ms: number): void;
}

/** One step in this many runs the other way. If that is slower by a tenth, it costs 0.3 % in total. */
const STEPS_A_TRIAL = 32;
/** Weight of the newest trial in the moving average. */
const TRIAL_WEIGHT = 0.25;
/**
 * Groups are used once they are faster by this much, and left once they are faster by less than that;
 * logarithms of the ratio. A single trial is off by a tenth on an idle machine: with 0.03 for both, groups
 * were chosen by mistake, which cost 5 %.
 */
const TAKEN_AT = 0.15;
const LEFT_AT = 0.05;

/**
 * Chooses whichever was faster lately. Threads that share a step synchronize after each of its nodes, some
 * 600 times, and wait for a thread whose core is busy with something else. Groups synchronize once, but each
 * of them reads all weights. On two cores with 16 rows, groups are slower by a tenth on an idle machine, and
 * faster by a quarter beside another process that keeps a core busy.
 */
export class FasterLately implements LaneChoice {
  /** Ratio of a grouped step to the ungrouped one before or after it; logarithm. */
  #ratio = 0;
  #lanes = false;
  #sinceTrial = 0;
  #last: { lanes: boolean; rows: number; ms: number | null } | null = null;
  #before: { rows: number; ms: number } | null = null;

  takesLanes(rows: number): boolean {
    const trial = ++this.#sinceTrial >= STEPS_A_TRIAL;
    const last = this.#last;
    this.#before = trial && last !== null && last.ms !== null ? { rows: last.rows, ms: last.ms } : null;
    if (trial) this.#sinceTrial = 0;
    const lanes = trial ? !this.#lanes : this.#lanes;
    this.#last = { lanes, rows, ms: null };
    return lanes;
  }

  took(ms: number): void {
    if (this.#last === null) return;
    this.#last.ms = ms;
    const before = this.#before;
    // Steps of other sizes are not comparable.
    if (before === null || before.rows !== this.#last.rows || before.ms <= 0 || ms <= 0) return;
    const ratio = Math.log(ms / before.ms);
    this.#ratio += TRIAL_WEIGHT * ((this.#last.lanes ? ratio : -ratio) - this.#ratio);
    if (this.#ratio < -TAKEN_AT) this.#lanes = true;
    else if (this.#ratio > -LEFT_AT) this.#lanes = false;
  }
}

/**
 * Maximum rows that decode separately, each in a step of its own, because their ranks are so much larger than
 * the others'.
 */
export const MOST_ALONE = 2;

const BYTES_A_WEIGHT: ReadonlyMap<string, number> = new Map([
  ['int8', 1],
  ['int4', 0.5],
  ['f32', 4],
]);

/**
 * Bytes of weights that a step reads regardless of its rows: linears and head; of experts, those of one row.
 * @param weights as named in the base's properties.
 */
export function stepBytes(config: LlamaConfig, weights: string): number {
  let values = config.vocab * config.hidden;
  for (const shape of linearShapes(config, 'chosen')) values += shape.in * shape.out;
  return values * (BYTES_A_WEIGHT.get(weights) ?? 1);
}

/**
 * All rows of a step are padded to its largest rank: one of rank 256 beside 15 of rank 8 makes them read 16
 * times 59 MB instead of 30 MB in total. Alone, it reads the weights once more instead. Chooses whichever
 * reads less.
 * @param params.rows each row's ranks; null = no delta.
 * @param params.bytesOfRank from `rankBytes`.
 * @param params.weights from {@link stepBytes}.
 * @returns at most {@link MOST_ALONE} of them, ascending.
 */
export function rowsAlone(params: {
  rows: readonly (RankByKind | null)[];
  bytesOfRank: RankByKind;
  weights: number;
}): number[] {
  const { rows, bytesOfRank, weights } = params;
  const widest = rows.map((ranks, row) => ({
    row,
    bytes: ranks === null ? 0 : layoutBytes({ rows: 1, ranks }, bytesOfRank),
  }));
  widest.sort((a, b) => b.bytes - a.bytes || a.row - b.row);
  const padded = (alone: number): number => {
    const ranks = widestRanks(widest.slice(alone).flatMap(({ row }) => rows[row] ?? []));
    return layoutBytes({ rows: rows.length, ranks }, bytesOfRank);
  };
  let best = { alone: 0, bytes: padded(0) };
  let own = 0;
  // The last one needs no padding.
  for (let alone = 1; alone <= Math.min(MOST_ALONE, rows.length - 2); alone++) {
    own += weights + widest[alone - 1]!.bytes;
    const all = padded(alone) + own;
    if (all < best.bytes) best = { alone, bytes: all };
  }
  return widest
    .slice(0, best.alone)
    .map(({ row }) => row)
    .sort((a, b) => a - b);
}
