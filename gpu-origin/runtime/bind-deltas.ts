import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import {
  DELTA_KINDS,
  deltaNames,
  deltaShapeOfA,
  type GraphKind,
  type Layers,
  LEAST_RANK,
  NUMBER_BYTES,
  type Precision,
} from '../model/graph-form.ts';
import type { DeltaMemory } from './delta-batch.ts';
import type { Binding, Device, DeviceMemory, DeviceTensor } from './device.ts';
import type { RankByKind } from './row-delta.ts';

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
