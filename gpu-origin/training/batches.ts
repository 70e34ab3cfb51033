/** Which rows each step trains on, and the padded arrays that they become. */
import { mulberry32 } from '../model/rotation.ts';
import type { TrainingRow } from './rows.ts';

/** Batches of an epoch: as even as possible, so that none of a few rows weighs as much as a full one. */
const batchesOf = (rows: number, batch: number): number => Math.ceil(rows / batch);

/** Steps of a training. @param epochs may be a fraction. */
export function planSteps({
  rows,
  batch,
  epochs,
  leastSteps,
}: {
  rows: number;
  batch: number;
  epochs: number;
  leastSteps: number;
}): number {
  return Math.max(leastSteps, Math.ceil(epochs * batchesOf(rows, batch)));
}

/** Batches whose rows are sorted by length together: enough to save padding, few enough to stay random. */
const WINDOW_BATCHES = 16;

/**
 * The order of the rows, a function of seed and step alone, so that a training goes on where it stopped. Each epoch has
 * every row once, newly shuffled. Within a window of some batches rows are sorted by length, which saves padding, and
 * the window's batches are shuffled. An epoch's batches differ by at most one row; none goes on into the next epoch.
 */
export class DataOrder {
  readonly #lengths: readonly number[];
  readonly #seed: number;
  readonly #perEpoch: number;
  #epoch = -1;
  #batches: number[][] = [];

  /**
   * @param lengths of the rows, in tokens; at least one.
   * @param batch rows of a step at most.
   */
  constructor({ lengths, batch, seed }: { lengths: readonly number[]; batch: number; seed: number }) {
    if (lengths.length === 0) throw new RangeError('there are no rows');
    this.#lengths = lengths;
    this.#seed = seed;
    this.#perEpoch = batchesOf(lengths.length, batch);
  }

