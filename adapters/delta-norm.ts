import type { LoraModule } from './format/lora-module.ts';
import { deltaFactors } from './linear-algebra/delta-factors.ts';
import { innerProduct } from './linear-algebra/inner-product.ts';

/**
 * Frobenius norm of scale * B A from the factors: no matrix of the layer's size is made.
 * @returns NaN or Infinity when a value is; 0 when the delta is zero. A delta whose parts cancel has a norm that is
 * exact to about 1e-8 of the factors' norms.
 */
export function deltaNorm(module: LoraModule): number {
  const factors = deltaFactors(module);
  return Math.abs(module.scale) * normOf(innerProduct(factors, factors));
}

/** Rounding can leave a sum of squares below zero. */
export const normOf = (sumOfSquares: number): number => Math.sqrt(sumOfSquares < 0 ? 0 : sumOfSquares);
