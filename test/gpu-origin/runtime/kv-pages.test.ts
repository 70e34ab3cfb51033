/** Keys' and values' memory is resident where it is written, and released when a long row ends. */
import { describe, expect, it } from 'vitest';
import type { LlamaConfig } from '../../../gpu-origin/model/base-model.ts';
import type { HostMemory } from '../../../gpu-origin/runtime/device.ts';
import { KvCache } from '../../../gpu-origin/runtime/kv-cache.ts';
import {
  NativeDevice,
  type NativeMemory,
  ortLibrary,
} from '../../../gpu-origin/runtime/native/native-device.ts';
import { freeHeap, residentPages } from '../../fixtures/resident-pages.ts';
import { makeTinyRunner, prefillAll } from '../../fixtures/tiny-runner.ts';

const LINUX = process.platform === 'linux';
const SHAPE = { slots: 64, capacity: 8_192, blocks: 2, chunk: 128, kept: 1_024 };
/** One layer, so that the test writes little; more than 32 MB, so that it is mapped and not malloc's. */
const CONFIG = { layers: 1, kvHeads: 2, headDim: 32 } as LlamaConfig;
const TOKEN_BYTES = CONFIG.headDim * 4;
const HEAD_BYTES = SHAPE.capacity * TOKEN_BYTES;

/** A cache and its memory: keys, then values. */
async function opened() {
  const device = new NativeDevice(ortLibrary(), 1);
  const memories: NativeMemory[] = [];
  const { host } = device;
  device.host = async (bytes, sparse): Promise<HostMemory> => {
    const made = await host.call(device, bytes, sparse);
    memories.push(made as NativeMemory);
    return made;
  };
  const cache = await KvCache.allocate({ ...SHAPE, device, config: CONFIG });
  return { cache, memories };
}

const headAt = (slot: number, head: number): number => (slot * CONFIG.kvHeads + head) * HEAD_BYTES;

/** Like attention. */
function write(memory: NativeMemory, slot: number, tokens: number, value = slot + 1): void {
  const values = new Float32Array(tokens * CONFIG.headDim).fill(value);
  for (let head = 0; head < CONFIG.kvHeads; head++) memory.write(headAt(slot, head), values);
}

function pageCounter() {
  const { size, begin, resident } = residentPages();
  return {
    size,
    resident: (memory: NativeMemory): number => resident(memory.from(0)),
    /** Pages that the first `tokens` of each row's heads touch. */
    touched(memory: NativeMemory, rows: readonly { slot: number; tokens: number }[]): number {
      const first = begin(memory.from(0));
      const touched = new Set<number>();
      for (const { slot, tokens } of rows)
        for (let head = 0; head < CONFIG.kvHeads; head++) {
          const at = first + headAt(slot, head);
          for (let page = Math.floor(at / size); page * size < at + tokens * TOKEN_BYTES; page++)
            if (page * size >= first) touched.add(page);
        }
      return touched.size;
    },
  };
}

