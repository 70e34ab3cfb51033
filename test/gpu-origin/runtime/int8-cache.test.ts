/** int8 keys and values: conversion by fixed scales, and which memory has a row's tokens when. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NONE_CLIPPED } from '../../../gpu-origin/engine/ports.ts';
import type { LlamaConfig } from '../../../gpu-origin/model/base-model.ts';
import type { KvScales } from '../../../gpu-origin/model/llama-graph.ts';
import type { Device, HostMemory } from '../../../gpu-origin/runtime/device.ts';
import { scalesOf, turnedPeaks } from '../../../gpu-origin/runtime/kv-calibration.ts';
import { Int8Cache } from '../../../gpu-origin/runtime/kv-cache.ts';
import { KvQuantizer } from '../../../gpu-origin/runtime/kv-quantizer.ts';

const CONFIG = { layers: 2, kvHeads: 2, headDim: 24 } as LlamaConfig;
const CHANNELS = CONFIG.kvHeads * CONFIG.headDim;
const scales: KvScales = [0, 1].map((layer) => ({
  k: Float32Array.from({ length: CHANNELS }, (_, at) => 0.01 + 0.003 * ((at * 7 + layer) % 11)),
  v: Float32Array.from({ length: CHANNELS }, (_, at) => 0.02 + 0.001 * ((at * 5 + layer) % 13)),
}));
const stepOf = (index: number, channel: number): number =>
  (index & 1 ? scales[index >> 1]!.v : scales[index >> 1]!.k)[channel]!;

/** To even where a value lies in the middle, as IEEE 754 has it. */
function nearestEven(value: number): number {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

it('rounds to the nearest step, saturates, and widens to multiples of it', () => {
  const quantizer = new KvQuantizer(CONFIG, scales);
  const piece = fc.record({
    index: fc.nat(3),
    head: fc.nat(1),
    tokens: fc.integer({ min: 1, max: 150 }),
    seed: fc.integer({ min: 1, max: 1e6 }),
  });
  fc.assert(
    fc.property(piece, fc.boolean(), ({ index, head, tokens, seed }, writeBack) => {
      const floats = Float32Array.from({ length: tokens * CONFIG.headDim }, (_, at) =>
        at % 31 === 0 ? 100 * Math.sin(at + seed) : Math.sin(at * 1.3 + seed),
      );
      const exact = floats.slice();
      const bytes = new Int8Array(floats.length);
      quantizer.quantize({ index, head, floats, bytes }, writeBack);
      for (const [at, value] of exact.entries()) {
        const step = stepOf(index, head * CONFIG.headDim + (at % CONFIG.headDim));
        const steps = Math.fround(value * Math.fround(1 / step));
        expect(bytes[at]).toBe(Math.max(-128, Math.min(127, nearestEven(steps))) + 0);
        if (!writeBack) expect(floats[at]).toBe(value);
      }
      const widened = new Float32Array(floats.length);
      quantizer.dequantize({ index, head, floats: widened, bytes });
      if (writeBack) expect(floats).toEqual(widened);
      widened.forEach((value, at) => {
        const step = stepOf(index, head * CONFIG.headDim + (at % CONFIG.headDim));
        expect(value).toBe(Math.fround(bytes[at]! * step));
      });
    }),
    { numRuns: 6 },
  );
});

it('keeps what is not a number out of the bytes', () => {
  const quantizer = new KvQuantizer(CONFIG, scales);
  const bytes = new Int8Array(CONFIG.headDim).fill(1);
  const floats = new Float32Array(CONFIG.headDim).fill(NaN);
  floats[0] = Infinity;
  floats[1] = -Infinity;
  quantizer.quantize({ index: 0, head: 0, floats, bytes }, false);
  expect([...bytes.subarray(0, 3)]).toEqual([127, -128, 0]);
});

describe('scales', () => {
  it('leave room above the largest magnitude, and some for channels that are hardly used', () => {
    const peaks = [{ k: Float32Array.of(127, 1, 0, 0, 0, 0, 0, 0), v: new Float32Array(8) }];
    const none = [{ k: new Float32Array(8), v: new Float32Array(8) }];
    const [layer] = scalesOf({ headDim: 4 }, peaks, none);
    const used = layer!.k[0]!;
    expect(used).toBeGreaterThan(1);
    expect(used).toBeLessThan(1.3);
    for (const other of layer!.k.subarray(1, 4)) expect(other).toBeCloseTo(used / 64);
    expect([...layer!.v]).toEqual(new Array(8).fill(1));
  });

  it('keep the first token exact where there is room, and never clip a peak', () => {
    const value = fc.integer({ min: -1_000, max: 1_000 }).map((tenths) => tenths / 10);
    fc.assert(
      fc.property(fc.array(value, { minLength: 4, maxLength: 4 }), value, (values, more) => {
        const first = [{ k: Float32Array.from(values), v: Float32Array.from(values, (one) => -one) }];
        const magnitudes = Float32Array.from(values, (one) => Math.max(Math.abs(one), Math.abs(more)));
        const [{ k, v }] = scalesOf({ headDim: 4 }, [{ k: magnitudes, v: magnitudes }], first) as [
          KvScales[0],
        ];
        expect(k).toEqual(v);
        k.forEach((step, at) => {
          if (magnitudes.every((one) => one === 0)) return;
          expect(magnitudes[at]! / step).toBeLessThanOrEqual(127.001);
          const steps = Math.abs(first[0]!.k[at]!) / step;
          // With five steps or more, one of two neighbouring counts is within the room.
          if (steps > 5) expect(Math.abs(steps - Math.round(steps))).toBeLessThan(1e-4);
        });
      }),
    );
  });

  it('cover a key at every position of the context', () => {
    const number = fc.double({ min: -3, max: 3, noNaN: true });
    fc.assert(
      fc.property(
        ...[number, number, fc.nat(99), fc.double({ min: 1e-6, max: 1, noNaN: true })],
        (x, y, position, turn) => {
          const at = (other: number): [number, number] => {
            const angle = turn * (other as number);
            return [x * Math.cos(angle) - y * Math.sin(angle), y * Math.cos(angle) + x * Math.sin(angle)];
          };
          const peaks = turnedPeaks(...at(position), position, turn, 100);
          let [first, second] = [0, 0];
          for (let other = 0; other < 100; other++) {
            const turned = at(other);
            first = Math.max(first, Math.abs(turned[0]));
            second = Math.max(second, Math.abs(turned[1]));
          }
          expect(peaks[0]).toBeGreaterThanOrEqual(first - 1e-9);
          expect(peaks[1]).toBeGreaterThanOrEqual(second - 1e-9);
          expect(Math.max(...peaks)).toBeLessThanOrEqual(Math.hypot(x, y) + 1e-9);
          // Between two positions it may turn on by one step.
          expect(peaks[0] - first).toBeLessThanOrEqual(Math.hypot(x, y) * turn + 1e-9);
        },
      ),
    );
  });
});

describe('a row that is read in float32', () => {
  const SHAPE = { slots: 4, capacity: 16, blocks: 2, chunk: 4, kept: 16 };

  /** The memories: int8 keys and values of two layers, then those in float32. */
  async function opened() {
    const memories: HostMemory[] = [];
    const device = {
      async host(bytes: number): Promise<HostMemory> {
        const buffer = new ArrayBuffer(bytes);
        const all = new Uint8Array(buffer);
        const memory = {
          ...{ buffer, offset: 0, bytes },
          copy: (from: number, to: number, count: number) => void all.copyWithin(to, from, from + count),
          close: () => {},
        } as unknown as HostMemory;
        memories.push(memory);
        return memory;
      },
      tensor: () => ({ close: () => {} }),
    } as unknown as Device;
    const cache = await Int8Cache.allocate({ ...SHAPE, device, config: CONFIG, scales });
    const floats = new Float32Array(memories[4]!.buffer);
    const bytes = new Int8Array(memories[0]!.buffer);
    const read = async (slot: number, past: number, tokens: readonly number[]): Promise<void> => {
      await cache.rowOf(slot, past, tokens.length);
      // Attention writes them, each token one value.
      tokens.forEach((steps, at) => {
        for (let head = 0; head < 2; head++)
          for (let i = 0; i < CONFIG.headDim; i++)
            floats[(head * SHAPE.capacity + past + at) * CONFIG.headDim + i] =
              (steps + 0.25) * stepOf(0, head * CONFIG.headDim + i);
      });
    };
    /** Of layer 0's keys. */
    const inSlot = (slot: number, count: number): number[] =>
      Array.from({ length: count }, (_, at) => bytes[(slot * 2 * SHAPE.capacity + at) * CONFIG.headDim]!);
    /** In steps. */
    const inRow = (count: number): number[] =>
      Array.from({ length: count }, (_, at) => +(floats[at * CONFIG.headDim]! / stepOf(0, 0)).toFixed(2));
    return { cache, read, inSlot, inRow };
  }

  it('is rounded before its next chunk, and gets into its slot when it decodes', async () => {
    const { cache, read, inSlot, inRow } = await opened();
    await read(2, 0, [1, 2, 3, 4]);
    expect(inRow(4)).toEqual([1.25, 2.25, 3.25, 4.25]);
    expect(inSlot(2, 4)).toEqual([0, 0, 0, 0]);
    await read(2, 4, [5, 6]);
    expect(inRow(6)).toEqual([1, 2, 3, 4, 5.25, 6.25]);
    expect(inSlot(2, 6)).toEqual([1, 2, 3, 4, 0, 0]);
    await cache.rowsFrom(0, 2);
    expect(inSlot(2, 6)).toEqual([1, 2, 3, 4, 0, 0]);
    await cache.rowsFrom(0, 3);
    expect(inSlot(2, 6)).toEqual([1, 2, 3, 4, 5, 6]);
    // It has decoded: what is read behind it now begins with what the slot has.
    await read(2, 6, [7]);
    expect(inRow(7)).toEqual([1, 2, 3, 4, 5, 6, 7.25]);
  });

  it('makes room for another one, and goes on as if it had not', async () => {
    const { cache, read, inRow, inSlot } = await opened();
    await read(0, 0, [1, 2, 3, 4]);
    await read(1, 0, [11, 12, 13, 14]);
    expect(inSlot(0, 4)).toEqual([1, 2, 3, 4]);
    cache.move(0, 3, 4);
    cache.move(1, 0, 4);
    await read(3, 4, [5]);
    expect(inRow(5)).toEqual([1, 2, 3, 4, 5.25]);
    expect(inSlot(0, 4)).toEqual([11, 12, 13, 14]);
  });

  it('has the same values from a kept chunk as from its own', async () => {
    const { cache, read, inRow, inSlot } = await opened();
    await read(0, 0, [1, 2, 3, 4]);
    cache.keep({ slot: 0, at: 0, block: 1, tokens: 4 });
    cache.release(0, 4);
    cache.reuse({ slot: 1, at: 0, block: 1, tokens: 4 });
    await read(1, 4, [5]);
    expect(inRow(5)).toEqual([1, 2, 3, 4, 5.25]);
    expect(inSlot(1, 4)).toEqual([1, 2, 3, 4]);
  });

  it('leaves nothing to the next row of its slot', async () => {
    const { cache, read, inSlot, inRow } = await opened();
    await read(0, 0, [1, 2, 3, 4]);
    cache.release(0, 4);
    await read(0, 0, [9]);
    expect(inRow(1)).toEqual([9.25]);
    await cache.rowsFrom(0, 1);
    expect(inSlot(0, 4)).toEqual([9, 0, 0, 0]);
  });

  it('counts what int8 cannot hold, until other rows run', async () => {
    const { cache, read } = await opened();
    await read(0, 0, [1, 200, 3, -300]);
    const { clipped, values, lost } = cache.clipped(0);
    expect(clipped).toBe(2 * CHANNELS);
    // In layer 0, 200.25 and -299.75 steps, of which 127.5 are held.
    expect(lost / CHANNELS).toBeCloseTo(72.75 ** 2 + 172.25 ** 2, 0);
    expect(values).toBe(4 * 4 * CHANNELS);
    expect(cache.clipped(1)).toEqual(NONE_CLIPPED);
    await cache.rowsFrom(0, 1);
    expect(cache.clipped(0)).toEqual(NONE_CLIPPED);
  });
});
