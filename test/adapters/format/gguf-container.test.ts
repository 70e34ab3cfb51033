import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AdapterFormatError, type AdapterErrorCode } from '../../../adapters/errors.ts';
import { parseGgufHeader, GGML_TYPES } from '../../../adapters/format/gguf.ts';
import { encodeGguf } from '../../fixtures/write-gguf.ts';
import { refusal } from '../make-adapter.ts';

const LIMITS = { tensors: 8, values: 64 };
const parse = (bytes: Uint8Array, fileBytes = bytes.length) =>
  parseGgufHeader({ header: bytes, fileBytes, limits: LIMITS, path: 'x.gguf' });

/** Little-endian bytes of `size` of an integer. */
const int = (value: number | bigint, size: number): number[] =>
  Array.from({ length: size }, (_, i) => Number((BigInt.asUintN(64, BigInt(value)) >> BigInt(8 * i)) & 255n));
const text = (value: string | number[]): number[] => {
  const bytes = typeof value === 'string' ? [...new TextEncoder().encode(value)] : value;
  return [...int(bytes.length, 8), ...bytes];
};
const kv = (key: string | number[], type: number, value: number[]): number[] => [
  ...text(key),
  ...int(type, 4),
  ...value,
];
const array = (type: number, count: number | bigint, items: number[]): number[] => [
  ...int(type, 4),
  ...int(count, 8),
  ...items,
];
const entry = (
  name: string | number[],
  sizes: (number | bigint)[],
  type: number,
  offset: number | bigint,
): number[] => [
  ...text(name),
  ...int(sizes.length, 4),
  ...sizes.flatMap((size) => int(size, 8)),
  ...int(type, 4),
  ...int(offset, 8),
];
/** A file of raw parts; the header is padded to 32 bytes, then `data` zeros follow. */
function file(params: {
  metadata?: number[][];
  tensors?: number[][];
  data?: number;
  version?: number[];
  counts?: (number | bigint)[];
}): Uint8Array {
  const { metadata = [], tensors = [], data = 0, version = int(3, 4) } = params;
  const [tensorCount = 0, metadataCount = 0] = params.counts ?? [tensors.length, metadata.length];
  const header = [
    ...[0x47, 0x47, 0x55, 0x46, ...version, ...int(tensorCount, 8), ...int(metadataCount, 8)],
    ...[...metadata.flat(), ...tensors.flat()],
  ];
  const bytes = new Uint8Array(Math.ceil(header.length / 32) * 32 + data);
  bytes.set(header);
  return bytes;
}
const good = encodeGguf({ 'general.architecture': 'llama', list: ['a', 'b'], number: 3 }, [
  { name: 't', shape: [2, 32], type: 8, data: new Uint8Array(68) },
  { name: 'u', shape: [3], type: 0, data: new Uint8Array(12) },
]);

