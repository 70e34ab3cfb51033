import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { expect, it } from 'vitest';
import { thinQr } from '../../../adapters/linear-algebra.ts';

fc.configureGlobal({ seed: 1 });

/** Taller than wide, wider than tall, square; zeros among the values make columns that vanish. */
const matrix = fc
  .record({ columns: fc.integer({ min: 1, max: 6 }), length: fc.integer({ min: 1, max: 6 }) })
  .chain(({ columns, length }) =>
    fc
      .array(fc.oneof(fc.constant(0), fc.double({ min: -4, max: 4, noNaN: true })), {
        minLength: columns * length,
        maxLength: columns * length,
      })
      .map((values) => ({ columns, length, values })),
  );

it('has orthonormal columns in Q, a triangle in R, and the matrix as their product', () => {
  fc.assert(
    fc.property(matrix, ({ columns, length, values }) => {
      const size = Math.min(columns, length);
      const { r, times } = thinQr(Float64Array.from(values), columns, length);
      expect([r.rows, r.columns]).toEqual([size, columns]);
      for (let row = 0; row < size; row++)
        for (let column = 0; column < Math.min(row, columns); column++) expect(r.get(row, column)).toBe(0);

      const q = Matrix.from1DArray(size, length, times(Matrix.eye(size), size)).transpose();
      const identity = q.transpose().mmul(q);
      expect(Matrix.sub(identity, Matrix.eye(size)).norm()).toBeLessThan(1e-13);
      const expected = Matrix.from1DArray(columns, length, values).transpose();
      expect(Matrix.sub(q.mmul(r), expected).norm()).toBeLessThan(1e-13 * (1 + expected.norm()));
    }),
  );
});

it('multiplies only as many vectors as requested', () => {
  const { times } = thinQr(Float64Array.of(1, 2, 3, 4, 5, 7), 2, 3);
  const both = times(Matrix.eye(2), 2);
  expect(times(Matrix.eye(2), 1)).toEqual(both.slice(0, 3));
});
