/** Keys and values of all rows: per layer `[slots, kvHeads, capacity, headDim]`, in place for the whole life of a row. */
import type { LlamaConfig } from '../model/base-model.ts';
import { allocate } from './ort-session.ts';

export class KvCache {
  /** By layer, keys at 2 * layer and values at 2 * layer + 1. Never filled: pages become resident when written. */
  readonly buffers: Float32Array<ArrayBuffer>[];
  private readonly slotSize: number;

  /** @param capacity tokens per slot. */
  constructor(
    private readonly config: LlamaConfig,
    slots: number,
    readonly capacity: number,
  ) {
    this.slotSize = config.kvHeads * capacity * config.headDim;
    this.buffers = Array.from(
      { length: config.layers * 2 },
      () => new Float32Array(allocate(slots * this.slotSize * Float32Array.BYTES_PER_ELEMENT)),
    );
  }

  /** The memory of one slot and all behind it. */
  from(buffer: number, slot: number): Float32Array<ArrayBuffer> {
    return this.buffers[buffer]!.subarray(slot * this.slotSize);
  }

  dims(rows: number): number[] {
    return [rows, this.config.kvHeads, this.capacity, this.config.headDim];
  }

  /** Copies the first `length` tokens of a row to another slot. */
  move(from: number, to: number, length: number): void {
    const { kvHeads, headDim } = this.config;
    const head = this.capacity * headDim;
    for (const buffer of this.buffers)
      for (let h = 0; h < kvHeads; h++) {
        const source = from * this.slotSize + h * head;
        buffer.copyWithin(to * this.slotSize + h * head, source, source + length * headDim);
      }
  }
}