describe('reading', () => {
  it('reads metadata of every type', () => {
    const float = new Uint8Array(Float32Array.of(1.5).buffer);
    const double = new Uint8Array(Float64Array.of(-2.25).buffer);
    const metadata = [
      kv('u8', 0, [200]),
      kv('i8', 1, int(-3, 1)),
      kv('u16', 2, int(60_000, 2)),
      kv('i16', 3, int(-300, 2)),
      kv('u32', 4, int(4_000_000_000, 4)),
      kv('i32', 5, int(-70_000, 4)),
      kv('f32', 6, [...float]),
      kv('bool', 7, [1]),
      kv('string', 8, text('héllo')),
      kv('array', 9, array(8, 2, [...text('a'), ...text('')])),
      kv('nested', 9, array(9, 1, array(9, 1, array(0, 2, [1, 2])))),
      kv('u64', 10, int(2 ** 53 - 1, 8)),
      kv('i64', 11, int(-(2 ** 53) + 1, 8)),
      kv('f64', 12, [...double]),
      kv('__proto__', 8, text('a name like any other')),
      kv('empty', 9, array(4, 0, [])),
    ];
    expect([...parse(file({ metadata }))!.metadata]).toEqual([
      ['u8', 200],
      ['i8', -3],
      ['u16', 60_000],
      ['i16', -300],
      ['u32', 4_000_000_000],
      ['i32', -70_000],
      ['f32', 1.5],
      ['bool', true],
      ['string', 'héllo'],
      ['array', ['a', '']],
      ['nested', [[[1, 2]]]],
      ['u64', 2 ** 53 - 1],
      ['i64', -(2 ** 53) + 1],
      ['f64', -2.25],
      ['__proto__', 'a name like any other'],
      ['empty', []],
    ]);
  });

  it('reads shapes outermost first, positions from the beginning of the file, versions 2 and 3', () => {
    for (const version of [2, 3]) {
      const bytes = good.slice();
      bytes[4] = version;
      const { tensors, end } = parse(bytes)!;
      const start = good.length - 96 - 32;
      expect([...tensors.values()]).toEqual([
        { name: 't', shape: [2, 32], type: 8, offset: start, bytes: 68 },
        { name: 'u', shape: [3], type: 0, offset: start + 96, bytes: 12 },
      ]);
      expect(end).toBe(good.length);
    }
  });

  it('reads a custom alignment', () => {
    const tensors = [entry('a', [1], 0, 0), entry('b', [1], 0, 64)];
    const metadata = [kv('general.alignment', 4, int(64, 4))];
    const [a, b] = [...parse(file({ metadata, tensors, data: 128 }))!.tensors.values()];
    expect([a!.offset % 64, b!.offset - a!.offset]).toEqual([0, 64]);
  });

  it('reads a file that ends with the last tensor, before its padding', () => {
    expect(parse(good.subarray(0, good.length - 20))?.end).toBe(good.length);
    refusal('truncated_file', () => parse(good.subarray(0, good.length - 21)));
  });

  it('returns null while more of the file is needed', () => {
    const table = good.length - 128;
    for (let length = 0; length < table; length++) {
      const parsed = parse(good.subarray(0, length), good.length);
      // The last bytes before the data are padding.
      if (parsed !== null) expect(length).toBeGreaterThan(table - 32);
    }
    expect(parse(good.subarray(0, table), good.length)).toEqual(parse(good));
  });

  it("knows the sizes of ggml's types", () => {
    for (const [name, bits] of [
      ['F32', 32],
      ['F16', 16],
      ['BF16', 16],
      ['Q8_0', 8.5],
      ['Q4_0', 4.5],
      ['Q6_K', 6.5625],
      ['IQ4_XS', 4.25],
    ] as const) {
      const type = [...GGML_TYPES.values()].find((one) => one.name === name)!;
      expect((type.bytes * 8) / type.elements).toBe(bits);
    }
  });
});

