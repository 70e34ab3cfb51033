/** Moving rows between slots by runs, on the processor instead of a GPU. */
import { afterAll, expect, it } from 'vitest';
import type { DeltaNet, LlamaConfig } from '../../../gpu-origin/model/base-model.ts';
import {
  bytesOf,
  type DeviceTensor,
  type HostMemory,
  type OwnMemory,
} from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { SlotCache } from '../../../gpu-origin/runtime/kv-cache.ts';

const { device } = await openDevice({ provider: 'cpu', threads: 1 });
afterAll(() => device.close());

const CONFIG = { layers: 2, kvHeads: 1, headDim: 8 } as LlamaConfig;
const CAPACITY = 4;
const ROW = CAPACITY * CONFIG.headDim;

/** @returns a cache, and its tensors' content: one number for all that a row has in one. */
async function open(slots: number, config = CONFIG) {
  const places = new Map<DeviceTensor, { memory: HostMemory; dims: readonly number[] }>();
  const own: OwnMemory = {
    async allocate(type, dims) {
      const memory = await device.host(bytesOf(type, dims));
      const tensor = device.tensor(type, memory, 0, dims);
      places.set(tensor, { memory, dims });
      return tensor;
    },
    first(tensor, rows) {
      const { memory, dims } = places.get(tensor)!;
      const part = [rows, ...dims.slice(1)];
      const view = device.tensor('f32', memory, 0, part);
      places.set(view, { memory, dims: part });
      return view;
    },
    hasFp16: async () => false,
  };
  const cache = await SlotCache.allocate({
    ...{ device, own, precision: 'f32', config, slots, capacity: CAPACITY },
  });
  const floats = (tensor: DeviceTensor): Float32Array => {
    const { memory, dims } = places.get(tensor)!;
    return new Float32Array(memory.buffer, memory.offset, bytesOf('f32', dims) / 4);
  };
  return {
    cache,
    /** Like a step that reads a piece of a prompt. */
    async read(slot: number, past: number, value: number): Promise<void> {
      (await cache.rowOf(slot, past)).forEach((tensor, index) => floats(tensor).fill(value + index / 10));
    },
    /** What a step that starts at `past` sees. */
    async seen(slot: number, past: number): Promise<number[]> {
      return (await cache.rowOf(slot, past)).map((tensor) => Number(floats(tensor).at(-1)!.toFixed(1)));
    },
    /** What a step over the first rows sees of the last layer's values. */
    async all(count: number): Promise<number[]> {
      const last = floats((await cache.rowsFrom(0, count)).at(-1)!);
      return Array.from({ length: count }, (_, row) => Number(last[row * ROW]!.toFixed(1)));
    },
  };
}

it('moves rows into their slots when others are read, and when they decode', async () => {
  const { cache, read, all } = await open(3);
  await read(0, 0, 1);
  await read(1, 0, 2);
  await read(2, 0, 3);
  expect(await all(3)).toEqual([1.3, 2.3, 3.3]);
  expect(await cache.rowsFrom(0, 3)).toBe(await cache.rowsFrom(0, 3));
  cache.close();
});

it('continues reading a row whose start is in its slot, or still beside it', async () => {
  const { cache, read, seen, all } = await open(3);
  await read(0, 0, 1);
  await read(1, 0, 2);
  // Decoding the first leaves the second where it is read.
  expect(await all(1)).toEqual([1.3]);
  expect(await seen(1, 2)).toEqual([2, 2.1, 2.2, 2.3]);
  await read(2, 0, 3);
  expect(await seen(1, 2)).toEqual([2, 2.1, 2.2, 2.3]);
  cache.close();
});

it('moves rows in order, within the slots and from beside them, before the next step', async () => {
  const { cache, read, all, seen } = await open(4);
  for (const slot of [0, 1, 2]) await read(slot, 0, slot + 1);
  expect(await all(3)).toEqual([1.3, 2.3, 3.3]);
  cache.move(0, 3);
  cache.move(2, 0);
  cache.release(2);
  expect(await all(2)).toEqual([3.3, 2.3]);
  expect(await seen(3, 1)).toEqual([1, 1.1, 1.2, 1.3]);
  // A row that was just read moves to another one's former slot.
  await read(2, 0, 9);
  cache.move(2, 1);
  cache.release(2);
  expect(await all(2)).toEqual([3.3, 9.3]);
  cache.close();
});

it('forgets a row that is dropped while it is read, or whose slot is taken over', async () => {
  const { cache, read, all } = await open(3);
  await read(0, 0, 1);
  await read(1, 0, 2);
  cache.release(1);
  await read(2, 0, 3);
  cache.move(0, 2);
  expect(await all(3)).toEqual([1.3, 0, 1.3]);
  cache.close();
});

/** A layer with states of two heads, and one with attention. */
const STATES: DeltaNet = {
  ...{ keyHeads: 1, valueHeads: 2, keyDim: 2, valueDim: 3, kernel: 3, layers: [true, false] },
};

it('begins a row with states of zeros, and moves them with its keys and values', async () => {
  const { cache, read, seen, all } = await open(3, { ...CONFIG, deltaNet: STATES } as LlamaConfig);
  await read(0, 0, 1);
  await read(1, 0, 2);
  expect(await seen(0, 2)).toEqual([1, 1.1, 1.2, 1.3]);
  // Another prompt in the same slot.
  expect((await seen(0, 0)).slice(0, 2)).toEqual([0, 0]);
  expect((await seen(2, 0)).slice(0, 2)).toEqual([0, 0]);
  await read(2, 1, 3);
  cache.move(2, 0);
  cache.release(2);
  expect(await all(2)).toEqual([3.3, 2.3]);
  expect(await seen(0, 2)).toEqual([3, 3.1, 3.2, 3.3]);
  expect(await seen(1, 2)).toEqual([2, 2.1, 2.2, 2.3]);
  cache.close();
});