describe.runIf(LINUX)('64 rows of 8,192 tokens', () => {
  it('use only the pages that are written', async () => {
    const { cache, memories } = await opened();
    const { size, resident, touched } = pageCounter();
    const rows = Array.from({ length: 64 }, (_, slot) => ({ slot, tokens: 1 + ((slot * 37) % 300) }));
    for (const memory of memories) {
      expect(memory.bytes).toBeGreaterThan(64 * 8_192 * 2 * TOKEN_BYTES - 1);
      expect(resident(memory)).toBe(0);
      for (const { slot, tokens } of rows) write(memory, slot, tokens);
      expect(resident(memory)).toBe(touched(memory, rows));
      // A fortieth of the reserved memory, in pages of 4 kB.
      expect(resident(memory) * size).toBeLessThan(memory.bytes / 10);
    }
    cache.close();
  });

  it('use none where other memory was mapped before', async () => {
    const { giveBack } = freeHeap();
    const { cache, memories } = await opened();
    const { resident } = pageCounter();
    for (const memory of memories) {
      expect(resident(memory)).toBe(0);
      expect(memory.from(0).every((byte) => byte === 0)).toBe(true);
    }
    cache.close();
    giveBack();
  });

  it('release what is beyond the first tokens of a long row, and nothing of short rows or neighbours', async () => {
    const { cache, memories } = await opened();
    const { size, resident, touched } = pageCounter();
    const [keys] = memories as [NativeMemory];
    for (const slot of [2, 3, 4]) write(keys, slot, 8_192);
    write(keys, 5, 1_000);
    cache.keep({ slot: 3, at: 8_192 - 128, block: 1, tokens: 128 });
    const full = [2, 4].map((slot) => ({ slot, tokens: 8_192 }));
    const block = new Float32Array(keys.buffer, keys.offset + 64 * CONFIG.kvHeads * HEAD_BYTES).slice();
    expect(block.slice(-128 * CONFIG.headDim).every((value) => value === 4)).toBe(true);

    const before = resident(keys);
    cache.release(5, 1_000);
    expect(resident(keys)).toBe(before);
    cache.release(3, 8_192);
    // Its last page is shared with the next row, its first with the previous one.
    const gone = CONFIG.kvHeads * ((8_192 - SHAPE.kept) * TOKEN_BYTES - size);
    expect(before - resident(keys)).toBeGreaterThanOrEqual(gone / size - CONFIG.kvHeads);
    expect(before - resident(keys)).toBeLessThan(
      touched(keys, [{ slot: 3, tokens: 8_192 }]) - touched(keys, [{ slot: 3, tokens: SHAPE.kept }]) + 1,
    );
    for (const { slot } of full)
      for (let head = 0; head < CONFIG.kvHeads; head++) {
        const values = new Float32Array(
          keys.buffer,
          keys.offset + headAt(slot, head),
          SHAPE.capacity * CONFIG.headDim,
        );
        expect(values.every((value) => value === slot + 1)).toBe(true);
      }
    expect(new Float32Array(keys.buffer, keys.offset + 64 * CONFIG.kvHeads * HEAD_BYTES)).toEqual(block);
    cache.reuse({ slot: 3, at: 0, block: 1, tokens: 128 });
    const again = new Float32Array(keys.buffer, keys.offset + headAt(3, 0), 128 * CONFIG.headDim);
    expect(again.every((value) => value === 4)).toBe(true);
    cache.close();
  });
});

it('a row in a long row’s former slot has the same bits as elsewhere', async () => {
  // So little memory that a slot keeps 32 tokens.
  const tiny = await makeTinyRunner({ slots: 8, adapterBytes: 1e15 });
  const { runner } = tiny;
  const tokens = (count: number, seed: number): number[] =>
    Array.from({ length: count }, (_, index) => (index * index * 31 + seed + index) % 259);
  const answer = async (slot: number): Promise<Float32Array[]> => {
    runner.assign(slot, null);
    const rows = await prefillAll(runner, slot, tokens(200, 7));
    for (let length = 200; slot === 0 && length < 210; length++)
      rows.push((await runner.decode({ tokens: [length % 259], lengths: [length] })).slice());
    runner.release(slot);
    return rows;
  };
  const first = await answer(0);
  runner.assign(0, null);
  await prefillAll(runner, 0, tokens(500, 3));
  runner.release(0);
  expect(await answer(0)).toEqual(first);
  // Used by a long row that moved away.
  runner.assign(1, null);
  await prefillAll(runner, 1, tokens(400, 5));
  runner.move(1, 0, 400);
  runner.release(0);
  expect((await answer(1))[0]).toEqual(first[0]);
  expect(await answer(0)).toEqual(first);
  await tiny.close();
});

it('more than possible is refused, with a suggestion', async () => {
  const device = new NativeDevice(ortLibrary(), 1);
  await expect(device.memory(2 ** 50)).rejects.toThrow(
    /^memory: 1125899\.9 GB cannot be allocated at once. Use fewer --slots or a shorter --context$/,
  );
});
