/**
 * Adapters and chains of them in the form the graphs take, per linear A `[R, in]` and B `[R, out]`, both contiguous;
 * and the deltas of the rows of a decode batch, by slot: A `[rows, R, in]`, or turned, and B `[rows, R, out]`.
 */
import {
  LINEAR_KINDS,
  type LinearKind,
  layersWith,
  linearShape,
  ofLayer,
  shapesByLayer,
  type LlamaConfig,
  type BaseModel,
  rowsOfKind,
  storedLinears,
  blockOfA,
  inPrecision,
  NUMBER_BYTES,
  type Precision,
  DELTA_KINDS,
  type GraphKind,
  hasLinear,
} from '../model/base-model.ts';
import { type Device, type DeviceMemory, nextTurn } from './device.ts';
import {
  type CanonicalAdapter,
  type CanonicalConfig,
  classesOf,
  type LoraModule,
  parseCanonical,
  readFloat32,
  textModule,
  validateAdapter,
  widthOf,
} from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import type { ChainMember, ClassifierHead, ResidentAdapter, RowDelta } from '../engine/ports.ts';
import {
  gainBefore,
  type LinearTransform,
  pairsOf,
  transformDelta,
  transpose,
} from '../model/prepare-weights.ts';
import { type RotationSet, rotationsOf } from '../model/rotation.ts';

