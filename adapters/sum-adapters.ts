import { MAX_RANK } from '../protocol/limits.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { maxMagnitude, toFloat32, type Tensor } from './format/dtype.ts';
import { inFeatures, outFeatures, textModule, type LoraModule } from './format/lora-module.ts';
import { deltaFactors, deltaNorm, productSvd } from './linear-algebra.ts';

export interface SumMember {
  readonly modules: readonly LoraModule[];
  /** On top of each module's own alpha / rank. */
  readonly scale: number;
}

interface Part {
  readonly module: LoraModule;
  /** Factor of B: the member's scale times alpha / rank. */
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
      const layer = textModule(module.name);
      const list = parts.get(layer) ?? [];
      list.push({ module, factor });
      parts.set(layer, list);
    }
  }
  if (parts.size === 0)
    throw new AdapterFormatError({
      code: 'no_op',
      message: 'Every member has no modules or the scale 0, so the sum changes nothing.',
    });
  // Under one member's names: PEFT would look for others in vain.
  const named = [...parts.values()].map((list) => [list[0]!.module.name, list] as const);
  named.sort(([a], [b]) => (a < b ? -1 : 1));
  return named.map(([name, list]) => sumModule(name, list, options.anyRank ?? false));
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
        `one member is for a layer [${outputs}, ${inputs}], another for [${outFeatures(module)}, ` +
          `${inFeatures(module)}]. They are for different bases.`,
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
    throw refuse('non_finite', 'B times its scale exceeds float32. Use a smaller scale.');
  return sum;
}

export const float32Tensor = (shape: readonly number[], values: Float32Array<ArrayBuffer>): Tensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});

export interface TruncatedModule {
  readonly name: string;
  /** 0 = left out, because its delta is zero. */
  readonly rank: number;
  /** As {@link TruncatedAdapter.relativeError}, of this module alone. */
  readonly relativeError: number;
}

export interface TruncatedAdapter {
  /** In the original order; float32 with alpha = rank for truncated modules. */
  readonly modules: LoraModule[];
  /**
   * Frobenius norm of the truncated part over that of the whole delta, all modules together: 0 … 1. No other
   * adapter of this rank comes closer (Eckart and Young). Storing the result in float32 adds about 1e-7.
   */
  readonly relativeError: number;
  /** Of the whole input. */
  readonly perModule: readonly TruncatedModule[];
}

interface Truncation {
  readonly module: LoraModule | null;
  /** Squares of Frobenius norms. */
  readonly kept: number;
  readonly cut: number;
}

/**
 * The closest adapter whose modules have at most `rank`: each scale * B A keeps its largest singular values. A module
 * of no more than that rank stays exactly as it is; one whose delta is zero is left out.
 * @param modules may be of any rank, such as `sumAdapters` makes with `anyRank`.
 * @param rank 1 … 512.
 * @throws AdapterFormatError `rank_too_large`, `non_finite`, or `no_op` when all deltas are zero.
 */
export function truncateAdapter(modules: readonly LoraModule[], rank: number): TruncatedAdapter {
  if (!Number.isInteger(rank) || rank < 1) throw new RangeError(`${rank} is not a valid rank`);
  if (rank > MAX_RANK)
    throw new AdapterFormatError({
      code: 'rank_too_large',
      message: `Rank ${rank} is above the limit of ${MAX_RANK}. Truncate to that or less.`,
    });
  const kept: LoraModule[] = [];
  const perModule: TruncatedModule[] = [];
  const total = { kept: 0, cut: 0 };
  for (const source of modules) {
    checkFinite(source);
    const result = source.rank <= rank ? keepWhole(source) : truncate(source, rank);
    if (result.module) kept.push(result.module);
    perModule.push({
      name: source.name,
      rank: result.module?.rank ?? 0,
      relativeError: result.module ? share(result) : 0,
    });
    total.kept += result.kept;
    total.cut += result.cut;
  }
  if (kept.length === 0)
    throw new AdapterFormatError({
      code: 'no_op',
      message: 'Every delta is zero, so the adapter changes nothing and nothing is left to truncate.',
    });
  return { modules: kept, relativeError: share(total), perModule };
}

const share = ({ kept, cut }: { kept: number; cut: number }): number =>
  cut === 0 ? 0 : Math.sqrt(cut / (kept + cut));

function checkFinite({ name, a, b }: LoraModule): void {
  if (Number.isFinite(maxMagnitude(a)) && Number.isFinite(maxMagnitude(b))) return;
  throw new AdapterFormatError({
    code: 'non_finite',
    message: `${printable(name)}: A or B contains NaN or infinity. The training diverged; use an earlier checkpoint.`,
    subject: name,
  });
}

function keepWhole(module: LoraModule): Truncation {
  const norm = deltaNorm(module);
  return norm === 0 ? { module: null, kept: 0, cut: 0 } : { module, kept: norm ** 2, cut: 0 };
}

function truncate(module: LoraModule, rank: number): Truncation {
  const [inputs, outputs] = [inFeatures(module), outFeatures(module)];
  const svd = productSvd(deltaFactors(module));
  const values = svd.singularValues;
  const count = values.slice(0, rank).filter((value) => value > svd.noise).length;
  if (count === 0) return { module: null, kept: 0, cut: 0 };

  // Each factor takes the square root of the values, so that neither needs more of float32's (or F16's) range.
  const left = svd.left(count);
  const right = svd.right(count);
  const a = new Float32Array(count * inputs);
  const b = new Float32Array(outputs * count);
  for (let k = 0; k < count; k++) {
    const root = Math.sqrt(values[k]! * Math.abs(module.scale));
    for (let i = 0; i < inputs; i++) a[k * inputs + i] = root * right[k * inputs + i]!;
    const signed = Math.sign(module.scale) * root;
    for (let o = 0; o < outputs; o++) b[o * count + k] = signed * left[k * outputs + o]!;
  }
  const squares = values.map((value) => (value * module.scale) ** 2);
  const sum = (some: readonly number[]): number => some.reduce((total, square) => total + square, 0);
  return {
    module: {
      name: module.name,
      rank: count,
      alpha: count,
      scale: 1,
      a: float32Tensor([count, inputs], a),
      b: float32Tensor([outputs, count], b),
    },
    kept: sum(squares.slice(0, count)),
    cut: sum(squares.slice(count)),
  };
}
