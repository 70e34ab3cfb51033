/**
 * Keys and values of all rows: per layer `[slots, kvHeads, capacity, headDim]`, in place for the whole life of a row; and
 * behind them those of chunks that are kept, `[blocks, kvHeads, chunk, headDim]`.
 */
import type { LlamaConfig } from '../model/base-model.ts';
import type { Device, DeviceMemory, DeviceTensor } from './device.ts';

const F32 = Float32Array.BYTES_PER_ELEMENT;

/** Keys and values of one token in float32, bytes. */
export const tokenBytes = ({ layers, kvHeads, headDim }: LlamaConfig): number =>
  2 * layers * kvHeads * headDim * F32;

export interface RowsShape {
  device: Device;
  config: LlamaConfig;
  slots: number;
  /** Tokens of a slot. */
  capacity: number;
}

/** Where keys and values of rows are, as tensors: key and value of each layer by turns. The cache closes them. */
export interface RowsCache {
  /** Of the row in `slot`, for a step that appends to its `past` tokens. */
  rowOf(slot: number, past: number): Promise<DeviceTensor[]>;
  /** Of `count` slots from `from` on, for a step that appends to each; of the device's own memory from slot 0 on alone. */
  rowsFrom(from: number, count: number): Promise<DeviceTensor[]>;
  /** The first `length` tokens of a row at least are in another slot from the next step on. */
  move(from: number, to: number, length: number): void;
  /** Copies a chunk's tokens, which begin at token `at` of the slot, into a block; never where there are no blocks. */
  keep(slot: number, at: number, block: number): void;
  /** … and back, into whichever slot. */
  reuse(slot: number, at: number, block: number): void;
  /** The slot's row is gone, which had `length` tokens at most. */
  release(slot: number, length: number): void;
  /** After the bindings of its tensors. */
  close(): void;
}

/** In memory where a tensor may begin anywhere. */
export class KvCache implements RowsCache {
  /** By first slot and count. */
  private readonly made = new Map<string, DeviceTensor[]>();

  private constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    private readonly slots: number,
    private readonly capacity: number,
    private readonly chunk: number,
    private readonly kept: number,
    /** By layer, keys at 2 * layer and values at 2 * layer + 1. Never filled: pages become resident when written. */
    private readonly memories: readonly DeviceMemory[],
  ) {}

  /**
   * @param params.chunk tokens of a block.
   * @param params.kept tokens of a slot whose memory stays resident when the row ends. To give 1,000 back and have them
   * anew takes 25 ms of SmolLM2-135M, a twentieth of what reading them does: too much for every row.
   */
  static async allocate(
    params: RowsShape & { blocks: number; chunk: number; kept: number },
  ): Promise<KvCache> {
    const { device, config, slots, capacity, blocks, chunk, kept } = params;
    const bytes = (slots * capacity + blocks * chunk) * config.kvHeads * config.headDim * F32;
    const memories = [];
    for (let index = 0; index < config.layers * 2; index++) memories.push(await device.memory(bytes, true));
    return new KvCache(device, config, slots, capacity, chunk, kept, memories);
  }

  private get headBytes(): number {
    return this.capacity * this.config.headDim * F32;
  }

  private get slotBytes(): number {
    return this.config.kvHeads * this.headBytes;
  }

  async rowOf(slot: number): Promise<DeviceTensor[]> {
    return this.tensors(slot, 1);
  }

  async rowsFrom(from: number, count: number): Promise<DeviceTensor[]> {
    return this.tensors(from, count);
  }

  private tensors(slot: number, rows: number): DeviceTensor[] {
    const key = `${slot} ${rows}`;
    const known = this.made.get(key);
    if (known !== undefined) return known;
    const { kvHeads, headDim } = this.config;
    const tensors = this.memories.map((memory) =>
      this.device.tensor('f32', memory, slot * this.slotBytes, [rows, kvHeads, this.capacity, headDim]),
    );
    this.made.set(key, tensors);
    return tensors;
  }

  move(from: number, to: number, length: number): void {
    const { kvHeads, headDim } = this.config;
    const bytes = length * headDim * F32;
    for (const memory of this.memories)
      for (let head = 0; head < kvHeads; head++) {
        const at = head * this.headBytes;
        memory.copy(from * this.slotBytes + at, to * this.slotBytes + at, bytes);
      }
  }

  /** What lies in a slot is overwritten by the next row; memory of a long one, which may not come soon, goes back. */
  release(slot: number, length: number): void {
    if (length <= this.kept) return;
    const { kvHeads, headDim } = this.config;
    const [kept, written] = [this.kept * headDim * F32, length * headDim * F32];
    for (const memory of this.memories)
      for (let head = 0; head < kvHeads; head++) {
        const at = slot * this.slotBytes + head * this.headBytes;
        memory.giveBack?.(at + kept, written - kept);
      }
  }

  keep(slot: number, at: number, block: number): void {
    this.copyChunk(slot, at, block, (memory, inSlot, inBlock, bytes) => memory.copy(inSlot, inBlock, bytes));
  }

  reuse(slot: number, at: number, block: number): void {
    this.copyChunk(slot, at, block, (memory, inSlot, inBlock, bytes) => memory.copy(inBlock, inSlot, bytes));
  }

  private copyChunk(
    slot: number,
    at: number,
    block: number,
    copy: (memory: DeviceMemory, inSlot: number, inBlock: number, bytes: number) => void,
  ): void {
    const { kvHeads, headDim } = this.config;
    const bytes = this.chunk * headDim * F32;
    const blockAt = this.slots * this.slotBytes + block * kvHeads * bytes;
    for (const memory of this.memories)
      for (let head = 0; head < kvHeads; head++) {
        const inSlot = slot * this.slotBytes + head * this.headBytes + at * headDim * F32;
        copy(memory, inSlot, blockAt + head * bytes, bytes);
      }
  }

  close(): void {
    for (const tensors of this.made.values()) for (const tensor of tensors) tensor.close();
    for (const memory of this.memories) memory.close();
  }
}
