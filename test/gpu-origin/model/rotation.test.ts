import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  denseRotation,
  largestPowerOfTwo,
  makeRotation,
  rotateColumns,
  undoRotation,
  rotateRows,
  undoRows,
} from '../../../gpu-origin/model/rotation.ts';

/** `[a, n] x [n, b]`, float64. */
function multiply(x: ArrayLike<number>, y: ArrayLike<number>, n: number): Float64Array {
  const rows = x.length / n;
  const columns = y.length / n;
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++)
      for (let k = 0; k < n; k++) out[i * columns + j]! += x[i * n + k]! * y[k * columns + j]!;
  return out;
}
const transposed = (x: ArrayLike<number>, columns: number): Float64Array =>
  Float64Array.from(
    { length: x.length },
    (_, i) => x[(i % (x.length / columns)) * columns + Math.floor(i / (x.length / columns))]!,
  );
const close = (a: ArrayLike<number>, b: ArrayLike<number>, within: number): void => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(within);
};
const size = fc.constantFrom(1, 2, 3, 8, 15, 16, 24, 48, 64, 72, 96);

describe('rotations', () => {
  it.each([
    [576, 64],
    [1536, 512],
    [64, 64],
    [7, 1],
  ])('the largest power of two in %i is %i', (n, power) => expect(largestPowerOfTwo(n)).toBe(power));

  it('are undone', () => {
    fc.assert(
      fc.property(
        size,
        fc.integer({ min: 1, max: 3 }),
        fc.boolean(),
        fc.infiniteStream(fc.double({ min: -9, max: 9, noNaN: true })),
        (n, rows, signs, values) => {
          const before = Float32Array.from({ length: n * rows }, () => values.next().value as number);
          const rotation = makeRotation(n, n, signs);
          const vectors = before.slice();
          rotateColumns(vectors, n, rotation);
          undoRotation(vectors, rotation);
          close(vectors, before, 1e-4);
        },
      ),
    );
  });

  it('of rows are undone, in any number of columns', () => {
    fc.assert(
      fc.property(
        size,
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 1, max: 130 }),
        fc.boolean(),
        (n, blocks, columns, signs) => {
          const rotation = makeRotation(n, n, signs);
          const before = Float32Array.from({ length: n * blocks * columns }, (_, i) => Math.sin(i) * 9);
          const matrix = before.slice();
          rotateRows(matrix, columns, rotation);
          undoRows(matrix, columns, rotation);
          close(matrix, before, 1e-4);
        },
      ),
      { numRuns: 40, seed: 1 },
    );
  });

  it('are orthogonal', () => {
    fc.assert(
      fc.property(size, fc.nat(1000), fc.boolean(), (n, seed, signs) => {
        const dense = denseRotation(makeRotation(n, seed, signs));
        const identity = Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
        close(multiply(dense, transposed(dense, n), n), identity, 1e-6);
      }),
      { numRuns: 40, seed: 1 },
    );
  });

  it('rotateColumns is W R and rotateRows is R^T W, block by block', () => {
    fc.assert(
      fc.property(size, fc.integer({ min: 1, max: 3 }), fc.nat(1000), (n, blocks, seed) => {
        const rotation = makeRotation(n, seed, true);
        const dense = denseRotation(rotation);
        const width = n * blocks;
        const matrix = Float64Array.from({ length: 2 * width }, (_, i) => Math.sin(i + seed));
        const columns = matrix.slice();
        rotateColumns(columns, width, rotation);
        const expected: number[] = [];
        for (let start = 0; start < matrix.length; start += n)
          expected.push(...multiply(matrix.subarray(start, start + n), dense, n));
        close(columns, expected, 1e-5);

        const rows = transposed(matrix, width);
        rotateRows(rows, 2, rotation);
        close(rows, transposed(Float64Array.from(expected), width), 1e-5);
      }),
      { numRuns: 40, seed: 2 },
    );
  });

  it('refuse sizes that do not divide', () => {
    expect(() => rotateColumns(new Float32Array(24), 24, makeRotation(16, 1, false))).toThrow(
      /does not divide/,
    );
    expect(() => rotateRows(new Float32Array(24), 1, makeRotation(16, 1, false))).toThrow(/does not divide/);
  });
});
