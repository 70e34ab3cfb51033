/** Rows whose ranks are so much larger than their neighbours' that they decode by themselves. Pure. */
import { LINEAR_KINDS, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { layoutBytes, widestRanks } from './batch-layout.ts';
import type { RankByKind } from './row-delta.ts';

/** Each is a step of its own. */
export const MOST_ALONE = 2;

const BYTES_A_WEIGHT: ReadonlyMap<string, number> = new Map([
  ['int8', 1],
  ['int4', 0.5],
  ['f32', 4],
]);

/** Bytes of weights that a step reads whatever it has of rows: linears and head. @param weights as the base's facts name them. */
export function stepBytes(config: LlamaConfig, weights: string): number {
  let values = config.vocab * config.hidden;
  for (const kind of LINEAR_KINDS) {
    const shape = linearShape(config, kind);
    values += config.layers * shape.in * shape.out;
  }
  return values * (BYTES_A_WEIGHT.get(weights) ?? 1);
}

/**
 * All rows of a step are padded to its largest ranks: one of rank 256 beside 15 of rank 8 makes them read 16 times 59
 * MB instead of 30 MB in all. By itself it reads the weights once more instead. Whichever reads less is taken.
 * @param params.rows ranks of each row of the step; null = no delta.
 * @param params.bytesOfRank as `rankBytes` gives them. @param params.weights as {@link stepBytes} gives them.
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
