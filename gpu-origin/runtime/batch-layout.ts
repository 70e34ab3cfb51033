/**
 * How much memory a batch of decode rows takes for their deltas. Every row's block is padded to the largest ranks of
 * the batch, rows of the base model's too, since the graphs take `A [rows, R, in]` and `B [rows, R, out]`. Pure: the
 * runners allocate by it, and the engine counts by it before it lets a row in.
 */
import { LINEAR_KINDS, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { NUMBER_BYTES, type Precision } from '../model/graph-form.ts';
import { noRanks, type RankByKind } from './row-delta.ts';

export interface BatchLayout {
  /** Rows that there is room for; 0 = nothing is held. */
  readonly rows: number;
  readonly ranks: RankByKind;
}

export const NO_BUFFERS: BatchLayout = { rows: 0, ranks: noRanks() };

/** A buffer of a larger rank is kept while at least this share of it is needed: making another copies every row. */
const SHRINK_BELOW = 0.5;

/** Bytes of one rank of one row in all layers, by kind. */
export function rankBytes(config: LlamaConfig, precision: Precision = 'f32'): RankByKind {
  const bytes = noRanks();
  for (const kind of LINEAR_KINDS) {
    const shape = linearShape(config, kind);
    bytes[kind] = config.layers * (shape.in + shape.out) * NUMBER_BYTES[precision];
  }
  return bytes;
}

/** At most half as many again as are needed, so that a batch that grows row by row is not copied for each. */
function roomFor(rows: number, slots: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(rows - 1)) - 1));
  return Math.min(slots, Math.ceil(rows / step) * step);
}

/** By kind the largest of them; 0 where there are none. */
export function widestRanks(each: Iterable<RankByKind>): RankByKind {
  const widest = noRanks();
  for (const ranks of each)
    for (const kind of LINEAR_KINDS) widest[kind] = Math.max(widest[kind], ranks[kind]);
  return widest;
}

/** What decode steps over `rows` rows need. A row that is alone needs nothing: it runs on its delta's own memory. */
export function neededLayout(params: {
  rows: number;
  /** Of the rows that have a delta. */
  ranks: Iterable<RankByKind>;
  slots: number;
}): BatchLayout {
  if (params.rows < 2) return NO_BUFFERS;
  const ranks = widestRanks(params.ranks);
  const any = LINEAR_KINDS.some((kind) => ranks[kind] > 0);
  return any ? { rows: roomFor(params.rows, params.slots), ranks } : NO_BUFFERS;
}

export function layoutBytes({ rows, ranks }: BatchLayout, bytesOfRank: RankByKind): number {
  return rows * LINEAR_KINDS.reduce((sum, kind) => sum + ranks[kind] * bytesOfRank[kind], 0);
}

/**
 * What is held once a step ran that needs `needed`: either what is held already, or exactly what is needed, so that it
 * is never more than the larger of both.
 */
export function nextLayout(held: BatchLayout, needed: BatchLayout): BatchLayout {
  const fits =
    held.rows >= needed.rows &&
    LINEAR_KINDS.every((kind) => {
      const [has, wants] = [held.ranks[kind], needed.ranks[kind]];
      return wants === 0 || (has >= wants && wants >= has * SHRINK_BELOW);
    });
  return fits ? held : needed;
}
