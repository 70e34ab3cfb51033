import { toFloat32 } from '../format/dtype.ts';
import { inFeatures, outFeatures, type LoraModule } from '../format/lora-module.ts';

/** A module's two factors in float64, both with the rank as rows, so that every inner loop runs over neighbours. */
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