/** Ranks that rows are padded to with zeros, so that few tensor shapes occur. */
const RANK_BUCKETS = [4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/** @returns the smallest bucket that holds `rank`; 0 for 0. */
export function rankBucket(rank: number): number {
  if (rank === 0) return 0;
  const bucket = RANK_BUCKETS.find((size) => size >= rank);
  if (bucket === undefined) throw new Error(`a rank sum of ${rank} exceeds ${RANK_BUCKETS.at(-1)}`);
  return bucket;
}

export type RankByKind = Record<LinearKind, number>;

export const noRanks = (): RankByKind => ({
  ...{ q: 0, outputGate: 0, k: 0, v: 0, o: 0, gate: 0, up: 0, down: 0 },
  ...{ deltaQkv: 0, deltaGate: 0, deltaBeta: 0, deltaDecay: 0, deltaOut: 0 },
});

/** The smallest graph whose deltas cover every kind with a rank above 0. */
export function graphFor(ranks: RankByKind): GraphKind {
  const used = LINEAR_KINDS.filter((kind) => ranks[kind] > 0);
  if (used.length === 0) return 'none';
  return used.every((kind) => DELTA_KINDS.qv.includes(kind)) ? 'qv' : 'all';
}

export const moduleKey = (layer: number, kind: LinearKind): string => `${layer}.${kind}`;

interface ModuleDelta {
  /** `[R, in]` */
  a: Float32Array<ArrayBuffer>;
  /** `[R, out]`, every scale folded in. */
  b: Float32Array<ArrayBuffer>;
}

/** A linear of one adapter, with zeros up to the bucket of the largest rank that the adapter has in this kind. */
interface RotatedModule extends ModuleDelta {
  /** Its own. */
  rank: number;
}

/** One adapter, rotated as its base is; float32. */
class OrtResidentAdapter implements ResidentAdapter {
  readonly rank: number;
  readonly bytes: number;
  readonly invocation: readonly number[] | null;
  readonly stacked: boolean;
  constructor(
    readonly digest: string,
    { invocation, parent }: Pick<CanonicalConfig, 'invocation' | 'parent'>,
    readonly modules: ReadonlyMap<string, RotatedModule>,
    readonly classifier: ClassifierHead | null,
  ) {
    this.invocation = invocation ?? null;
    this.stacked = parent !== null;
    let rank = 0;
    let bytes = classifier?.weight.byteLength ?? 0;
    for (const module of modules.values()) {
      rank = Math.max(rank, module.rank);
      bytes += module.a.byteLength + module.b.byteLength;
    }
    this.rank = rank;
    this.bytes = bytes;
  }
}

/** The whole delta of a row. R of a kind is the same in all layers: the largest rank sum there, in its bucket. */
export class OrtRowDelta implements RowDelta {
  readonly rank: number;
  constructor(
    readonly ranks: RankByKind,
    readonly modules: ReadonlyMap<string, ModuleDelta>,
    readonly bytes: number,
  ) {
    this.rank = Math.max(...Object.values(ranks));
  }
  get graph(): GraphKind {
    return graphFor(this.ranks);
  }
}

function rankSums(config: LlamaConfig, chain: readonly OrtResidentAdapter[]): RankByKind {
  const ranks = noRanks();
  for (const kind of LINEAR_KINDS)
    for (const layer of layersWith(config, kind)) {
      const sum = chain.reduce(
        (total, adapter) => total + (adapter.modules.get(moduleKey(layer, kind))?.rank ?? 0),
        0,
      );
      ranks[kind] = Math.max(ranks[kind], rankBucket(sum));
    }
  return ranks;
}

/**
 * Sum of the chain's deltas, exactly: ranks concatenated. A single member at scale 1 is not copied.
 * @param chain root first; members created by `OrtRunner.loadAdapter`.
 */
export function composeDelta(config: LlamaConfig, chain: readonly ChainMember[]): OrtRowDelta {
  const members = chain.map(({ adapter, scale }) => {
    if (!(adapter instanceof OrtResidentAdapter)) throw new Error('the adapter was loaded by another runner');
    return { adapter, scale };
  });
  const ranks = rankSums(
    config,
    members.map(({ adapter }) => adapter),
  );
  const modules = new Map<string, ModuleDelta>();
  let bytes = 0;
  for (const kind of LINEAR_KINDS) {
    const rank = ranks[kind];
    if (rank === 0) continue;
    for (const layer of layersWith(config, kind)) {
      const shape = linearShape(ofLayer(config, layer), kind);
      const key = moduleKey(layer, kind);
      const only =
        members.length === 1 && members[0]?.scale === 1 ? members[0].adapter.modules.get(key) : undefined;
      if (only !== undefined) {
        modules.set(key, only);
        continue;
      }
      const a = new Float32Array(rank * shape.in);
      const b = new Float32Array(rank * shape.out);
      let at = 0;
      for (const { adapter, scale } of members) {
        const module = adapter.modules.get(key);
        if (module === undefined) continue;
        a.set(module.a.subarray(0, module.rank * shape.in), at * shape.in);
        const to = at * shape.out;
        const own = module.rank * shape.out;
        for (let i = 0; i < own; i++) b[to + i] = module.b[i]! * scale;
        at += module.rank;
      }
      modules.set(key, { a, b });
      bytes += a.byteLength + b.byteLength;
    }
  }
  return new OrtRowDelta(ranks, modules, bytes);
}

/** How a base's weights were transformed, which its adapters must follow. */
export interface WeightTransform {
  /** Gain of the norm before a linear, folded into its input; null if there is none. */
  gains: (layer: number, kind: LinearKind) => Float32Array | null;
  /** null = the weights are not rotated. */
  rotations: RotationSet | null;
}

/** How one linear's weight was transformed. */
export const linearTransform = (
  { config, gains, rotations }: WeightTransform & { config: LlamaConfig },
  layer: number,
  kind: LinearKind,
): LinearTransform => ({
  kind,
  gain: gains(layer, kind),
  rotations: rotationsOf(rotations, layer),
  pairs: pairsOf(config, kind),
});

/** Gains are needed whenever an adapter is loaded, so they stay in memory: a few vectors per layer. */
export function readGains(base: BaseModel): (layer: number, kind: LinearKind) => Float32Array | null {
  const gains = Array.from({ length: base.config.layers }, (_, layer) => {
    const kinds = LINEAR_KINDS.filter((kind) => hasLinear(base.config, layer, kind));
    return new Map(kinds.map((kind) => [kind, gainBefore(base, layer, kind)]));
  });
  return (layer, kind) => gains[layer]?.get(kind) ?? null;
}

/**
 * Transforms one module's delta exactly as its base weight was: A' = A diag(gain) R, B' = R^T B, and B transposed.
 * @param a `[rank, in]` @param b `[out, rank]` @param padded `[padded, in]` and `[padded, out]` are made, the rest zeros.
 * @param take gives as many zeros.
 */
function rotateModule(
  { a, rank, scale }: Pick<LoraModule, 'a' | 'rank' | 'scale'>,
  b: Float32Array,
  padded: number,
  transform: LinearTransform,
  take: (count: number) => Float32Array<ArrayBuffer>,
): RotatedModule {
  const [inputs, outputs] = [a.shape[1]!, b.length / rank];
  const module = { rank, a: take(padded * inputs), b: take(padded * outputs) };
  const ownA = module.a.subarray(0, rank * inputs);
  const ownB = module.b.subarray(0, rank * outputs);
  readFloat32(a, ownA);
  transpose(b, outputs, rank, ownB);
  transformDelta(ownA, inputs, 'A', transform);
  transformDelta(ownB, outputs, 'B', transform);
  for (let i = 0; i < ownB.length; i++) ownB[i]! *= scale;
  return module;
}

/** Parses a canonical file, checks it against the base and transforms it. @throws AdapterFormatError */
export async function loadResidentAdapter(
  params: {
    file: Uint8Array<ArrayBuffer>;
    digest: string;
    base: BaseInfo;
    config: LlamaConfig;
  } & WeightTransform,
): Promise<OrtResidentAdapter> {
  const { base, config } = params;
  const adapter = parseCanonical(params.file);
  const problem = validateAdapter({ adapter, base })[0];
  if (problem !== undefined) throw problem;
  const byName = new Map(adapter.modules.map((module) => [textModule(module.name), module]));
  const padded = noRanks();
  for (let layer = 0; layer < config.layers; layer++)
    for (const { name, kinds } of storedLinears(config, layer))
      for (const kind of kinds)
        padded[kind] = Math.max(padded[kind], rankBucket(byName.get(name)?.rank ?? 0));
  const stored = Array.from({ length: config.layers }, (_, layer) =>
    storedLinears(config, layer).flatMap((linear) => {
      const module = byName.get(linear.name);
      return module === undefined ? [] : [{ module, linear }];
    }),
  );
  // One allocation: hundreds for each adapter would be looked at in every collection of garbage.
  const sizeOf = (layer: number, kind: LinearKind): number => {
    const shape = linearShape(ofLayer(config, layer), kind);
    return padded[kind] * (shape.in + shape.out);
  };
  const all = new Float32Array(
    stored
      .flatMap((linears, layer) =>
        linears.flatMap(({ linear }) => linear.kinds.map((kind) => sizeOf(layer, kind))),
      )
      .reduce((sum, size) => sum + size, 0),
  );
  const ofB = new Float32Array(
    stored.flat().reduce((most, { module }) => Math.max(most, module.rank * module.b.shape[0]!), 0),
  );
  let taken = 0;
  const take = (count: number): Float32Array<ArrayBuffer> => all.subarray(taken, (taken += count));
  const modules = new Map<string, RotatedModule>();
  for (const [layer, linears] of stored.entries()) {
    for (const { module, linear } of linears) {
      const b = ofB.subarray(0, module.rank * module.b.shape[0]!);
      readFloat32(module.b, b);
      for (const kind of linear.kinds) {
        // Parts of a fused linear share A, and each has its own rows of B.
        const part = rowsOfKind(ofLayer(config, layer), linear, kind, b, module.rank);
        modules.set(
          moduleKey(layer, kind),
          rotateModule(module, part, padded[kind], linearTransform(params, layer, kind), take),
        );
      }
    }
    // Steps continue between layers.
    await nextTurn();
  }
  return new OrtResidentAdapter(params.digest, adapter.config, modules, headOf(adapter));
}

/** Neither rotated nor scaled: it reads hidden states as transformers has them. */
function headOf({ classifier }: Pick<CanonicalAdapter, 'classifier'>): ClassifierHead | null {
  if (classifier === undefined) return null;
  const { labels, problemType } = classifier;
  const weight = new Float32Array(classesOf(classifier) * widthOf(classifier));
  readFloat32(classifier.weight, weight);
  return { weight, labels, problemType };
}

/**
 * How much memory a batch of decode rows takes for their deltas. Every row's block is padded to the largest ranks of
 * the batch, rows of the base model's too, since the graphs take `A [rows, R, in]` and `B [rows, R, out]`. Pure: the
 * runners allocate by it, and the engine counts by it before it lets a row in.
 */
interface BatchLayout {
  /** Rows that fit; 0 = nothing is held. */
  readonly rows: number;
  readonly ranks: RankByKind;
}

export const NO_BUFFERS: BatchLayout = { rows: 0, ranks: noRanks() };

/** A buffer of a larger rank is kept while at least this share of it is needed: a new one copies every row. */
const SHRINK_BELOW = 0.5;

/** Bytes of one rank of one row in all layers, by kind. */
export function rankBytes(config: LlamaConfig, precision: Precision = 'f32'): RankByKind {
  const bytes = noRanks();
  for (const kind of LINEAR_KINDS) {
    const widths = shapesByLayer(config, kind).reduce((sum, shape) => sum + shape.in + shape.out, 0);
    bytes[kind] = widths * NUMBER_BYTES[precision];
  }
  return bytes;
}

/** At most half as many more as needed, so that a batch that grows row by row is not copied each time. */
function roomFor(rows: number, slots: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(rows - 1)) - 1));
  return Math.min(slots, Math.ceil(rows / step) * step);
}

