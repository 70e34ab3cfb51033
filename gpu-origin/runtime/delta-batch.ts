/** Deltas of the rows of a decode batch, by slot: A `[rows, R, in]` and B `[rows, R, out]` per linear. */
import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import {
  type BatchLayout,
  layoutBytes,
  neededLayout,
  nextLayout,
  NO_BUFFERS,
  rankBytes,
} from './batch-layout.ts';
import { moduleKey, noRanks, type OrtRowDelta, type RankByKind } from './row-delta.ts';

interface KindBuffers {
  /** By layer. */
  a: Float32Array<ArrayBuffer>[];
  b: Float32Array<ArrayBuffer>[];
  /** What each slot's block holds; undefined = nothing known. */
  content: (OrtRowDelta | null | undefined)[];
}

export class DeltaBatch {
  private readonly kinds = new Map<LinearKind, KindBuffers>();
  private readonly rankBytes: RankByKind;
  private layout: BatchLayout = NO_BUFFERS;
  /** Changes whenever a buffer was replaced, so that bindings know to bind again. */
  version = 0;

  constructor(
    private readonly config: LlamaConfig,
    private readonly slots: number,
  ) {
    this.rankBytes = rankBytes(config);
  }

  /** Of all buffers. */
  get bytes(): number {
    return layoutBytes(this.layout, this.rankBytes);
  }

  /** What buffers for `rows` rows, some with these deltas, hold. */
  bytesFor(rows: number, deltas: readonly OrtRowDelta[]): number {
    return layoutBytes(this.needed(rows, deltas), this.rankBytes);
  }

  /** Gives back what `rows` rows, some with these deltas, do not need. */
  trim(rows: number, deltas: readonly OrtRowDelta[]): void {
    this.become(this.needed(rows, deltas));
  }

  private needed(rows: number, deltas: readonly OrtRowDelta[]): BatchLayout {
    return neededLayout({ rows, ranks: deltas.map(({ ranks }) => ranks), slots: this.slots });
  }

  /**
   * Brings the blocks of slots 0 … rows.length-1 up to date; copies only what changed.
   * @returns R per kind; 0 where no row has a delta.
   */
  prepare(rows: readonly (OrtRowDelta | null)[]): RankByKind {
    const needed = this.needed(
      rows.length,
      rows.filter((row) => row !== null),
    );
    this.become(nextLayout(this.layout, needed));
    const ranks = noRanks();
    for (const [kind, buffers] of this.kinds) {
      if (needed.ranks[kind] === 0) continue;
      ranks[kind] = this.layout.ranks[kind];
      rows.forEach((row, slot) => {
        const delta = row === null || row.ranks[kind] === 0 ? null : row;
        if (buffers.content[slot] === delta) return;
        this.fill(buffers, kind, slot, delta);
        buffers.content[slot] = delta;
      });
    }
    return ranks;
  }

  private become(layout: BatchLayout): void {
    const before = this.layout;
    this.layout = layout;
    for (const kind of LINEAR_KINDS) {
      const rank = layout.ranks[kind];
      if (rank === before.ranks[kind] && (rank === 0 || layout.rows === before.rows)) continue;
      this.version++;
      // Before the new ones are made, so that both need not be in memory.
      this.kinds.delete(kind);
      if (rank === 0) continue;
      const shape = linearShape(this.config, kind);
      const make = (width: number): Float32Array<ArrayBuffer>[] =>
        Array.from({ length: this.config.layers }, () => new Float32Array(layout.rows * rank * width));
      this.kinds.set(kind, { a: make(shape.in), b: make(shape.out), content: [] });
    }
  }

  private fill(buffers: KindBuffers, kind: LinearKind, slot: number, delta: OrtRowDelta | null): void {
    for (let layer = 0; layer < this.config.layers; layer++) {
      const module = delta?.modules.get(moduleKey(layer, kind));
      for (const [target, source] of [
        [buffers.a[layer]!, module?.a],
        [buffers.b[layer]!, module?.b],
      ] as const) {
        const size = target.length / this.layout.rows;
        const at = slot * size;
        if (source !== undefined) target.set(source, at);
        // Zeros are an exact no-op; what another adapter left behind is not.
        target.fill(0, at + (source?.length ?? 0), at + size);
      }
    }
  }

  /** @throws Error when `prepare` gave the kind no rank. */
  tensors(layer: number, kind: LinearKind): { a: Float32Array<ArrayBuffer>; b: Float32Array<ArrayBuffer> } {
    const buffers = this.kinds.get(kind);
    if (buffers === undefined) throw new Error(`no delta buffers for ${kind}`);
    return { a: buffers.a[layer]!, b: buffers.b[layer]! };
  }

  /** Forgets which delta a slot's blocks hold, so that it can be collected. */
  forget(slot: number): void {
    for (const buffers of this.kinds.values())
      if (buffers.content[slot] !== null) buffers.content[slot] = undefined;
  }
}