describe('refusals', () => {
  const one = (type: number, value: number[]): Uint8Array => file({ metadata: [kv('key', type, value)] });
  const tensor = (...parts: Parameters<typeof entry>): Uint8Array =>
    file({ tensors: [entry(...parts)], data: 64 });
  const refused: [string, Uint8Array, AdapterErrorCode][] = [
    ['an empty file', new Uint8Array(0), 'truncated_file'],
    ['23 bytes', good.slice(0, 23), 'truncated_file'],
    ['a zip archive', new TextEncoder().encode('PK\x03\x04 and more than 24 bytes'), 'header_invalid'],
    ['version 1', file({ version: int(1, 4) }), 'header_invalid'],
    ['version 4', file({ version: int(4, 4) }), 'header_invalid'],
    ['big-endian', file({ version: [0, 0, 0, 3] }), 'header_invalid'],
    ['2^63 tensors', file({ counts: [1n << 63n, 0] }), 'header_invalid'],
    ['2^64 - 1 metadata entries', file({ counts: [0, (1n << 64n) - 1n] }), 'header_invalid'],
    ['2^53 tensors', file({ counts: [1n << 53n, 0] }), 'header_invalid'],
    ['2^53 - 1 tensors', file({ counts: [2 ** 53 - 1, 0] }), 'too_many_tensors'],
    ['nine tensors', file({ counts: [9, 0] }), 'too_many_tensors'],
    ['65 metadata entries', file({ counts: [0, 65] }), 'header_too_large'],
    ['more entries than the file holds', file({ counts: [0, 64] }), 'truncated_file'],
    ['a key of 2^52 bytes', file({ metadata: [int(2 ** 52, 8)], counts: [0, 1] }), 'truncated_file'],
    ['a key of 2^64 - 1 bytes', file({ metadata: [int(-1, 8)], counts: [0, 1] }), 'header_invalid'],
    ['a key of 65,536 bytes', file({ metadata: [kv('k'.repeat(65_536), 0, [1])] }), 'header_invalid'],
    ['a key that is not UTF-8', file({ metadata: [kv([0xff, 0xfe], 0, [1])] }), 'header_invalid'],
    ['a key twice', file({ metadata: [kv('k', 0, [1]), kv('k', 0, [1])] }), 'duplicate_key'],
    ['an unknown type', one(13, []), 'metadata_invalid'],
    ['a string that is not UTF-8', one(8, text([0xc3])), 'header_invalid'],
    ['a string with an encoded surrogate', one(8, text([0xed, 0xa0, 0x80])), 'header_invalid'],
    ['a string that is too long', one(8, int(1_000, 8)), 'truncated_file'],
    ['an integer above 2^53', one(10, int(1n << 53n, 8)), 'header_invalid'],
    ['an integer below -2^53', one(11, int(-(1n << 53n), 8)), 'header_invalid'],
    ['an array of 2^60 bytes', one(9, array(0, 2n ** 52n, [])), 'truncated_file'],
    ['an array of more strings than fit', one(9, array(8, 20, int(0, 64))), 'truncated_file'],
    ['an array of an unknown type', one(9, array(99, 1, [0])), 'metadata_invalid'],
    ['arrays of more values than the limit', one(9, array(0, 65, int(0, 65))), 'header_too_large'],
    [
      'an array that nests four deep',
      one(9, array(9, 1, array(9, 1, array(9, 1, array(0, 1, [1]))))),
      'metadata_invalid',
    ],
    ['an alignment of 3', file({ metadata: [kv('general.alignment', 4, int(3, 4))] }), 'metadata_invalid'],
    ['an alignment of 0', file({ metadata: [kv('general.alignment', 4, int(0, 4))] }), 'metadata_invalid'],
    ['an alignment of -8', file({ metadata: [kv('general.alignment', 5, int(-8, 4))] }), 'metadata_invalid'],
    [
      'an alignment of 2^17',
      file({ metadata: [kv('general.alignment', 4, int(2 ** 17, 4))] }),
      'metadata_invalid',
    ],
    [
      'an alignment that is text',
      file({ metadata: [kv('general.alignment', 8, text('32'))] }),
      'metadata_invalid',
    ],
    ['a name of 2^40 bytes', file({ tensors: [int(2 ** 40, 8)], counts: [1, 0] }), 'truncated_file'],
    ['a name that is not UTF-8', tensor([0x80], [1], 0, 0), 'header_invalid'],
    ['five dimensions', tensor('t', [1, 1, 1, 1, 1], 0, 0), 'shape_invalid'],
    ['2^32 - 1 dimensions', file({ tensors: [[...text('t'), ...int(-1, 4)]] }), 'shape_invalid'],
    ['a size of 2^63', tensor('t', [1n << 63n], 0, 0), 'header_invalid'],
    ['sizes whose product overflows', tensor('t', [0, 2 ** 52, 2 ** 52], 0, 0), 'shape_invalid'],
    ['sizes whose product with the type overflows', tensor('t', [2 ** 52], 0, 0), 'shape_invalid'],
    ['half a block', tensor('t', [16], 8, 0), 'shape_invalid'],
    ['rows of half a block', tensor('t', [16, 2], 8, 0), 'shape_invalid'],
    ['a type that was removed', tensor('t', [32], 4, 0), 'dtype_unknown'],
    ['a type from the future', tensor('t', [32], 1_000, 0), 'dtype_unknown'],
    ['a tensor that is larger than the file', tensor('t', [100], 0, 0), 'truncated_file'],
    ['a first tensor that does not begin at 0', tensor('t', [1], 0, 32), 'offsets_invalid'],
    ['an offset above 2^53', tensor('t', [1], 0, 1n << 60n), 'header_invalid'],
    [
      'a tensor twice',
      file({ tensors: [entry('t', [1], 0, 0), entry('t', [1], 0, 32)], data: 64 }),
      'duplicate_key',
    ],
    ...(
      [
        ['tensors in one place', 0],
        ['tensors that overlap', 16],
        ['a tensor that is not aligned', 33],
        ['a hole', 64],
      ] as const
    ).map(([name, offset]): [string, Uint8Array, AdapterErrorCode] => [
      name,
      file({ tensors: [entry('t', [8], 0, 0), entry('u', [1], 0, offset)], data: 128 }),
      'offsets_invalid',
    ]),
  ];
  it.each(refused)('%s', (_, bytes, code) => {
    expect(refusal(code, () => parse(bytes)).path).toBe('x.gguf');
  });

  it('refuses every file that is truncated before its last tensor ends', () => {
    for (let length = 0; length < good.length - 20; length++)
      refusal('truncated_file', () => parse(good.slice(0, length)));
  });

  it('any corruption gives an AdapterFormatError or tensors inside the file', () => {
    const damaged = fc.oneof(
      fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, byte]) => good.with(at, byte)),
      fc.nat(good.length).map((length) => good.slice(0, length)),
      fc
        .tuple(fc.nat(good.length), fc.uint8Array({ maxLength: 9 }))
        .map(([at, more]) => Uint8Array.from([...good.slice(0, at), ...more, ...good.slice(at)])),
    );
    fc.assert(
      fc.property(damaged, (bytes) => {
        try {
          for (const { offset, bytes: size } of parse(bytes)?.tensors.values() ?? [])
            expect(offset + size).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(AdapterFormatError);
        }
      }),
      { numRuns: 2_000, seed: 5 },
    );
  });
});
