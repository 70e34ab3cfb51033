import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import type { DeltaFactors } from './delta-factors.ts';

/**
 * Squares below lose their digits in float64, and the reflection would not be one. Nothing is lost: the smallest number
 * of float32 has the square 1e-90.
 */
const NEGLIGIBLE = 1e-250;

/** M = Q R of a matrix `[length, columns]`, with Q `[length, size]`, R `[size, columns]`, size = min(length, columns). */
interface ThinQr {
  readonly r: Matrix;
  /** Q times vectors `[size, count]`. @returns `[count, length]`, row-major: one vector a row. */
  readonly times: (vectors: Matrix, count: number) => Float64Array;
}

/**
 * By Householder reflections (Golub and Van Loan, Matrix Computations, 5.2). ml-matrix has one as well, which walks
 * down the columns of a row-major matrix: at rank 48 it takes six times as long, and nearly all of a truncation.
 * @param m `[columns, length]`, row-major: each column of M is a row. Overwritten, and kept for `times`.
 */
export function thinQr(m: Float64Array, columns: number, length: number): ThinQr {
  const size = Math.min(columns, length);
  // Reflection j is I - factor v v^T, with v[j] = 1 and the rest of v below the diagonal of column j.
  const factors = new Float64Array(size);
  for (let j = 0; j < size; j++) {
    const column = j * length;
    let square = 0;
    for (let i = j; i < length; i++) square += m[column + i]! ** 2;
    if (square < NEGLIGIBLE) continue;
    const first = m[column + j]!;
    // Of the sign that makes the subtraction below an addition of magnitudes.
    const diagonal = first > 0 ? -Math.sqrt(square) : Math.sqrt(square);
    const head = first - diagonal;
    for (let i = j + 1; i < length; i++) m[column + i]! /= head;
    const factor = -head / diagonal;
    factors[j] = factor;
    for (let other = j + 1; other < columns; other++)
      reflect(m, column, m, other * length, j, length, factor);
    m[column + j] = diagonal;
  }
  const r = Matrix.zeros(size, columns);
  for (let column = 0; column < columns; column++)
    for (let row = 0; row <= Math.min(column, size - 1); row++) r.set(row, column, m[column * length + row]!);
  return {
    r,
    times: (vectors, count) => {
      const out = new Float64Array(count * length);
      for (let k = 0; k < count; k++) {
        for (let row = 0; row < size; row++) out[k * length + row] = vectors.get(row, k);
        for (let j = size - 1; j >= 0; j--) reflect(m, j * length, out, k * length, j, length, factors[j]!);
      }
      return out;
    },
  };
}

/** Applies the reflection whose v lies at `v` to the vector at `at`; both from their element j on. */
function reflect(
  m: Float64Array,
  v: number,
  x: Float64Array,
  at: number,
  j: number,
  length: number,
  factor: number,
): void {
  let dot = x[at + j]!;
  for (let i = j + 1; i < length; i++) dot += m[v + i]! * x[at + i]!;
  dot *= factor;
  x[at + j]! -= dot;
  for (let i = j + 1; i < length; i++) x[at + i]! -= dot * m[v + i]!;
}

/** Singular value decomposition of a product B A that is never made. */
interface ProductSvd {
  /** All that can differ from zero, largest first. */
  readonly singularValues: readonly number[];
  /** What is not above this is rounding of the two factors. */
  readonly noise: number;
  /** Left singular vectors of the first `count` values: `[count, out]`, row-major. */
  readonly left: (count: number) => Float64Array;
  /** Right singular vectors, `[count, in]`. */
  readonly right: (count: number) => Float64Array;
}

/**
 * B = Q_B R_B and A^T = Q_A R_A, so that B A = Q_B (R_B R_A^T) Q_A^T, and only the small matrix in the middle, of at
 * most rank x rank, is decomposed. All in float64.
 * @param factors finite; overwritten.
 */
export function productSvd(factors: DeltaFactors): ProductSvd {
  const { rank, in: inputs, out } = factors;
  const left = thinQr(factors.bT, rank, out);
  const right = thinQr(factors.a, rank, inputs);
  const core = left.r.mmul(right.r.transpose());
  const svd = new SingularValueDecomposition(core, { autoTranspose: true });
  return {
    singularValues: svd.diagonal,
    noise: Number.EPSILON * rank * left.r.norm() * right.r.norm(),
    left: (count) => left.times(svd.leftSingularVectors, count),
    right: (count) => right.times(svd.rightSingularVectors, count),
  };
}
