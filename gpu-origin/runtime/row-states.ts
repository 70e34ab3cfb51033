/**
 * States of rows whose base has layers without attention (Gated DeltaNet): per such layer `[slots, …state]` and
 * `[slots, …convolution]`, float32, beside the keys and values of the other layers. A state has seen all tokens of its row,
 * so that a step must not run over it twice, and a chunk that is kept has the state behind its last token.
 */
import { type Clipped, NONE_CLIPPED } from '../engine/ports.ts';
import { attentionLayers, isDeltaNet, type LlamaConfig, stateShapes, STATES } from '../model/base-model.ts';
import { bytesOf, type Device, type DeviceTensor, type HostMemory } from './device.ts';
import type { RowsCache } from './kv-cache.ts';

/** What a cache of keys and values knows of its base: the layers that have them. */
export const withKeys = (config: LlamaConfig): LlamaConfig => {
  const layers = attentionLayers(config);
  return {
    ...config,
    layers: layers.length,
    attention: layers.map((layer) => config.attention[layer]!),
    layerSizes: config.layerSizes === null ? null : layers.map((layer) => config.layerSizes![layer]!),
    deltaNet: null,
  };
};

/** Shapes of what one row keeps, as in `STATES` of each layer; [] for bases that have attention in all layers. */
function shapesOf({ deltaNet }: Pick<LlamaConfig, 'deltaNet'>): (readonly number[])[] {
  if (deltaNet === null) return [];
  const shapes = stateShapes(deltaNet);
  return deltaNet.layers.filter(Boolean).flatMap(() => STATES.map((part) => shapes[part]));
}

/** Of one row, whatever its length. */
export const stateBytes = (config: Pick<LlamaConfig, 'deltaNet'>): number =>
  shapesOf(config).reduce((sum, shape) => sum + bytesOf('f32', shape), 0);

/** One state of all slots, and behind them those of kept chunks. */
interface State {
  readonly shape: readonly number[];
  /** Of one row. */
  readonly bytes: number;
  readonly memory: HostMemory;
}

export class RowStates {
  /** By first slot and count. */
  private readonly made = new Map<string, DeviceTensor[]>();

  private constructor(
    private readonly device: Device,
    private readonly slots: number,
    private readonly states: readonly State[],
  ) {}

  static async allocate(params: {
    device: Device;
    config: LlamaConfig;
    slots: number;
    blocks: number;
  }): Promise<RowStates> {
    const { device, config, slots, blocks } = params;
    const states: State[] = [];
    for (const shape of shapesOf(config)) {
      const bytes = bytesOf('f32', shape);
      states.push({ shape, bytes, memory: await device.host((slots + blocks) * bytes, true) });
    }
    return new RowStates(device, slots, states);
  }

  /** As in `STATES` of each layer, of `count` slots from `from` on. */
  tensors(from: number, count: number): readonly DeviceTensor[] {
    const key = `${from} ${count}`;
    const known = this.made.get(key);
    if (known !== undefined) return known;
    const tensors = this.states.map(({ memory, bytes, shape }) =>
      this.device.tensor('f32', memory, from * bytes, [count, ...shape]),
    );
    this.made.set(key, tensors);
    return tensors;
  }

  /** A new row's: nothing was seen. */
  begin(slot: number): void {
    for (const { memory, bytes } of this.states) memory.clear(slot * bytes, bytes);
  }

  move(from: number, to: number): void {
    for (const { memory, bytes } of this.states) memory.copy(from * bytes, to * bytes, bytes);
  }

  keep(slot: number, block: number): void {
    this.move(slot, this.slots + block);
  }

  reuse(block: number, slot: number): void {
    this.move(this.slots + block, slot);
  }

  /** Copies of a row's. */
  read(slot: number): Float32Array<ArrayBuffer>[] {
    return this.states.map(({ memory, bytes }) =>
      new Float32Array(
        memory.buffer,
        memory.offset + slot * bytes,
        bytes / Float32Array.BYTES_PER_ELEMENT,
      ).slice(),
    );
  }

  /** @param states from {@link read}. */
  write(slot: number, states: readonly Float32Array<ArrayBuffer>[]): void {
    this.states.forEach(({ memory, bytes }, index) => memory.write(slot * bytes, states[index]!));
  }

  close(): void {
    for (const tensors of this.made.values()) for (const tensor of tensors) tensor.close();
    for (const { memory } of this.states) memory.close();
  }
}

/** Keys and values of the layers with attention and states of the others, in the order of layers. */
export class StatefulCache implements RowsCache {
  /** @param kv made with {@link withKeys}. */
  constructor(
    private readonly config: LlamaConfig,
    private readonly kv: RowsCache,
    private readonly states: RowStates,
  ) {}

  async rowOf(slot: number, past: number, length: number): Promise<DeviceTensor[]> {
    if (past === 0) this.states.begin(slot);
    const kv = await this.kv.rowOf(slot, past, length);
    return tensorsInOrder(this.config, kv, this.states.tensors(slot, 1));
  }

  async rowsFrom(from: number, count: number): Promise<DeviceTensor[]> {
    const kv = await this.kv.rowsFrom(from, count);
    return tensorsInOrder(this.config, kv, this.states.tensors(from, count));
  }

  move(from: number, to: number, length: number): void {
    this.kv.move(from, to, length);
    this.states.move(from, to);
  }

  keep(chunk: Parameters<RowsCache['keep']>[0]): void {
    this.kv.keep(chunk);
    this.states.keep(chunk.slot, chunk.block);
  }

  reuse(chunk: Parameters<RowsCache['reuse']>[0]): void {
    this.kv.reuse(chunk);
    this.states.reuse(chunk.block, chunk.slot);
  }

  clipped(slot: number): Clipped {
    return this.kv.clipped?.(slot) ?? NONE_CLIPPED;
  }

  release(slot: number, length: number): void {
    this.kv.release(slot, length);
  }

  close(): void {
    this.kv.close();
    this.states.close();
  }
}

/** Two tensors of each layer: keys and values, or states. @param kv of layers with attention. @param states of the others. */
export function tensorsInOrder(
  config: LlamaConfig,
  kv: readonly DeviceTensor[],
  states: readonly DeviceTensor[],
): DeviceTensor[] {
  const all: DeviceTensor[] = [];
  let [ofKv, ofStates] = [0, 0];
  for (let layer = 0; layer < config.layers; layer += 1)
    if (isDeltaNet(config, layer)) all.push(...states.slice(ofStates, (ofStates += 2)));
    else all.push(...kv.slice(ofKv, (ofKv += 2)));
  return all;
}
