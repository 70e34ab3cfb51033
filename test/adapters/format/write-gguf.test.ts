import { expect, it } from 'vitest';
import { parseGgufHeader, writeGguf } from '../../../adapters/format/gguf.ts';

const text = (value: string): number[] => [
  value.length,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  ...new TextEncoder().encode(value),
];

it('writes exactly these bytes', () => {
  const file = writeGguf({
    metadata: new Map([
      ['s', { type: 'string', value: 'v' }],
      ['n', { type: 'u32', value: 258 }],
      ['f', { type: 'f32', value: 1 }],
    ]),
    tensors: [
      { name: 't', shape: [1, 2], type: 0, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) },
      { name: 'u', shape: [1], type: 24, data: Uint8Array.of(9) },
    ],
  });
  const u32 = (value: number): number[] => [value & 255, value >> 8, 0, 0];
  const u64 = (value: number): number[] => [...u32(value), 0, 0, 0, 0];
  const header = [
    ...[0x47, 0x47, 0x55, 0x46, ...u32(3), ...u64(2), ...u64(3)],
    ...[...text('s'), ...u32(8), ...text('v')],
    ...[...text('n'), ...u32(4), ...u32(258)],
    ...[...text('f'), ...u32(6), 0, 0, 0x80, 0x3f],
    // Sizes innermost first, type, offset.
    ...[...text('t'), ...u32(2), ...u64(2), ...u64(1), ...u32(0), ...u64(0)],
    ...[...text('u'), ...u32(1), ...u64(1), ...u32(24), ...u64(32)],
  ];
  const padded = (bytes: number[]): number[] => [
    ...bytes,
    ...Array<number>((32 - (bytes.length % 32)) % 32).fill(0),
  ];
  expect([...file]).toEqual([...padded(header), ...padded([1, 2, 3, 4, 5, 6, 7, 8]), ...padded([9])]);
});

it('is read back as it was given', () => {
  const data = Uint8Array.from({ length: 48 }, (_, i) => i);
  const file = writeGguf({
    metadata: new Map([['naïve.ключ', { type: 'string', value: '😀' }]]),
    tensors: [
      { name: 'a', shape: [3, 4], type: 0, data },
      { name: 'b', shape: [4, 6], type: 1, data },
    ],
  });
  const header = parseGgufHeader({ header: file, fileBytes: file.length, limits: { tensors: 2, values: 1 } });
  expect([...header!.metadata]).toEqual([['naïve.ключ', '😀']]);
  expect(
    [...header!.tensors.values()].map(({ name, shape, type, bytes }) => [name, shape, type, bytes]),
  ).toEqual([
    ['a', [3, 4], 0, 48],
    ['b', [4, 6], 1, 48],
  ]);
  for (const { offset, bytes } of header!.tensors.values()) {
    expect(offset % 32).toBe(0);
    expect(file.slice(offset, offset + bytes)).toEqual(data);
  }
  expect(header!.end).toBe(file.length);
});
