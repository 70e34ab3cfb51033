import { expect, it } from 'vitest';
import { BlockWeights } from '../../../gpu-origin/model/web-base.ts';
import type { WeightEntry } from '../../../gpu-origin/model/base-model.ts';
import { quantizeByteBlocks, quantizeLinear } from '../../../gpu-origin/model/prepare-weights.ts';

/** Neither a multiple of a block nor of the other. */
const [ROWS, COLUMNS] = [5, 70];

function fileOf(
  tensors: [name: string, type: WeightEntry['type'], dims: number[], data: ArrayBufferView][],
): {
  entries: WeightEntry[];
  bytes: Uint8Array;
} {
  const bytes = new Uint8Array(tensors.length * 4_096);
  const entries = tensors.map(([name, type, dims, data], at) => {
    const own = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    bytes.set(own, at * 4_096);
    return { name, type, dims, offset: at * 4_096, bytes: own.length };
  });
  return { entries, bytes };
}

const weight = Float32Array.from({ length: ROWS * COLUMNS }, (_, at) => Math.sin(1.7 * at + 0.01 * at * at));
const made = quantizeLinear(weight, ROWS, COLUMNS);
const { entries, bytes } = fileOf([
  ['embed', 'i8', [ROWS, COLUMNS], new Int8Array(ROWS * COLUMNS).map((_, at) => at)],
  ['embed.s', 'f32', [ROWS, 1], new Float32Array(ROWS).fill(3)],
  ['l0.o.w', 'i8', [COLUMNS, ROWS], made.values],
  ['l0.o.s', 'f32', [ROWS], made.scales],
  ['l0.o.b', 'f32', [ROWS], new Float32Array(ROWS).fill(2)],
]);
const blocks = new BlockWeights(entries);
const read = (name: string): Uint8Array => {
  const entry = blocks.entries.find((one) => one.name === name)!;
  return blocks.read(entry.offset, entry.offset + entry.bytes, (from, to) => bytes.subarray(from, to));
};
const floats = (name: string): number[] => [...new Float32Array(read(name).slice().buffer)];

it('has the same weights in blocks, each with the scale of its row', () => {
  const shape = quantizeByteBlocks(weight, ROWS, COLUMNS);
  const [values, scales] = ['l0.o.w', 'l0.o.s'].map((name) =>
    blocks.entries.find((one) => one.name === name)!,
  );
  expect(values).toMatchObject({ type: 'u8', dims: [ROWS, 3, 32], bytes: shape.values.length });
  expect(scales).toMatchObject({ type: 'f32', dims: [ROWS * 3], bytes: shape.scales.byteLength });
  const all = read('l0.o.w');
  const ofRow = floats('l0.o.s');
  for (let row = 0; row < ROWS; row++)
    for (let column = 0; column < 96; column++) {
      const value = (all[row * 96 + column]! - 128) * ofRow[row * 3 + (column >> 5)]!;
      const before = column < COLUMNS ? made.values[column * ROWS + row]! * made.scales[row]! : 0;
      expect(value).toBe(before);
    }
});

it('leaves everything else as it is, at its own place', () => {
  expect(read('embed')).toEqual(bytes.subarray(0, ROWS * COLUMNS));
  expect(floats('embed.s')).toEqual([3, 3, 3, 3, 3]);
  expect(floats('l0.o.b')).toEqual([2, 2, 2, 2, 2]);
  const ends = blocks.entries.map(({ offset, bytes: size }) => offset + size);
  blocks.entries.slice(1).forEach(({ offset }, at) => expect(offset).toBeGreaterThanOrEqual(ends[at]!));
  expect(ends.at(-1)).toBeLessThanOrEqual(blocks.byteLength);
});

it('is read tensor by tensor', () => {
  expect(() => blocks.read(1, 2, () => new Uint8Array(1))).toThrow('no tensor begins at byte 1');
  expect(() => blocks.read(0, 7, (from, to) => bytes.subarray(from, to))).toThrow(
    'embed has 350 bytes, not 7',
  );
});
