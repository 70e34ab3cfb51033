import { expect, it } from 'vitest';
import { GraphBuilder, MICROSOFT } from '../../../gpu-origin/model/onnx-proto.ts';
import type { DeviceTensor } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';

const HEADS = 3;
const SIZE = 64;
const CAPACITY = 2_048;
/** More than one block of keys, for any processor's cache. */
const LENGTH = 2_000;

/** One token's attention in each of several rows: queries, keys and values from a seed. */
function graph(): Uint8Array {
  const g = new GraphBuilder();
  g.input('q', 'f32', ['B', 1, HEADS * SIZE]);
  for (const name of ['k', 'v']) {
    g.input(name, 'f32', ['B', 1, SIZE]);
    g.input(`past.${name}`, 'f32', ['B', 1, 'M', SIZE]);
  }
  g.input('last_position', 'i32', ['B']);
  g.input('total_length', 'i32', [1]);
  const inputs = ['q', 'k', 'v', 'past.k', 'past.v', 'last_position', 'total_length'];
  const attributes = { num_heads: HEADS, kv_num_heads: 1, do_rotary: 0 };
  g.node('GroupQueryAttention', inputs, ['y', 'present.k', 'present.v'], attributes, MICROSOFT);
  g.output('y', 'f32', ['B', 1, HEADS * SIZE]);
  for (const name of ['k', 'v']) g.output(`present.${name}`, 'f32', ['B', 1, 'M', SIZE]);
  return g.build('attention');
}

const noise = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, at) =>
    Math.sin((at + 1) * 12.9898 + seed * 78.233 + 1e-3 * at * at),
  );

it('attention of a row has the same bits alone and in a batch, on more threads than it has heads', async () => {
  const { device } = await openDevice({ provider: 'cpu', threads: 2 * HEADS });
  const session = await device.session(graph(), null);
  const first = async (rows: number): Promise<Float32Array> => {
    const binding = session.bind();
    const made: { close(): void }[] = [];
    const tensor = async (dims: number[], data: Float32Array | Int32Array): Promise<DeviceTensor> => {
      const memory = await device.host(data.byteLength);
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      new Uint8Array(memory.buffer, memory.offset, data.byteLength).set(bytes);
      const one = device.tensor(data instanceof Int32Array ? 'i32' : 'f32', memory, 0, dims);
      made.push(one, memory);
      return one;
    };
    binding.input('q', await tensor([rows, 1, HEADS * SIZE], noise(rows * HEADS * SIZE, 1)));
    for (const [seed, name] of [[2, 'k'] as const, [3, 'v'] as const]) {
      binding.input(name, await tensor([rows, 1, SIZE], noise(rows * SIZE, seed)));
      const kept = await tensor([rows, 1, CAPACITY, SIZE], noise(rows * CAPACITY * SIZE, seed + 2));
      binding.input(`past.${name}`, kept);
      binding.output(`present.${name}`, kept);
    }
    // Each of the others has a different length.
    const last = Int32Array.from({ length: rows }, (_, row) => LENGTH - 1 - 7 * row);
    binding.input('last_position', await tensor([rows], last));
    binding.input('total_length', await tensor([1], Int32Array.of(LENGTH)));
    const output = await device.host(rows * HEADS * SIZE * Float32Array.BYTES_PER_ELEMENT);
    const y = device.tensor('f32', output, 0, [rows, 1, HEADS * SIZE]);
    binding.output('y', y);
    await binding.run();
    binding.close();
    for (const one of [...made, y]) one.close();
    return new Float32Array(output.buffer, output.offset, HEADS * SIZE).slice();
  };
  const alone = await first(1);
  expect(alone.every(Number.isFinite)).toBe(true);
  expect(await first(4)).toEqual(alone);
  session.close();
  await device.close();
});