/** The largest by kind; 0 without deltas. */
export function widestRanks(each: Iterable<RankByKind>): RankByKind {
  const widest = noRanks();
  for (const ranks of each)
    for (const kind of LINEAR_KINDS) widest[kind] = Math.max(widest[kind], ranks[kind]);
  return widest;
}

/** Memory of decode steps over `rows` rows. A single row needs none: it runs on its delta's own memory. */
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
 * Memory after a step that needs `needed`: either what is held already, or exactly what is needed, so never
 * more than the larger of both.
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
  /** Of layers that have the linear. */
  layers: Map<number, DeltaMemory>;
  /** The content of each slot's block; undefined = unknown. */
  content: (OrtRowDelta | null | undefined)[];
}

export class DeltaBatch {
  private readonly kinds = new Map<LinearKind, KindBuffers>();
  private readonly rankBytes: RankByKind;
  private layout: BatchLayout = NO_BUFFERS;
  /** Changes whenever a buffer is freed, so that bindings are renewed. */
  version = 0;

  constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly slots: number,
    private readonly precision: Precision,
  ) {
    this.rankBytes = rankBytes(config, precision);
  }

  /** All buffers, including those that the next step creates. */
  get bytes(): number {
    return layoutBytes(this.layout, this.rankBytes);
  }

  /** What buffers for `rows` rows, some with these deltas, hold. */
  bytesFor(rows: number, deltas: readonly OrtRowDelta[]): number {
    return layoutBytes(this.needed(rows, deltas), this.rankBytes);
  }

  /** Frees what `rows` rows, some with these deltas, do not need. */
  trim(rows: number, deltas: readonly OrtRowDelta[]): void {
    this.become(this.needed(rows, deltas));
  }

  private needed(rows: number, deltas: readonly OrtRowDelta[]): BatchLayout {
    return neededLayout({ rows, ranks: deltas.map(({ ranks }) => ranks), slots: this.slots });
  }

  /**
   * Updates the blocks of slots 0 … rows.length-1; copies only changes.
   * @returns R per kind; 0 if no row has a delta.
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

  /** What no longer fits is freed at once; the step that needs its replacement creates it. */
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
    for (const { a, b } of this.kinds.get(kind)?.layers.values() ?? []) {
      a.close();
      b.close();
    }
    this.kinds.delete(kind);
  }

  private async allocate(kind: LinearKind): Promise<KindBuffers> {
    const make = (width: number): Promise<DeviceMemory> =>
      this.device.memory(this.layout.rows * this.layout.ranks[kind] * width * NUMBER_BYTES[this.precision]);
    const buffers: KindBuffers = { layers: new Map(), content: [] };
    this.kinds.set(kind, buffers);
    try {
      for (const layer of layersWith(this.config, kind)) {
        const shape = linearShape(ofLayer(this.config, layer), kind);
        buffers.layers.set(layer, { a: await make(shape.in), b: await make(shape.out) });
      }
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
                linearShape(ofLayer(this.config, layer), kind).in,
              )
            : module?.[part];
        const source = floats === undefined ? undefined : inPrecision(this.precision, floats);
        const bytes = this.blockBytes(layer, kind, part);
        const at = slot * bytes;
        if (source !== undefined) memory[part].write(at, source);
        // Zeros are an exact no-op; remains of another adapter are not.
        const filled = source?.byteLength ?? 0;
        memory[part].clear(at + filled, bytes - filled);
      }
    });
  }

  /** Of one row in one layer. */
  private blockBytes(layer: number, kind: LinearKind, part: 'a' | 'b'): number {
    const shape = linearShape(ofLayer(this.config, layer), kind);
    return this.layout.ranks[kind] * (part === 'a' ? shape.in : shape.out) * NUMBER_BYTES[this.precision];
  }

  /** @throws Error when `prepare` gave the kind no rank. */
  memory(layer: number, kind: LinearKind): DeltaMemory {
    const memory = this.kinds.get(kind)?.layers.get(layer);
    if (memory === undefined) throw new Error(`no delta buffers for ${kind}`);
    return memory;
  }

  /** Forgets the delta in a slot's blocks, so that it can be collected. */
  forget(slot: number): void {
    for (const buffers of this.kinds.values())
      if (buffers.content[slot] !== null) buffers.content[slot] = undefined;
  }

  close(): void {
    for (const kind of LINEAR_KINDS) this.free(kind);
  }
}