  /** Indexes of the step's rows. @param step from 0. */
  rowsOfStep(step: number): number[] {
    const epoch = Math.floor(step / this.#perEpoch);
    if (epoch !== this.#epoch) {
      this.#batches = this.#shuffled(epoch);
      this.#epoch = epoch;
    }
    return [...this.#batches[step % this.#perEpoch]!];
  }

  #shuffled(epoch: number): number[][] {
    const random = mulberry32(this.#seed ^ Math.imul(epoch + 1, 0x9e3779b9));
    const order = shuffle(
      this.#lengths.map((_, row) => row),
      random,
    );
    const count = this.#perEpoch;
    const start = (batch: number): number => Math.floor((batch * order.length) / count);
    const batches: number[][] = [];
    for (let first = 0; first < count; first += WINDOW_BATCHES) {
      const last = Math.min(first + WINDOW_BATCHES, count);
      const window = order.slice(start(first), start(last));
      window.sort((a, b) => this.#lengths[a]! - this.#lengths[b]!);
      const own: number[][] = [];
      for (let batch = first; batch < last; batch += 1)
        own.push(window.slice(start(batch) - start(first), start(batch + 1) - start(first)));
      batches.push(...shuffle(own, random));
    }
    return batches;
  }
}

/** Fisher and Yates's, in place. */
function shuffle<T>(items: T[], random: () => number): T[] {
  for (let last = items.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [items[last], items[other]] = [items[other]!, items[last]!];
  }
  return items;
}

/** Padded lengths are multiples of this: kernels like them, and few distinct ones are left. */
const LENGTH_STEP = 16;
/** Longest row of a base with a context, in tokens: its padded length must not exceed the rotary tables. */
export const longestRow = (context: number): number => context - (context % LENGTH_STEP);
/** A graph is built for each padded length, which takes time and memory. */
const MAX_BUCKETS = 4;

/**
 * At most four padded lengths, ascending, with the least padding in all.
 * @param lengths of sequences, in tokens.
 */
export function lengthBuckets(lengths: readonly number[]): number[] {
  const counts = new Map<number, number>();
  for (const length of lengths) {
    const padded = Math.max(1, Math.ceil(length / LENGTH_STEP)) * LENGTH_STEP;
    counts.set(padded, (counts.get(padded) ?? 0) + 1);
  }
  const sizes = [...counts.keys()].sort((a, b) => a - b);
  /** Sequences among the first sizes. */
  const below = [0];
  for (const size of sizes) below.push(below.at(-1)! + counts.get(size)!);
  /** By number of sizes: the best buckets for them, and the tokens that they cost. */
  let best: { cost: number; buckets: number[] }[] = sizes.map((size, at) => ({
    cost: size * below[at + 1]!,
    buckets: [size],
  }));
  for (let bucket = 1; bucket < MAX_BUCKETS; bucket += 1)
    best = best.map((one, at) => {
      let least = one;
      for (let last = 0; last < at; last += 1) {
        const cost = best[last]!.cost + sizes[at]! * (below[at + 1]! - below[last + 1]!);
        if (cost < least.cost) least = { cost, buckets: [...best[last]!.buckets, sizes[at]!] };
      }
      return least;
    });
  return best.at(-1)?.buckets ?? [];
}

/** A part of a step that runs at once. */
export interface Batch {
  /** Sequences: of pairs, two a row. */
  rows: number;
  /** Padded length of each, in tokens. */
  length: number;
  /** [rows * length], padded on the right with 0: what follows a sequence does not change it. */
  tokens: Int32Array;
  /** [rows * length], the token that should follow; -1 = none. */
  labels: Int32Array;
  /** [rows], numbers that a head of one output should give; absent = labels are tokens or classes. */
  targets?: Float32Array;
  /** [rows * length], weight of the loss: 1 where there is a label, otherwise 0. */
  weights: Float32Array;
  /**
   * [activated deltas, rows], first token on which each acts: those of the frozen chain, root first, then what is
   * trained. Absent = all act on every token.
   */
  begins?: Int32Array;
  /** [rows], index in what was given of each sequence's row; the chosen one of a pair comes first. */
  source: Int32Array;
}

/** Tokens of the longest sequence. */
export const rowLength = ({ sequences }: TrainingRow): number =>
  Math.max(0, ...sequences.map(({ tokens }) => tokens.length));

/**
 * Rows as few padded batches: of one length each, and within both limits unless a single row exceeds them. Both
 * sequences of a pair are in the same batch, side by side.
 * @param buckets padded lengths, ascending; the last must cover the longest row.
 * @param mostTokens rows * length at most.
 * @param mostScores rows * length * length at most: attention's scores of a head.
 */
export function makeBatches(
  rows: readonly TrainingRow[],
  { buckets, mostTokens, mostScores }: { buckets: readonly number[]; mostTokens: number; mostScores: number },
): Batch[] {
  const batches: Batch[] = [];
  const byLength = new Map<number, number[]>(buckets.map((length) => [length, []]));
  for (const [at, row] of rows.entries()) {
    const length = buckets.find((bucket) => bucket >= rowLength(row));
    if (length === undefined) throw new RangeError(`no bucket has room for ${rowLength(row)} tokens`);
    byLength.get(length)!.push(at);
  }
  for (const [length, all] of byLength) {
    const room = Math.floor(Math.min(mostTokens / length, mostScores / length ** 2));
    let open: number[] = [];
    let sequences = 0;
    for (const at of all) {
      const own = rows[at]!.sequences.length;
      if (open.length > 0 && sequences + own > room) {
        batches.push(batchOf(rows, open, length));
        open = [];
        sequences = 0;
      }
      open.push(at);
      sequences += own;
    }
    if (open.length > 0) batches.push(batchOf(rows, open, length));
  }
  return batches;
}

function batchOf(all: readonly TrainingRow[], chosen: readonly number[], length: number): Batch {
  const sequences = chosen.flatMap((at) => all[at]!.sequences.map((sequence) => ({ ...sequence, at })));
  const size = sequences.length * length;
  const tokens = new Int32Array(size);
  const labels = new Int32Array(size).fill(-1);
  for (const [row, sequence] of sequences.entries()) {
    tokens.set(sequence.tokens, row * length);
    labels.set(sequence.labels, row * length);
  }
  const deltas = sequences[0]?.begins?.length ?? 0;
  return {
    rows: sequences.length,
    length,
    ...(deltas === 0
      ? {}
      : {
          begins: Int32Array.from({ length: deltas * sequences.length }, (_, at) => {
            const [delta, row] = [Math.floor(at / sequences.length), at % sequences.length];
            return sequences[row]!.begins![delta]!;
          }),
        }),
    ...(sequences[0]?.target === undefined
      ? {}
      : { targets: Float32Array.from(sequences, ({ target = 0 }) => target) }),
    tokens,
    labels,
    weights: Float32Array.from(labels, (label) => (label === -1 ? 0 : 1)),
    source: Int32Array.from(sequences, ({ at }) => at),
  };
}
