import { MAX_RANK } from '../protocol/limits.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { maxMagnitude, toFloat32, type Tensor } from './format/dtype.ts';
import { inFeatures, outFeatures, type LoraModule } from './format/lora-module.ts';

export interface SumMember {
  readonly modules: readonly LoraModule[];
  /** On top of each module's own alpha / rank. */
  readonly scale: number;
}

interface Part {
  readonly module: LoraModule;
  /** What B is multiplied by: the member's scale times alpha / rank. */
  readonly factor: number;
}

/**
 * One adapter whose delta is the sum of scale_i * alpha_i / rank_i * B_i A_i: rows of A below each other, columns of B
 * beside each other with their factor folded in. Exact but for rounding B to float32. A member without a module, or
 * with the scale 0, adds nothing to it.
 *
 * The result's ranks are the sums of the members'. What `truncateAdapter` makes smaller anyway may be of any rank:
 * `{ anyRank: true }` gives modules above the limit of an adapter file, for nothing but that.
 * @returns sorted by name; float32, alpha = rank.
 * @throws AdapterFormatError `shape_mismatch` when two members disagree about a layer's size, `rank_too_large`,
 * `scale_invalid`, `non_finite` when a factor takes B out of float32, `no_op` when nothing is left.
 */
export function sumAdapters(
  members: readonly SumMember[],
  options: { readonly anyRank?: boolean } = {},
): LoraModule[] {
  const parts = new Map<string, Part[]>();
  for (const { modules, scale } of members) {
    if (!Number.isFinite(scale))
      throw new AdapterFormatError({
        code: 'scale_invalid',
        message: `A member's scale is ${scale}: it must be a finite number.`,
      });
    for (const module of modules) {
      const factor = scale * module.scale;
      if (factor === 0) continue;
      const list = parts.get(module.name) ?? [];
      list.push({ module, factor });
      parts.set(module.name, list);
    }
  }
  if (parts.size === 0)
    throw new AdapterFormatError({
      code: 'no_op',
      message: 'Every member has no modules or the scale 0, so the sum changes nothing.',
    });
  const names = [...parts.keys()].sort();
  return names.map((name) => sumModule(name, parts.get(name)!, options.anyRank ?? false));
}

function sumModule(name: string, parts: readonly Part[], anyRank: boolean): LoraModule {
  const refuse = (code: 'shape_mismatch' | 'rank_too_large' | 'non_finite', message: string) =>
    new AdapterFormatError({ code, message: `${printable(name)}: ${message}`, subject: name });
  const first = parts[0]!.module;
  const [inputs, outputs] = [inFeatures(first), outFeatures(first)];
  const rank = parts.reduce((sum, { module }) => sum + module.rank, 0);
  if (rank > MAX_RANK && !anyRank)
    throw refuse(
      'rank_too_large',
      `the members' ranks sum to ${rank}, above the limit of ${MAX_RANK}. Truncate the sum: --rank ${MAX_RANK} or less.`,
    );
  const a = new Float32Array(rank * inputs);
  const b = new Float32Array(outputs * rank);
  let at = 0;
  for (const { module, factor } of parts) {
    if (inFeatures(module) !== inputs || outFeatures(module) !== outputs)
      throw refuse(
        'shape_mismatch',
        `one member is for a layer [${outputs}, ${inputs}], ` +
          `another for [${outFeatures(module)}, ${inFeatures(module)}]. They are for different bases.`,
      );
    a.set(toFloat32(module.a), at * inputs);
    const source = toFloat32(module.b);
    for (let row = 0; row < outputs; row++)
      for (let column = 0; column < module.rank; column++)
        b[row * rank + at + column] = factor * source[row * module.rank + column]!;
    at += module.rank;
  }
  const sum: LoraModule = {
    name,
    rank,
    alpha: rank,
    scale: 1,
    a: float32Tensor([rank, inputs], a),
    b: float32Tensor([outputs, rank], b),
  };
  if (!Number.isFinite(maxMagnitude(sum.b)))
    throw refuse('non_finite', 'B times its scale leaves float32. Use a smaller scale.');
  return sum;
}

export const float32Tensor = (shape: readonly number[], values: Float32Array<ArrayBuffer>): Tensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});
