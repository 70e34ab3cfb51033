/** A module whose scale is put into its values, for formats that cannot say it per module. */
import { AdapterFormatError, printable } from '../errors.ts';
import { toFloat32 } from './dtype.ts';
import type { LoraModule } from './lora-module.ts';

/**
 * `factor * B` as float32, computed in float64 and rounded once: each entry is off by at most 2^-24 (6e-8) of itself,
 * and exact when the factor is a power of two (above float32's subnormals). B and not A, so that A stays exact.
 * @returns `[out, rank]`, row-major.
 * @throws AdapterFormatError `non_finite` when a product leaves float32.
 */
export function foldIntoB(module: LoraModule, factor: number): Float32Array<ArrayBuffer> {
  const values = toFloat32(module.b);
  if (factor === 1) return values;
  for (let i = 0; i < values.length; i++) {
    const value = (values[i] as number) * factor;
    values[i] = value;
    if (!Number.isFinite(values[i]))
      throw new AdapterFormatError({
        code: 'non_finite',
        message:
          `${printable(module.name)}: B times the scale ${factor} leaves float32. ` +
          'Use a checkpoint from before the training diverged.',
        subject: module.name,
      });
  }
  return values;
}
