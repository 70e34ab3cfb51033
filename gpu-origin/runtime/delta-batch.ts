/** Deltas of the rows of a decode batch, by slot: A `[rows, R, in]`, or turned, and B `[rows, R, out]` per linear. */
import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { blockOfA, inPrecision, NUMBER_BYTES, type Precision } from '../model/graph-form.ts';
import type { Device, DeviceMemory } from './device.ts';
import { moduleKey, noRanks, type OrtRowDelta, type RankByKind } from './row-delta.ts';

/**
 * How much memory a batch of decode rows takes for their deltas. Every row's block is padded to the largest ranks of
 * the batch, rows of the base model's too, since the graphs take `A [rows, R, in]` and `B [rows, R, out]`. Pure: the
 * runners allocate by it, and the engine counts by it before it lets a row in.
 */
interface BatchLayout {
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

/** Memory of A and of B of one linear. */
export interface DeltaMemory {
  a: DeviceMemory;
  b: DeviceMemory;
}

interface KindBuffers {
  /** By layer. */
  layers: DeltaMemory[];
  /** What each slot's block holds; undefined = nothing known. */
  content: (OrtRowDelta | null | undefined)[];
}

export class DeltaBatch {
  private readonly kinds = new Map<LinearKind, KindBuffers>();
  private readonly rankBytes: RankByKind;
  private layout: BatchLayout = NO_BUFFERS;
  /** Changes whenever a buffer was given back, so that bindings know to bind again. */
  version = 0;

  constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly slots: number,
    private readonly precision: Precision,
  ) {
    this.rankBytes = rankBytes(config, precision);
  }

  /** Of all buffers, those that the next step makes among them. */
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
  async prepare(rows: readonly (OrtRowDelta | null)[]): Promise<RankByKind> {
    const needed = this.needed(
      rows.length,
      rows.filter((row) => row !== null),
    );
    this.become(nextLayout(this.layout, needed));
    const ranks = noRanks();
    for (const kind of LINEAR_KINDS) {
      if (needed.ranks[kind] === 0) continue;
      ranks[kind] = this.layout.ranks[kind];
      const buffers = this.kinds.get(kind) ?? (await this.allocate(kind));
      rows.forEach((row, slot) => {
        const delta = row === null || row.ranks[kind] === 0 ? null : row;
        if (buffers.content[slot] === delta) return;
        this.fill(buffers, kind, slot, delta);
        buffers.content[slot] = delta;
      });
    }
    return ranks;
  }

  /** What no longer fits is given back at once; what takes its place is made by the step that needs it. */
  private become(layout: BatchLayout): void {
    const before = this.layout;
    this.layout = layout;
    for (const kind of LINEAR_KINDS) {
      const rank = layout.ranks[kind];
      if (rank === before.ranks[kind] && (rank === 0 || layout.rows === before.rows)) continue;
      this.version++;
      this.free(kind);
    }
  }

  private free(kind: LinearKind): void {
    for (const { a, b } of this.kinds.get(kind)?.layers ?? []) {
      a.close();
      b.close();
    }
    this.kinds.delete(kind);
  }

  private async allocate(kind: LinearKind): Promise<KindBuffers> {
    const shape = linearShape(this.config, kind);
    const make = (width: number): Promise<DeviceMemory> =>
      this.device.memory(this.layout.rows * this.layout.ranks[kind] * width * NUMBER_BYTES[this.precision]);
    const buffers: KindBuffers = { layers: [], content: [] };
    this.kinds.set(kind, buffers);
    try {
      for (let layer = 0; layer < this.config.layers; layer++)
        buffers.layers.push({ a: await make(shape.in), b: await make(shape.out) });
    } catch (error) {
      this.free(kind);
      throw error;
    }
    return buffers;
  }

  private fill(buffers: KindBuffers, kind: LinearKind, slot: number, delta: OrtRowDelta | null): void {
    buffers.layers.forEach((memory, layer) => {
      const module = delta?.modules.get(moduleKey(layer, kind));
      for (const part of ['a', 'b'] as const) {
        const floats =
          part === 'a' && module !== undefined
            ? blockOfA(
                this.device.flavour,
                module.a,
                this.layout.ranks[kind],
                linearShape(this.config, kind).in,
              )
            : module?.[part];
        const source = floats === undefined ? undefined : inPrecision(this.precision, floats);
        const bytes = this.blockBytes(kind, part);
        const at = slot * bytes;
        if (source !== undefined) memory[part].write(at, source);
        // Zeros are an exact no-op; what another adapter left behind is not.
        const filled = source?.byteLength ?? 0;
        memory[part].clear(at + filled, bytes - filled);
      }
    });
  }

  /** Of one row in one layer. */
  private blockBytes(kind: LinearKind, part: 'a' | 'b'): number {
    const shape = linearShape(this.config, kind);
    return this.layout.ranks[kind] * (part === 'a' ? shape.in : shape.out) * NUMBER_BYTES[this.precision];
  }

  /** @throws Error when `prepare` gave the kind no rank. */
  memory(layer: number, kind: LinearKind): DeltaMemory {
    const memory = this.kinds.get(kind)?.layers[layer];
    if (memory === undefined) throw new Error(`no delta buffers for ${kind}`);
    return memory;
  }

  /** Forgets which delta a slot's blocks hold, so that it can be collected. */
  forget(slot: number): void {
    for (const buffers of this.kinds.values())
      if (buffers.content[slot] !== null) buffers.content[slot] = undefined;
  }

  close(): void {
    for (const kind of LINEAR_KINDS) this.free(kind);
  }
}
