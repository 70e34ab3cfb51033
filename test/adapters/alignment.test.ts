/** Files lie anywhere in memory, and not every writer pads a header: elements begin at any byte. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import {
  type AdapterFiles,
  diffAdapters,
  encodeCanonical,
  maxMagnitude,
  packAdapter,
  readAdapter,
  sumAdapters,
  toDtype,
  toFloat32,
  truncateAdapter,
  writeGgufAdapter,
  writePeftAdapter,
} from '../../adapters/index.ts';
import { transposeTensor } from '../../adapters/format/lora-module.ts';
import {
  BASE_ID,
  filled,
  kohyaFiles,
  kohyaTensors,
  mlxFiles,
  mlxTensors,
  peftFiles,
  peftTensors,
  tensor,
} from './make-adapter.ts';

const OFFSETS = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const ATTENTION = { heads: 3, kvHeads: 1 };

/** What else lies in the memory around the bytes: a reader that forgets where they begin finds it. */
const NEIGHBOURS = 0xa5;

function placed(bytes: Uint8Array, offset: number): Uint8Array<ArrayBuffer> {
  const memory = new Uint8Array(bytes.length + 64).fill(NEIGHBOURS);
  memory.set(bytes, offset);
  return memory.subarray(offset, offset + bytes.length);
}

/** As `readFile` and sockets give bytes: a view into a pool, whose `slice` is a view too. */
function pooled(bytes: Uint8Array, offset: number): Buffer {
  const { buffer, length } = placed(bytes, offset);
  return Buffer.from(buffer, offset, length);
}

const PLACES = OFFSETS.flatMap((offset) => [
  [`a Uint8Array at byte ${offset}`, placed, offset] as const,
  [`a Buffer at byte ${offset}`, pooled, offset] as const,
]);

/** F64 exists in PEFT and kohya files only. */
const TYPES = ['F32', 'F16', 'BF16'] as const;
const FILES: [name: string, AdapterFiles][] = [
  ...TYPES.flatMap((type): [string, AdapterFiles][] => {
    const { modules } = readAdapter(peftFiles({}, peftTensors(2, type)));
    return [
      [`PEFT ${type}`, peftFiles({}, peftTensors(2, type))],
      [`mlx-lm ${type}`, mlxFiles({}, mlxTensors(2, type))],
      [`kohya ${type}`, kohyaFiles(kohyaTensors(2, type))],
      [
        `canonical ${type}`,
        { weights: encodeCanonical({ base: BASE_ID, parent: null, modules }), configJson: null },
      ],
    ];
  }),
  ['PEFT F64', peftFiles({}, peftTensors(2, 'F64'))],
  ['kohya F64', kohyaFiles(kohyaTensors(2, 'F64'))],
  ...(['F32', 'F16'] as const).map((dtype): [string, AdapterFiles] => {
    const { modules } = readAdapter(peftFiles());
    const weights = writeGgufAdapter({ modules, attention: ATTENTION, baseModel: null, dtype });
    return [`GGUF ${dtype}`, { weights, configJson: null }];
  }),
];

/** Everything that the toolkit makes of an adapter's elements. */
async function madeOf(given: AdapterFiles) {
  const { modules, format } = readAdapter(given, { attention: ATTENTION });
  const pack = (dtype: 'keep' | 'BF16') =>
    packAdapter({ files: given, attention: ATTENTION, baseId: BASE_ID, parentChainId: null, dtype });
  return {
    format,
    packed: [(await pack('keep')).digest, (await pack('BF16')).digest],
    values: modules.map(({ a, b }) => [toFloat32(a), toFloat32(b), maxMagnitude(a), maxMagnitude(b)]),
    halves: toDtype(modules, 'F16').map(({ a, b }) => [toFloat32(a), toFloat32(b)]),
    peft: writePeftAdapter({ modules, baseModel: null }),
    gguf: writeGgufAdapter({ modules, attention: ATTENTION, baseModel: null, dtype: 'F32' }),
    sum: sumAdapters([
      { modules, scale: 0.5 },
      { modules, scale: 2 },
    ]).map(({ a, b }) => [toFloat32(a), toFloat32(b)]),
    difference: diffAdapters(modules, modules),
    truncated: truncateAdapter(modules, 1),
  };
}

describe.each(FILES)('a file of %s', (_, given) => {
  it('means the same at any memory alignment', async () => {
    const expected = await madeOf(given);
    for (const [where, place, offset] of PLACES) {
      const weights = place(given.weights, offset);
      expect(weights.byteOffset % 8).toBe(offset);
      const made = await madeOf({ ...given, weights });
      // Vitest's comparison takes most of a minute over all of these.
      const others = Object.entries(made).filter(
        ([name, value]) => !isDeepStrictEqual(value, expected[name as keyof typeof expected]),
      );
      expect(others, where).toEqual([]);
    }
  });
});

describe('a tensor', () => {
  it.each(['F32', 'F16', 'BF16'] as const)('of %s is transposed wherever it lies in memory', (dtype) => {
    const matrix = filled(3, 5, dtype);
    const expected = transposeTensor(matrix);
    for (const [where, place, offset] of PLACES)
      expect(transposeTensor({ ...matrix, data: place(matrix.data, offset) }), where).toEqual(expected);
  });

  it.each(['F32', 'F16', 'BF16', 'F64'] as const)(
    'of %s has the same values wherever it lies in memory',
    (dtype) => {
      const matrix = tensor([7], [1, -2, 3, -4, 5, -6, 0.5], dtype);
      for (const [where, place, offset] of PLACES) {
        const moved = { ...matrix, data: place(matrix.data, offset) };
        expect([...toFloat32(moved)], where).toEqual([1, -2, 3, -4, 5, -6, 0.5]);
        expect(maxMagnitude(moved), where).toBe(6);
      }
    },
  );
});
