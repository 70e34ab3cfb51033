import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maxMagnitude, toFloat32, type Dtype, type Tensor } from '../../../adapters/format/dtype.ts';
import { refusal } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const of = (dtype: Dtype, array: Uint16Array | Uint32Array | Float32Array | Float64Array): Tensor => ({
  dtype,
  shape: [array.length],
  data: new Uint8Array(array.buffer),
});
/** IEEE 754 binary16 by its definition. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 0x1f, bits & 0x3ff];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : (fraction / 1024) * 2 ** -14);
}
/** The same elements at an odd address. */
function misaligned(tensor: Tensor): Tensor {
  const buffer = new Uint8Array(tensor.data.length + 1);
  buffer.set(tensor.data, 1);
  return { ...tensor, data: buffer.subarray(1) };
}
const all16 = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);

describe('toFloat32', () => {
  it('float16: every value', () => {
    expect(toFloat32(of('F16', all16))).toEqual(Float32Array.from(all16, half));
  });

  it('bfloat16: every value is the upper half of a float32', () => {
    const expected = new Float32Array(Uint32Array.from(all16, (bits) => bits << 16).buffer);
    expect(toFloat32(of('BF16', all16))).toEqual(expected);
  });

  it('known values', () => {
    const bf16 = Uint16Array.of(0x3f80, 0xc000, 0x0000, 0x8000, 0x7f80, 0x3eab);
    expect([...toFloat32(of('BF16', bf16))]).toEqual([1, -2, 0, -0, Infinity, 0.333984375]);
    const f16 = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x8000);
    expect([...toFloat32(of('F16', f16))]).toEqual([1, -2, 65504, 2 ** -24, 2 ** -14, -0]);
    expect([...toFloat32(of('F64', Float64Array.of(0.1, 1e300)))]).toEqual([Math.fround(0.1), Infinity]);
  });

  it('does not depend on alignment and never shares memory', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Dtype>('F32', 'F16', 'BF16', 'F64'),
        fc.uint8Array({ maxLength: 64 }),
        (dtype, raw) => {
          const data = raw.slice(0, raw.length - (raw.length % 8));
          const tensor = { dtype, shape: [], data };
          const values = toFloat32(tensor);
          expect(toFloat32(misaligned(tensor))).toEqual(values);
          expect(values.buffer).not.toBe(data.buffer);
        },
      ),
    );
  });

  it('refuses integers', () => {
    refusal('dtype_unsupported', () => toFloat32({ dtype: 'I8', shape: [1], data: new Uint8Array(1) }));
  });
});

describe('maxMagnitude', () => {
  it('is the largest absolute value of the converted elements', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Dtype>('F32', 'F16', 'BF16', 'F64'),
        fc.uint8Array({ maxLength: 64 }),
        (dtype, raw) => {
          const tensor = { dtype, shape: [], data: raw.slice(0, raw.length - (raw.length % 8)) };
          const values = [...toFloat32(tensor)];
          const expected = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
          expect(maxMagnitude(tensor)).toBe(expected);
          expect(maxMagnitude(misaligned(tensor))).toBe(expected);
        },
      ),
    );
  });

  it.each(['F32', 'F16', 'BF16'] as const)(
    '%s: finds the largest wherever it is, also in long tensors',
    (dtype) => {
      const width = dtype === 'F32' ? 4 : 2;
      for (const length of [1, 2, 3, 4, 5, 7, 8, 9, 16_383, 32_769, 40_001])
        for (const at of [0, 1, length >> 1, length - 2, length - 1].filter((i) => i >= 0 && i < length))
          for (const sign of [0, 0x80]) {
            const data = new Uint8Array(length * width).fill(1);
            data[at * width + width - 1] = 0x41 | sign;
            const tensor = { dtype, shape: [length], data };
            const expected = Math.abs(
              toFloat32({ dtype, shape: [1], data: data.slice(at * width, (at + 1) * width) })[0]!,
            );
            expect(maxMagnitude(tensor)).toBe(expected);
            expect(maxMagnitude(misaligned(tensor))).toBe(expected);
          }
    },
  );

  it('is 0 for zeros of either sign and for nothing', () => {
    expect(maxMagnitude(of('BF16', Uint16Array.of(0, 0x8000)))).toBe(0);
    expect(maxMagnitude(of('F32', new Float32Array(0)))).toBe(0);
  });
});
