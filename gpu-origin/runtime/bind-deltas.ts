import { type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { DELTA_KINDS, deltaNames, type GraphKind } from '../model/graph-names.ts';
import type { DeltaMemory } from './delta-batch.ts';
import type { Binding, Device, DeviceMemory, DeviceTensor } from './device.ts';
import type { RankByKind } from './row-delta.ts';

/**
 * Binds A `[rows, R, in]` and B `[rows, R, out]` of every linear that the graph takes a delta for.
 * @param params.memory undefined where there is no delta: R is 0 there.
 * @param params.nothing what tensors of rank 0 lie in.
 * @returns tensors made for it, to be closed with the binding.
 */
export function bindDeltas(params: {
  device: Device;
  config: LlamaConfig;
  binding: Binding;
  graph: GraphKind;
  rows: number;
  ranks: RankByKind;
  memory: (layer: number, kind: LinearKind) => DeltaMemory | undefined;
  nothing: DeviceMemory;
}): DeviceTensor[] {
  const { device, config, binding, rows, nothing } = params;
  const made: DeviceTensor[] = [];
  for (const kind of DELTA_KINDS[params.graph]) {
    const shape = linearShape(config, kind);
    for (let layer = 0; layer < config.layers; layer++) {
      const source = params.ranks[kind] === 0 ? undefined : params.memory(layer, kind);
      const rank = source === undefined ? 0 : params.ranks[kind];
      const a = device.tensor('f32', source?.a ?? nothing, 0, [rows, rank, shape.in]);
      const b = device.tensor('f32', source?.b ?? nothing, 0, [rows, rank, shape.out]);
      const names = deltaNames(layer, kind);
      binding.input(names.a, a);
      binding.input(names.b, b);
      made.push(a, b);
    }
  }
  return made;
}
