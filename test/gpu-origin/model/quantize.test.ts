import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantizeLinear, transpose } from '../../../gpu-origin/model/quantize.ts';

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

  it('keeps a row of zeros', () => {
    const { values, scales } = quantizeLinear(new Float32Array(4), 1, 4);
    expect([...values, ...scales]).toEqual([0, 0, 0, 0, 0]);
  });
});

it('transpose', () =>
  expect([...transpose(Float32Array.of(1, 2, 3, 4, 5, 6), 2, 3)]).toEqual([1, 4, 2, 5, 3, 6]));
