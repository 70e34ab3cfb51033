import type { LinearKind } from './base-model.ts';
import { foldGain, ROTATED } from './prepare-weights.ts';
import { transpose } from './quantize.ts';
import { rotateColumns, rotateRows, type RotationSet } from './rotation.ts';

export interface RotatedModule {
  rank: number;
  /** `[rank, in]` */
  a: Float32Array<ArrayBuffer>;
  /** `[rank, out]`, scale folded in. */
  b: Float32Array<ArrayBuffer>;
}

/**
 * Transforms one module's delta exactly as its base weight was: A' = A diag(gain) R, B' = R^T B, and B transposed.
 * @param a `[rank, in]`, changed in place. @param b `[out, rank]`, changed in place.
 */
export function rotateModule(params: {
  kind: LinearKind;
  rank: number;
  scale: number;
  a: Float32Array<ArrayBuffer>;
  b: Float32Array<ArrayBuffer>;
  gain: Float32Array | null;
  rotations: RotationSet | null;
}): RotatedModule {
  const { kind, rank, scale, a, b, gain, rotations } = params;
  if (gain !== null) foldGain(a, gain);
  if (rotations !== null) {
    const rotated = ROTATED[kind];
    rotateColumns(a, a.length / rank, rotations[rotated.columns]);
    const rows = rotated.rows === null ? null : rotations[rotated.rows];
    if (rows !== null) rotateRows(b, rank, rows);
  }
  const out = transpose(b, b.length / rank, rank);
  for (let i = 0; i < out.length; i++) out[i]! *= scale;
  return { rank, a, b: out };
}
