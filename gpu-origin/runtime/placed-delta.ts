import { LINEAR_KINDS, type LinearKind, type LlamaConfig } from '../model/base-model.ts';
import type { DeltaMemory } from './delta-batch.ts';
import type { Device, SharedArrays } from './device.ts';
import { moduleKey, type OrtRowDelta } from './row-delta.ts';

/** A delta where the device reads it, for a row that runs by itself: its own memory if that can be, else one copy. */
export class PlacedDelta {
  private constructor(
    readonly delta: OrtRowDelta,
    private readonly shared: SharedArrays,
    private readonly modules: ReadonlyMap<string, DeltaMemory>,
  ) {}

  static async place(device: Device, config: LlamaConfig, delta: OrtRowDelta): Promise<PlacedDelta> {
    const keys: string[] = [];
    const arrays: Float32Array<ArrayBuffer>[] = [];
    for (const kind of LINEAR_KINDS)
      for (let layer = 0; layer < config.layers; layer++) {
        const module = delta.modules.get(moduleKey(layer, kind));
        if (module === undefined) continue;
        keys.push(moduleKey(layer, kind));
        arrays.push(module.a, module.b);
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
