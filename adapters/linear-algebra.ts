import { toFloat32 } from './format/dtype.ts';
import { inFeatures, type LoraModule, outFeatures } from './format/lora-module.ts';
import { Matrix, SingularValueDecomposition } from 'ml-matrix';

/**
 * A module's two factors in float64, both with the rank as rows, so that every inner loop runs over adjacent
 * values.
 */
export interface DeltaFactors {
  readonly rank: number;
  readonly in: number;
  readonly out: number;
  /** `[rank, in]`, row-major. */
  readonly a: Float64Array;
  /** B transposed: `[rank, out]`, row-major. */
  readonly bT: Float64Array;
}

export function deltaFactors(module: LoraModule): DeltaFactors {
  const { rank } = module;
  const out = outFeatures(module);
  const b = toFloat32(module.b);
  const bT = new Float64Array(b.length);
  for (let row = 0, at = 0; row < out; row++)
    for (let column = 0; column < rank; column++) bT[column * out + row] = b[at++]!;
  return { rank, in: inFeatures(module), out, a: Float64Array.from(toFloat32(module.a)), bT };
}

/**
 * Frobenius inner product of two unscaled deltas B A without computing either: with X = B1^T B2 and Y = A1
 * A2^T, both `[rank1, rank2]`, it is the sum of X o Y. Time is rank1 * rank2 * (in + out).
 *
 * Sums are in float64, so the result is exact to about 1e-15 of the factors' own norms: the square root of an
 * inner product of a delta with itself that is below 1e-8 of them is rounding.
 */
export function innerProduct(x: DeltaFactors, y: DeltaFactors): number {
  const ofA = crossGram(x.a, y.a, x.rank, y.rank, x.in);
  const ofB = crossGram(x.bT, y.bT, x.rank, y.rank, x.out);
  let sum = 0;
  for (let i = 0; i < ofA.length; i++) sum += ofA[i]! * ofB[i]!;
  return sum;
}

/** Rows of `x` and `y` that a block multiplies with each other: eight sums and six factors fit into registers. */
const ROWS_X = 2;
const ROWS_Y = 4;

/** x y^T of two row-major matrices `[rowsX, length]` and `[rowsY, length]`. @returns `[rowsX, rowsY]`, row-major. */
function crossGram(
  x: Float64Array,
  y: Float64Array,
  rowsX: number,
  rowsY: number,
  length: number,
): Float64Array {
  const gram = new Float64Array(rowsX * rowsY);
  const wholeX = rowsX - (rowsX % ROWS_X);
  const wholeY = rowsY - (rowsY % ROWS_Y);
  for (let i = 0; i < wholeX; i += ROWS_X)
    for (let j = 0; j < wholeY; j += ROWS_Y) block(gram, x, y, i, j, rowsY, length);
  for (let i = 0; i < rowsX; i++)
    for (let j = i < wholeX ? wholeY : 0; j < rowsY; j++) {
      let sum = 0;
      for (let k = 0; k < length; k++) sum += x[i * length + k]! * y[j * length + k]!;
      gram[i * rowsY + j] = sum;
    }
  return gram;
}

/** The inner products of rows i, i + 1 of `x` with rows j … j + 3 of `y`. */
function block(
  gram: Float64Array,
  x: Float64Array,
  y: Float64Array,
  i: number,
  j: number,
  rowsY: number,
  length: number,
): void {
  const x0 = i * length;
  const x1 = x0 + length;
  const y0 = j * length;
  const y1 = y0 + length;
  const y2 = y1 + length;
  const y3 = y2 + length;
  let [s00, s01, s02, s03, s10, s11, s12, s13] = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let k = 0; k < length; k++) {
    const p = x[x0 + k]!;
    const q = x[x1 + k]!;
    const a = y[y0 + k]!;
    const b = y[y1 + k]!;
    const c = y[y2 + k]!;
    const d = y[y3 + k]!;
    s00 += p * a;
    s01 += p * b;
    s02 += p * c;
    s03 += p * d;
    s10 += q * a;
    s11 += q * b;
    s12 += q * c;
    s13 += q * d;
  }
  gram.set([s00, s01, s02, s03], i * rowsY + j);
  gram.set([s10, s11, s12, s13], (i + 1) * rowsY + j);
}

/**
 * Frobenius norm of scale * B A from the factors, without a matrix of the layer's size.
 * @returns NaN or Infinity if a value is; 0 when the delta is zero. If parts of a delta cancel, its norm is
 * exact to about 1e-8 of the factors' norms.
 */
export function deltaNorm(module: LoraModule): number {
  const factors = deltaFactors(module);
  return Math.abs(module.scale) * normOf(innerProduct(factors, factors));
}

/** Rounding can leave a sum of squares below zero. */
export const normOf = (sumOfSquares: number): number => Math.sqrt(sumOfSquares < 0 ? 0 : sumOfSquares);

/**
 * Smaller squares lose their digits in float64, and the reflection would not be one. Nothing is lost: the
 * smallest number of float32 has the square 1e-90.
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

/** Applies the reflection whose v is at `v` to the vector at `at`; both from their element j on. */
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

/** Singular value decomposition of a product B A that is never computed. */
interface ProductSvd {
  /** All that can be non-zero, largest first. */
  readonly singularValues: readonly number[];
  /** Values up to this are rounding of the two factors. */
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
