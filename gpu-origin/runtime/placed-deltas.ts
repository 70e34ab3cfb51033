import { LINEAR_KINDS, type LinearKind, linearShape, type LlamaConfig } from '../model/base-model.ts';
import { blockOfA, inPrecision, type Numbers, type Precision } from '../model/graph-form.ts';
import type { DeltaMemory } from './delta-batch.ts';
import type { Device, SharedArrays } from './device.ts';
import { moduleKey, type OrtRowDelta } from './row-delta.ts';
import { MOST_ALONE } from './rows-alone.ts';

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
