/** What a step binds: its own tensors, and the deltas of its rows where the device reads them. */
import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import {
  blockOfA,
  DELTA_KINDS,
  deltaNames,
  deltaShapeOfA,
  type GraphKind,
  inPrecision,
  type Layers,
  LEAST_RANK,
  NUMBER_BYTES,
  type Numbers,
  type Precision,
} from '../model/graph-form.ts';
import type { DeltaMemory } from './delta-batch.ts';
import type { Binding, Device, DeviceMemory, DeviceTensor, HostMemory, SharedArrays } from './device.ts';
import { moduleKey, type OrtRowDelta, type RankByKind } from './row-delta.ts';
import { MOST_ALONE } from './step-choice.ts';

/** Tensors of one batch size that are the same in every step. */
export interface StepTensors {
  tokens: BigInt64Array;
  lastPosition: Int32Array;
  total: Int32Array;
  logits: Float32Array;
  bound: Record<'tokens' | 'last_position' | 'total_length' | 'positions' | 'logits', DeviceTensor>;
  cache: DeviceTensor[];
  /** What all but the cache lie in, and the logits where they have a place of their own; outlives the tensors while the logits are read. */
  memory: HostMemory;
}

/** Parts of the memory begin at multiples of this, bytes: the largest vectors of a processor. */
const ALIGNMENT = 64;

/**
 * @param shape.positions of each row, whose logits are wanted. @param cache of the rows, key and value by turns.
 * @param into where the logits are to lie, from byte `at` on; in memory of their own unless given.
 */
export async function stepTensors(
  device: Device,
  shape: { rows: number; length: number; positions: readonly number[]; vocab: number },
  cache: DeviceTensor[],
  into?: { memory: HostMemory; at: number },
): Promise<StepTensors> {
  const { rows, length, positions, vocab } = shape;
  const wanted = positions.length;
  const sizes = [rows * length * 8, rows * 4, 4, rows * wanted * 8];
  const logitBytes = rows * wanted * vocab * 4;
  if (into === undefined) sizes.push(logitBytes);
  const starts: number[] = [];
  let end = 0;
  for (const size of sizes) {
    starts.push(end);
    end += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
  }
  const [tokens, last, total, places] = starts as [number, number, number, number];
  const memory = await device.host(end);
  const logits = into ?? { memory, at: starts[4]! };
  const { buffer, offset } = memory;
  const positionsView = new BigInt64Array(buffer, offset + places, rows * wanted);
  for (let row = 0; row < rows; row++) positionsView.set(positions.map(BigInt), row * wanted);
  return {
    tokens: new BigInt64Array(buffer, offset + tokens, rows * length),
    lastPosition: new Int32Array(buffer, offset + last, rows),
    total: new Int32Array(buffer, offset + total, 1),
    logits: new Float32Array(logits.memory.buffer, logits.memory.offset + logits.at, rows * wanted * vocab),
    bound: {
      tokens: device.tensor('i64', memory, tokens, [rows, length]),
      last_position: device.tensor('i32', memory, last, [rows]),
      total_length: device.tensor('i32', memory, total, [1]),
      positions: device.tensor('i64', memory, places, [rows, wanted, 1]),
      logits: device.tensor('f32', logits.memory, logits.at, [rows, wanted, vocab]),
    },
    cache,
    memory,
  };
}

/** @param layers of the part that runs; all unless given. */
export function bindStep(binding: Binding, step: StepTensors, layers?: Layers): void {
  const all = step.cache.length >> 1;
  const { from, to } = layers ?? { from: 0, to: all };
  for (const name of ['last_position', 'total_length'] as const) binding.input(name, step.bound[name]);
  if (from === 0) binding.input('tokens', step.bound.tokens);
  if (to === all) {
    binding.input('positions', step.bound.positions);
    binding.output('logits', step.bound.logits);
  }
  step.cache.forEach((tensor, index) => {
    const layer = index >> 1;
    if (layer < from || layer >= to) return;
    const name = `${layer}.${index & 1 ? 'v' : 'k'}`;
    // The same memory in and out: GroupQueryAttention then appends in place.
    binding.input(`past.${name}`, tensor);
    binding.output(`present.${name}`, tensor);
  });
}

/**
 * Binds A, `[rows, R, in]` or turned, and B `[rows, R, out]` of every linear that the graph takes a delta for.
 * @param params.slot whose blocks are the first row's.
 * @param params.memory undefined where there is no delta: R is the least there.
 * @param params.nothing what tensors of the least rank lie in.
 * @returns tensors made for it, to be closed with the binding.
 */
