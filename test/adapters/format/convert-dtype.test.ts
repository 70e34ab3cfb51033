import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesAs, convertInto, convertTensor, toDtype } from '../../../adapters/format/lora-module.ts';
import { toFloat32, type Dtype, type Tensor } from '../../../adapters/format/dtype.ts';
import { loraModule, refusal, tensor } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const where = { name: 'x.q_proj', path: 'w.safetensors' };
const f32 = (...values: number[]): Tensor => tensor([values.length], values);
const all16 = new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, bits) => bits).buffer);

/** Every finite value of a 16-bit type, ascending. */
function valuesOf(dtype: 'F16' | 'BF16'): number[] {
  const floats = toFloat32({ dtype, shape: [65_536], data: all16 });
  return [...new Set([...floats].filter(Number.isFinite))].sort((a, b) => a - b);
}

describe('convertTensor', () => {
  it.each(['F16', 'BF16'] as const)('%s: values of the type stay, bit for bit', (dtype) => {
    const kept = Uint16Array.from(
      Array.from({ length: 65_536 }, (_, bits) => bits).filter((bits) =>
        dtype === 'F16' ? (bits & 0x7c00) !== 0x7c00 : (bits & 0x7f80) !== 0x7f80,
      ),
    );
    const data = new Uint8Array(kept.buffer);
    const wide = convertTensor({ dtype, shape: [kept.length], data }, 'F32', where);
    expect(convertTensor(wide, dtype, where).data).toEqual(data);
  });

  it.each(['F16', 'BF16'] as const)('%s: the nearest value, ties to the even one', (dtype) => {
    const values = valuesOf(dtype);
    const pair = fc
      .integer({ min: 0, max: values.length - 2 })
      .map((i) => [values[i]!, values[i + 1]!] as const);
    fc.assert(
      fc.property(pair, fc.double({ min: 0, max: 1, noNaN: true }), ([low, high], part) => {
        const between = Math.fround(low + (high - low) * part);
        const [rounded] = toFloat32(convertTensor(f32(between), dtype, where));
        const [below, above] = [between - low, high - between];
        if (below !== above) expect(rounded).toBe(below < above ? low : high);
        const half = new Uint16Array(
          convertTensor(f32(low + (high - low) / 2), dtype, where).data.slice().buffer,
        )[0]!;
        // Halfway values are exact in float32, except between the smallest bfloat16.
        if (Math.fround(low + (high - low) / 2) === low + (high - low) / 2) expect(half & 1).toBe(0);
      }),
      { numRuns: 3_000 },
    );
  });

  it('handles the edges of float16', () => {
    const halves = (...values: number[]) => [
      ...new Uint16Array(convertTensor(f32(...values), 'F16', where).data.slice().buffer),
    ];
    expect(halves(65_504, 65_519, -65_519, 0, -0)).toEqual([0x7bff, 0x7bff, 0xfbff, 0, 0x8000]);
    expect(halves(2 ** -24, 2 ** -25, 2 ** -25 * 1.0001, 2 ** -26, 2 ** -14, 2 ** -14 - 2 ** -24)).toEqual([
      1, 0, 1, 0, 0x400, 0x3ff,
    ]);
    // Rounds up into the first normal number, and from one binade into the next.
    expect(halves(2 ** -14 - 2 ** -26, 1.9999)).toEqual([0x400, 0x4000]);
  });

  it.each([
    ['F16', 65_520],
    ['F16', 1e30],
    ['F16', NaN],
    ['F16', -Infinity],
    ['BF16', 3.4e38],
    ['BF16', NaN],
    ['BF16', Infinity],
  ] as const)('%s refuses %d', (dtype, value) => {
    const error = refusal('non_finite', () => convertTensor(f32(1, value), dtype, where));
    expect([error.subject, error.path]).toEqual(['x.q_proj', 'w.safetensors']);
    expect(error.message).toContain(dtype);
  });

  it.each([1e39, -1e300, NaN, Infinity])('float64 %d does not fit float32', (value) => {
    refusal('non_finite', () => convertTensor(tensor([1], [value], 'F64'), 'F32', where));
  });
  it('float64 is rounded to float32', () => {
    expect(convertTensor(tensor([3], [0.1, 1e-60, -3.4e38], 'F64'), 'F32', where)).toEqual(
      f32(Math.fround(0.1), 0, Math.fround(-3.4e38)),
    );
  });

  it('finds every NaN, even one that would round to a number', () => {
    const nan = new Uint32Array([0x7f800001, 0xffffffff]);
    for (const bits of nan) {
      const data = new Uint8Array(Uint32Array.of(bits).buffer);
      for (const dtype of ['F16', 'BF16'] as const)
        refusal('non_finite', () => convertTensor({ dtype: 'F32', shape: [1], data }, dtype, where));
    }
  });

  it('returns a tensor that has the type already', () => {
    const same = f32(1);
    expect(convertTensor(same, 'F32', where)).toBe(same);
  });

  it('refuses integers', () => {
    refusal('dtype_unsupported', () =>
      convertTensor({ dtype: 'I8' as Dtype, shape: [1], data: new Uint8Array(1) }, 'F32', where),
    );
  });
});

it('toDtype changes the type of A and B and nothing else', () => {
  const module = loraModule();
  const [half] = toDtype([module], 'BF16');
  expect(half).toMatchObject({ name: module.name, rank: 2, alpha: 4, scale: 2 });
  expect([half!.a.dtype, half!.b.dtype]).toEqual(['BF16', 'BF16']);
  expect(toDtype([half!], 'F32')).toEqual([module]);
});

describe('convertInto', () => {
  /** More than one piece, and not a whole number of them. */
  const values = Array.from({ length: 5_001 }, (_, i) => (i - 2_500) / 7);

  it.each(['F32', 'F16', 'BF16'] as const)('%s: piece by piece as in one, at any alignment', (dtype) => {
    for (const from of ['F32', 'F16', 'BF16'] as const) {
      const whole = tensor([values.length], values, from);
      const shifted = new Uint8Array(whole.data.length + 1);
      shifted.set(whole.data, 1);
      const target = new Uint8Array(bytesAs(whole, dtype) + 2).fill(0xaa);
      convertInto({ ...whole, data: shifted.subarray(1) }, dtype, target.subarray(1, -1), where);
      expect([target[0], target.at(-1)]).toEqual([0xaa, 0xaa]);
      const one = (value: number) => [...convertTensor(tensor([1], [value], from), dtype, where).data];
      expect([...target.subarray(1, -1)]).toEqual(values.flatMap(one));
    }
  });

  it('checks the values of every chunk', () => {
    const last = tensor([values.length], [...values.slice(1), NaN]);
    expect(refusal('non_finite', () => convertTensor(last, 'BF16', where)).subject).toBe(where.name);
  });
});
