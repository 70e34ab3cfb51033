/** Deltas of the rows of a decode batch, by slot: A `[slots, R, in]` and B `[slots, R, out]` per linear. */
import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { moduleKey, noRanks, type OrtRowDelta, type RankByKind } from './row-delta.ts';

interface KindBuffers {
  rank: number;
  /** By layer. */
  a: Float32Array<ArrayBuffer>[];
  b: Float32Array<ArrayBuffer>[];
  /** What each slot's block holds; undefined = nothing known. */
  content: (OrtRowDelta | null | undefined)[];
}

/** A buffer is made smaller only when less than this share of its rank is needed: rebuilding copies every row. */
const SHRINK_BELOW = 0.5;

export class DeltaBatch {
  private readonly kinds = new Map<LinearKind, KindBuffers>();
  /** Changes whenever a buffer was replaced, so that bindings know to bind again. */
  version = 0;

  constructor(
    private readonly config: LlamaConfig,
    private readonly slots: number,
  ) {}

  /**
   * Brings the blocks of slots 0 … rows.length-1 up to date; copies only what changed.
   * @param kinds linears of the graph that is about to run.
   * @returns R per kind; 0 where no row has a delta.
   */
  prepare(rows: readonly (OrtRowDelta | null)[], kinds: readonly LinearKind[]): RankByKind {
    const ranks = noRanks();
    for (const kind of kinds) {
      let needed = 0;
      for (const row of rows) if (row !== null) needed = Math.max(needed, row.ranks[kind]);
      if (needed === 0) continue;
      const buffers = this.buffersFor(kind, needed);
      ranks[kind] = buffers.rank;
      rows.forEach((row, slot) => {
        const delta = row === null || row.ranks[kind] === 0 ? null : row;
        if (buffers.content[slot] === delta) return;
        this.fill(buffers, kind, slot, delta);
        buffers.content[slot] = delta;
      });
    }
    return ranks;
  }

  private buffersFor(kind: LinearKind, needed: number): KindBuffers {
    const known = this.kinds.get(kind);
    if (known !== undefined && known.rank >= needed && needed >= known.rank * SHRINK_BELOW) return known;
    const shape = linearShape(this.config, kind);
    const make = (width: number): Float32Array<ArrayBuffer>[] =>
      Array.from({ length: this.config.layers }, () => new Float32Array(this.slots * needed * width));
    const buffers: KindBuffers = { rank: needed, a: make(shape.in), b: make(shape.out), content: [] };
    this.kinds.set(kind, buffers);
    this.version++;
    return buffers;
  }

  private fill(buffers: KindBuffers, kind: LinearKind, slot: number, delta: OrtRowDelta | null): void {
    for (let layer = 0; layer < this.config.layers; layer++) {
      const module = delta?.modules.get(moduleKey(layer, kind));
      for (const [target, source] of [
        [buffers.a[layer]!, module?.a],
        [buffers.b[layer]!, module?.b],
      ] as const) {
        const size = target.length / this.slots;
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
    for (const kind of LINEAR_KINDS) {
      const buffers = this.kinds.get(kind);
      if (buffers !== undefined && buffers.content[slot] !== null) buffers.content[slot] = undefined;
    }
  }
}