export function bindDeltas(params: {
  device: Device;
  config: LlamaConfig;
  precision: Precision;
  binding: Binding;
  graph: GraphKind;
  /** Of the part that runs; all unless given. */
  layers?: Layers | undefined;
  slot: number;
  rows: number;
  ranks: RankByKind;
  memory: (layer: number, kind: LinearKind) => DeltaMemory | undefined;
  nothing: DeviceMemory;
}): DeviceTensor[] {
  const { device, config, precision, binding, slot, rows, nothing } = params;
  const { from, to } = params.layers ?? { from: 0, to: config.layers };
  const { flavour } = device;
  const made: DeviceTensor[] = [];
  for (const kind of DELTA_KINDS[params.graph]) {
    const shape = linearShape(config, kind);
    for (let layer = from; layer < to; layer++) {
      const source = params.ranks[kind] === 0 ? undefined : params.memory(layer, kind);
      const rank = source === undefined ? LEAST_RANK[flavour] : params.ranks[kind];
      const at = source === undefined ? 0 : slot * rank * NUMBER_BYTES[precision];
      const shapeOfA = deltaShapeOfA(flavour, rows, rank, shape.in);
      const a = device.tensor(precision, source?.a ?? nothing, at * shape.in, shapeOfA);
      const b = device.tensor(precision, source?.b ?? nothing, at * shape.out, [rows, rank, shape.out]);
      const names = deltaNames(layer, kind);
      binding.input(names.a, a);
      binding.input(names.b, b);
      made.push(a, b);
    }
  }
  return made;
}

/** Zeros for as many rows as there may be, of the least rank: a delta that changes nothing. */
export async function noDelta(device: Device, config: LlamaConfig, slots: number): Promise<DeviceMemory> {
  const widths = LINEAR_KINDS.map((kind) => linearShape(config, kind)).flatMap(({ in: from, out }) => [
    from,
    out,
  ]);
  const floats = slots * Math.max(...widths) * LEAST_RANK[device.flavour];
  const memory = await device.memory(floats * Float32Array.BYTES_PER_ELEMENT);
  memory.clear(0, memory.bytes);
  return memory;
}

/** A delta where the device reads it, for a row that runs by itself: its own memory if that can be, else one copy. */
class PlacedDelta {
  private constructor(
    readonly delta: OrtRowDelta,
    private readonly shared: SharedArrays,
    private readonly modules: ReadonlyMap<string, DeltaMemory>,
  ) {}

  static async place(
    device: Device,
    config: LlamaConfig,
    precision: Precision,
    delta: OrtRowDelta,
  ): Promise<PlacedDelta> {
    const keys: string[] = [];
    const arrays: Numbers[] = [];
    for (const kind of LINEAR_KINDS)
      for (let layer = 0; layer < config.layers; layer++) {
        const module = delta.modules.get(moduleKey(layer, kind));
        if (module === undefined) continue;
        keys.push(moduleKey(layer, kind));
        const { in: width } = linearShape(config, kind);
        const a = blockOfA(device.flavour, module.a, delta.ranks[kind], width);
        arrays.push(inPrecision(precision, a), inPrecision(precision, module.b));
      }
    const shared = await device.share(arrays);
    const modules = new Map(
      keys.map((key, index) => [key, { a: shared.memories[2 * index]!, b: shared.memories[2 * index + 1]! }]),
    );
    return new PlacedDelta(delta, shared, modules);
  }

  /** undefined where the delta leaves the linear as it is. */
  memory(layer: number, kind: LinearKind): DeltaMemory | undefined {
    return this.modules.get(moduleKey(layer, kind));
  }

  close(): void {
    this.shared.close();
  }
}

/** One of a prompt that is read, and those of rows that decode by themselves between its chunks. */
const KEPT = 1 + MOST_ALONE;

/** Deltas that rows ran on by themselves; those of the last ones stay where they are. */
export class PlacedDeltas {
  /** The last one first. */
  private placed: readonly PlacedDelta[] = [];

  constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly precision: Precision,
    /** Called before the delta's memory is given back. */
    private readonly onDrop: (delta: OrtRowDelta) => void,
  ) {}

  async place(delta: OrtRowDelta): Promise<PlacedDelta> {
    const known = this.placed.find((placed) => placed.delta === delta);
    if (known !== undefined) return known;
    this.keep(KEPT - 1);
    const placed = await PlacedDelta.place(this.device, this.config, this.precision, delta);
    this.placed = [placed, ...this.placed];
    return placed;
  }

  clear(): void {
    this.keep(0);
  }

  private keep(count: number): void {
    for (const placed of this.placed.slice(count)) {
      this.onDrop(placed.delta);
      placed.close();
    }
    this.placed = this.placed.slice(0, count);
  }
}
