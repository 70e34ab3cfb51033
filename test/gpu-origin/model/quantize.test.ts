import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantizeBlocks, quantizeLinear, transpose } from '../../../gpu-origin/model/prepare-weights.ts';

describe('quantizeLinear', () => {
  it('is transposed int8 with one scale a row, off by at most half a step', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 9 }),
        fc.nat(),
        (rows, columns, seed) => {
          const weight = Float32Array.from(
            { length: rows * columns },
            (_, i) => Math.sin(i * 1.7 + seed) * 10 ** (i % 3),
          );
          const { values, scales } = quantizeLinear(weight, rows, columns);
          for (let row = 0; row < rows; row++)
            for (let i = 0; i < columns; i++) {
              const back = values[i * rows + row]! * scales[row]!;
              expect(Math.abs(back - weight[row * columns + i]!)).toBeLessThanOrEqual(scales[row]! * 0.5001);
            }
        },
      ),
      { numRuns: 100, seed: 3 },
    );
  });

  it('limits pairs of one sign to 128, and changes only rows in which they exceed the largest weight', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 40 }),
        (row) => {
          const weight = Float32Array.from(row);
          const plain = quantizeLinear(weight, 1, row.length);
          const { values, scales } = quantizeLinear(weight, 1, row.length, true);
          let exceeds = false;
          const max = weight.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          for (let i = 0; i + 1 < row.length; i += 2) {
            const [a, b] = [values[i]!, values[i + 1]!];
            if (a * b > 0) expect(Math.abs(a + b)).toBeLessThanOrEqual(128);
            exceeds ||= weight[i]! * weight[i + 1]! > 0 && Math.abs(weight[i]! + weight[i + 1]!) > max;
          }
          if (!exceeds) expect({ values, scales }).toEqual(plain);
          else expect(scales[0]! / plain.scales[0]!).toBeLessThanOrEqual(2.000001);
          weight.forEach((value, i) =>
            expect(Math.abs(values[i]! * scales[0]! - value)).toBeLessThanOrEqual(scales[0]! * 0.5001),
          );
        },
      ),
      { numRuns: 300, seed: 4 },
    );
  });

  it('keeps a row of zeros', () => {
    const { values, scales } = quantizeLinear(new Float32Array(4), 1, 4);
    expect([...values, ...scales]).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('quantizeBlocks', () => {
  it('is 4 bit with a scale and a zero for each 32 of a row, off by at most a step, short blocks ending in zeros', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 100 }),
        fc.nat(),
        fc.constantFrom(-3, 0, 3),
        (rows, columns, seed, offset) => {
          const weight = Float32Array.from(
            { length: rows * columns },
            (_, i) => offset + Math.sin(i * 1.7 + seed) * 10 ** (i % 3),
          );
          const { values, scales, zeros } = quantizeBlocks(weight, rows, columns);
          const blocks = Math.ceil(columns / 32);
          const half = (bytes: Uint8Array, at: number): number => (bytes[at >> 1]! >> (4 * (at & 1))) & 15;
          expect([values.length, scales.length, zeros.length]).toEqual([
            rows * blocks * 16,
            rows * blocks,
            rows * Math.ceil(blocks / 2),
          ]);
          for (let row = 0; row < rows; row++)
            for (let i = 0; i < blocks * 32; i++) {
              const block = i >> 5;
              const scale = scales[row * blocks + block]!;
              const zero = half(zeros, row * 2 * Math.ceil(blocks / 2) + block);
              const back = (half(values, row * blocks * 32 + i) - zero) * scale;
              const exact = i < columns ? weight[row * columns + i]! : 0;
              // Half a step of rounding, and half of one where the zero was rounded and an end was cut.
              expect(Math.abs(back - exact)).toBeLessThanOrEqual(i < columns ? scale * 1.0001 : 0);
            }
        },
      ),
      { numRuns: 100, seed: 3 },
    );
  });

  it('keeps a block of zeros', () => {
    const { values, scales, zeros } = quantizeBlocks(new Float32Array(40), 1, 40);
    expect([...values, ...scales, ...zeros].every((value) => value === 0)).toBe(true);
  });
});

it('transpose', () =>
  expect([...transpose(Float32Array.of(1, 2, 3, 4, 5, 6), 2, 3)]).toEqual([1, 4, 2, 5, 3, 6]));
