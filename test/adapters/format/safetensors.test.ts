import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AdapterFormatError } from '../../../adapters/errors.ts';
import { DTYPE_BITS, type Dtype, type Tensor } from '../../../adapters/format/dtype.ts';
import {
  MAX_HEADER_BYTES,
  MAX_TENSORS,
  parseSafetensors,
  parseSafetensorsHeader,
  writeSafetensors,
  type TensorToMake,
} from '../../../adapters/format/safetensors.ts';
import { filled, rawFile, refusal } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const entry = (begin: number, end: number, shape = `[${(end - begin) / 4}]`, dtype = 'F32') =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

describe("refusals beyond the reference parser's", () => {
  const bytes = (...values: number[]) => Uint8Array.from(values);
  const refused: [string, Uint8Array, AdapterFormatError['code']][] = [
    ['an empty file', bytes(), 'truncated_file'],
    ['seven bytes', bytes(1, 2, 3, 4, 5, 6, 7), 'truncated_file'],
    ['a header length of zero', rawFile('', 0), 'header_invalid'],
    ['a header length of one', rawFile('{', 0), 'header_invalid'],
    ['a header longer than the file', rawFile('{}', 0, 60), 'truncated_file'],
    ['a header length of 2^64 - 1', rawFile('{}').fill(0xff, 0, 8), 'header_too_large'],
    ['a header just above the limit', rawFile('{}', 0, MAX_HEADER_BYTES + 1), 'header_too_large'],
    [
      'a header that is not UTF-8',
      rawFile(bytes(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x7d)),
      'header_invalid',
    ],
    ['a header of ten million entries', rawFile('{}', 0, 10_000_000 * 60), 'header_too_large'],
    ['a header that is not JSON', rawFile('{"a"'), 'header_invalid'],
    ['a byte order mark', rawFile('\ufeff{}'), 'header_invalid'],
    ['white space before the brace', rawFile(' {}'), 'header_invalid'],
    ['an array as header', rawFile('[]'), 'header_invalid'],
    ['text after the header', rawFile('{} x'), 'header_invalid'],
    ['NUL padding', rawFile('{}\0\0'), 'header_invalid'],
    ['trailing bytes (a polyglot)', rawFile(`{"a":${entry(0, 4)}}`, 6), 'trailing_bytes'],
    ['data without tensors', rawFile('{}', 1), 'trailing_bytes'],
    ['two bytes missing', rawFile(`{"a":${entry(0, 4)}}`, 2), 'truncated_file'],
    ['one span for many tensors', rawFile(`{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4), 'offsets_invalid'],
    ['overlapping spans', rawFile(`{"a":${entry(0, 8)},"b":${entry(4, 12)}}`, 12), 'offsets_invalid'],
    ['a hole', rawFile(`{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12), 'offsets_invalid'],
    ['a hole at the beginning', rawFile(`{"a":${entry(4, 8)}}`, 8), 'offsets_invalid'],
    [
      'an end before its beginning',
      rawFile('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', 4),
      'offsets_invalid',
    ],
    ['one offset', rawFile('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', 4), 'offsets_invalid'],
    [
      'offsets above 2^53',
      rawFile('{"a":{"dtype":"U8","shape":[0],"data_offsets":[9007199254740993,9007199254740993]}}'),
      'offsets_invalid',
    ],
    [
      'negative offsets',
      rawFile('{"a":{"dtype":"U8","shape":[0],"data_offsets":[-1,-1]}}'),
      'header_invalid',
    ],
    ['fractions', rawFile('{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', 1), 'header_invalid'],
    ['exponents', rawFile('{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}', 1), 'header_invalid'],
    ['a shape that needs other bytes', rawFile(`{"a":${entry(0, 4, '[2]')}}`, 4), 'size_mismatch'],
    [
      'a shape that overflows 64 bits',
      rawFile(`{"a":${entry(0, 4, '[2,18446744073709551614]')}}`, 4),
      'shape_invalid',
    ],
    [
      'a shape whose product overflows',
      rawFile(`{"a":${entry(0, 0, '[4503599627370496,4503599627370496,0]')}}`),
      'shape_invalid',
    ],
    ['a shape with nine sizes', rawFile(`{"a":${entry(0, 4, '[1,1,1,1,1,1,1,1,1]')}}`, 4), 'shape_invalid'],
    ['a shape of strings', rawFile(`{"a":${entry(0, 4, '["1"]')}}`, 4), 'shape_invalid'],
    ['half a byte', rawFile(`{"a":${entry(0, 1, '[1]', 'F4')}}`, 1), 'size_mismatch'],
    ['an unknown dtype', rawFile(`{"a":${entry(0, 4, '[1]', 'F33')}}`, 4), 'dtype_unknown'],
    ['the dtype __proto__', rawFile(`{"a":${entry(0, 4, '[1]', '__proto__')}}`, 4), 'dtype_unknown'],
    [
      'a dtype that is a number',
      rawFile('{"a":{"dtype":1,"shape":[],"data_offsets":[0,1]}}', 1),
      'tensor_invalid',
    ],
    ['a tensor that is a number', rawFile('{"a":1}'), 'tensor_invalid'],
    ['a tensor without a shape', rawFile('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4), 'tensor_invalid'],
    [
      'a tensor with a fourth field',
      rawFile('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}'),
      'tensor_invalid',
    ],
    ['a tensor twice', rawFile(`{"a":${entry(0, 4)},"a":${entry(0, 4)}}`, 4), 'duplicate_key'],
    [
      'a tensor twice, once escaped',
      rawFile(`{"a":${entry(0, 4)},"\\u0061":${entry(0, 4)}}`, 4),
      'duplicate_key',
    ],
    [
      'a field twice',
      rawFile('{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}'),
      'duplicate_key',
    ],
    ['metadata twice', rawFile('{"__metadata__":{},"__metadata__":{}}'), 'duplicate_key'],
    ['metadata that is a list', rawFile('{"__metadata__":[]}'), 'metadata_invalid'],
    ['metadata with a number', rawFile('{"__metadata__":{"a":1}}'), 'metadata_invalid'],
    ['metadata with an object', rawFile('{"__metadata__":{"a":{}}}'), 'metadata_invalid'],
    ['a lone surrogate as a name', rawFile('{"\\ud800":1}'), 'header_invalid'],
    ['a header that nests deeply', rawFile(`{"a":${'['.repeat(100_000)}}`), 'header_invalid'],
  ];
  it.each(refused)('%s', (_, file, code) => {
    expect(refusal(code, () => parseSafetensors(file, { path: 'x.safetensors' })).path).toBe('x.safetensors');
  });

  it('refuses more tensors than the limit', () => {
    const header = (count: number) =>
      `{${Array.from({ length: count }, (_, i) => `"${i}":${entry(0, 0)}`).join(',')}}`;
    expect(parseSafetensors(rawFile(header(MAX_TENSORS))).tensors.size).toBe(MAX_TENSORS);
    refusal('too_many_tensors', () => parseSafetensors(rawFile(header(MAX_TENSORS + 1))));
    expect(parseSafetensors(rawFile(header(5)), { maxTensors: 5 }).tensors.size).toBe(5);
    refusal('too_many_tensors', () => parseSafetensors(rawFile(header(6)), { maxTensors: 5 }));
  });

  it('refuses a header of millions of values before they fill the memory', () => {
    const values = '[],'.repeat(4_000_000);
    refusal('too_many_tensors', () => parseSafetensors(rawFile(`{"a":[${values}[]]}`)));
  });
});

describe('acceptance', () => {
  it('accepts no tensors, scalars, empty tensors, sub-byte types, padding', () => {
    expect(parseSafetensors(rawFile('{}      ')).tensors.size).toBe(0);
    const file = rawFile(
      `{"scalar":${entry(0, 4, '[]')},"empty":${entry(4, 4, '[3,0]')},"four":${entry(4, 5, '[2]', 'F4')}}`,
      5,
    );
    expect([...parseSafetensors(file).tensors].map(([name, t]) => [name, t.shape, t.data.length])).toEqual([
      ['scalar', [], 4],
      ['empty', [3, 0], 0],
      ['four', [2], 1],
    ]);
  });

  it('accepts tensors listed in another order than stored', () => {
    const file = rawFile(`{"b":${entry(4, 8)},"a":${entry(0, 4)}}`, Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0));
    const { tensors } = parseSafetensors(file);
    expect([...tensors.keys()]).toEqual(['a', 'b']);
    expect(tensors.get('b')?.data[0]).toBe(2);
  });

  it('accepts names that are special in JavaScript', () => {
    const file = rawFile(
      `{"__proto__":${entry(0, 4)},"constructor":${entry(4, 8)},"__metadata__":{"__proto__":"m"}}`,
      8,
    );
    const { tensors, metadata } = parseSafetensors(file);
    expect([...tensors.keys()]).toEqual(['__proto__', 'constructor']);
    expect(metadata.get('__proto__')).toBe('m');
    expect(({} as Record<string, unknown>)['dtype']).toBeUndefined();
  });

  it('accepts a header at the limit, and none above', () => {
    const header = new Uint8Array(MAX_HEADER_BYTES).fill(0x20);
    header.set(new TextEncoder().encode('{}'));
    expect(parseSafetensorsHeader({ header, dataBytes: 0 }).tensors.size).toBe(0);
    refusal('header_too_large', () =>
      parseSafetensorsHeader({ header: new Uint8Array(MAX_HEADER_BYTES + 1), dataBytes: 0 }),
    );
  });

  it('gives views, not copies, at any offset of the buffer', () => {
    const file = writeSafetensors({ tensors: new Map([['a', filled(1, 2)]]) });
    const shifted = new Uint8Array(file.length + 3);
    shifted.set(file, 3);
    const data = parseSafetensors(shifted.subarray(3)).tensors.get('a')?.data;
    expect(data?.buffer).toBe(shifted.buffer);
    expect(data).toEqual(filled(1, 2).data);
  });
});

describe('the writer', () => {
  const tensors = fc.dictionary(
    fc.string({ unit: 'grapheme' }).filter((name) => name !== '__metadata__'),
    fc
      .tuple(
        fc.constantFrom(...DTYPE_BITS.keys()),
        fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
      )
      .filter(([dtype, shape]) => (shape.reduce((a, b) => a * b, 1) * DTYPE_BITS.get(dtype)!) % 8 === 0)
      .chain(([dtype, shape]) => {
        const size = (shape.reduce((a, b) => a * b, 1) * DTYPE_BITS.get(dtype)!) / 8;
        return fc
          .uint8Array({ minLength: size, maxLength: size })
          .map((data): Tensor => ({ dtype: dtype as Dtype, shape, data }));
      }),
    { maxKeys: 6 },
  );
  const metadata = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }));

  it('writes what is read back unchanged, whatever the order of its input', () => {
    fc.assert(
      fc.property(tensors, metadata, (tensorRecord, metadataRecord) => {
        const given = {
          tensors: new Map(Object.entries(tensorRecord)),
          metadata: new Map(Object.entries(metadataRecord)),
        };
        const file = writeSafetensors(given);
        const read = parseSafetensors(file);
        expect(new Map([...read.tensors].sort())).toEqual(new Map([...given.tensors].sort()));
        expect(read.metadata).toEqual(given.metadata);
        const reversed = {
          tensors: new Map([...given.tensors].reverse()),
          metadata: new Map([...given.metadata].reverse()),
        };
        expect(writeSafetensors(reversed)).toEqual(file);
        expect((file[0]! + 256 * file[1]!) % 8).toBe(0);
      }),
    );
  });

  it('builds a tensor in its place in the file', () => {
    const ready = new Map(
      ['a', 'b', 'c'].map((name, i) => [
        name,
        { dtype: 'U8' as const, shape: [3], data: Uint8Array.of(i, 1, 2) },
      ]),
    );
    const targets: Uint8Array[] = [];
    const { data, ...about } = ready.get('b')!;
    const make = (target: Uint8Array) => {
      targets.push(target);
      target.set(data);
    };
    const toMake = new Map<string, Tensor | TensorToMake>(ready).set('b', { ...about, byteLength: 3, make });
    const file = writeSafetensors({ tensors: toMake });
    expect(file).toEqual(writeSafetensors({ tensors: ready }));
    expect(targets.map(({ buffer, length }) => [buffer === file.buffer, length])).toEqual([[true, 3]]);
  });

  it('writes exactly these bytes', () => {
    const file = writeSafetensors({
      metadata: new Map([['k', 'v']]),
      tensors: new Map([['w', { dtype: 'U8' as const, shape: [2], data: Uint8Array.of(7, 8) }]]),
    });
    const json = '{"__metadata__":{"k":"v"},"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}';
    expect(file).toEqual(rawFile(json.padEnd(80), Uint8Array.of(7, 8)));
  });
});

it('any corrupted byte, cut or insertion gives an AdapterFormatError or a file, nothing else', () => {
  const file = writeSafetensors({
    metadata: new Map([['format', 'pt']]),
    tensors: new Map([
      ['a', filled(2, 2)],
      ['b.c', filled(1, 3, 'BF16')],
    ]),
  });
  const damaged = fc.oneof(
    fc.tuple(fc.nat(file.length - 1), fc.nat(255)).map(([at, byte]) => file.with(at, byte)),
    fc.nat(file.length).map((length) => file.slice(0, length)),
    fc
      .tuple(fc.nat(file.length), fc.uint8Array({ maxLength: 9 }))
      .map(([at, more]) => Uint8Array.from([...file.slice(0, at), ...more, ...file.slice(at)])),
  );
  fc.assert(
    fc.property(damaged, (bytes) => {
      try {
        const { tensors } = parseSafetensors(bytes);
        for (const { dtype, shape, data } of tensors.values())
          expect(data.length * 8).toBe(shape.reduce((a, b) => a * b, 1) * DTYPE_BITS.get(dtype)!);
      } catch (error) {
        expect(error).toBeInstanceOf(AdapterFormatError);
      }
    }),
    { numRuns: 2_000 },
  );
});
