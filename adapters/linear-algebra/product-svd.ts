import { SingularValueDecomposition } from 'ml-matrix';
import type { DeltaFactors } from './delta-factors.ts';
import { thinQr } from './householder-qr.ts';

/** Singular value decomposition of a product B A that is never made. */
export interface ProductSvd {
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
