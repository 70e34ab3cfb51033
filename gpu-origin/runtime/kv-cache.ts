/** Keys and values of all rows: per layer `[slots, kvHeads, capacity, headDim]`, in place for the whole life of a row. */
import type { LlamaConfig } from '../model/base-model.ts';
import type { Device, DeviceMemory, DeviceTensor } from './device.ts';

const F32 = Float32Array.BYTES_PER_ELEMENT;

export class KvCache {
  private constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly capacity: number,
    /** By layer, keys at 2 * layer and values at 2 * layer + 1. Never filled: pages become resident when written. */
    private readonly memories: readonly DeviceMemory[],
  ) {}

  /** @param capacity tokens per slot. */
  static async allocate(params: {
    device: Device;
    config: LlamaConfig;
    slots: number;
    capacity: number;
  }): Promise<KvCache> {
    const { device, config, slots, capacity } = params;
    const bytes = slots * config.kvHeads * capacity * config.headDim * F32;
    const memories = [];
    for (let index = 0; index < config.layers * 2; index++) memories.push(await device.memory(bytes));
    return new KvCache(device, config, capacity, memories);
  }

  private get headBytes(): number {
    return this.capacity * this.config.headDim * F32;
  }

  private get slotBytes(): number {
    return this.config.kvHeads * this.headBytes;
  }

  /** Of `rows` slots from `slot` on: key and value of each layer by turns. */
  tensors(slot: number, rows: number): DeviceTensor[] {
    const { kvHeads, headDim } = this.config;
    return this.memories.map((memory) =>
      this.device.tensor('f32', memory, slot * this.slotBytes, [rows, kvHeads, this.capacity, headDim]),
    );
  }

  /** Copies the first `length` tokens of a row to another slot. */
  move(from: number, to: number, length: number): void {
    const { kvHeads, headDim } = this.config;
    const bytes = length * headDim * F32;
    for (const memory of this.memories)
      for (let head = 0; head < kvHeads; head++) {
        const at = head * this.headBytes;
        memory.copy(from * this.slotBytes + at, to * this.slotBytes + at, bytes);
      }
  }

  close(): void {
    for (const memory of this.memories) memory.close();
  }
}
