import { MAX_RANK } from '../protocol/limits.ts';
import { deltaFactors, deltaNorm } from './linear-algebra/delta-factors.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { maxMagnitude } from './format/dtype.ts';
import { inFeatures, outFeatures, type LoraModule } from './format/lora-module.ts';
import { productSvd } from './linear-algebra/product-svd.ts';
import { float32Tensor } from './sum-adapters.ts';

export interface TruncatedModule {
  readonly name: string;
  /** 0 = left out, because its delta is zero. */
  readonly rank: number;
  /** As {@link TruncatedAdapter.relativeError}, of this module alone. */
  readonly relativeError: number;
}

export interface TruncatedAdapter {
  /** In the order in which they came; float32 with alpha = rank where something was cut off. */
  readonly modules: LoraModule[];
  /**
   * Frobenius norm of what was cut off over that of the whole delta, all modules together: 0 … 1. No other adapter of
   * this rank comes closer (Eckart and Young). Storing the result in float32 adds about 1e-7.
   */
  readonly relativeError: number;
  /** All that came. */
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
  if (!Number.isInteger(rank) || rank < 1) throw new RangeError(`${rank} is no rank`);
  if (rank > MAX_RANK)
    throw new AdapterFormatError({
      code: 'rank_too_large',
      message: `Rank ${rank} is above the limit of ${MAX_RANK}: truncate to that or less.`,
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
      message: 'Every delta is zero, so the adapter changes nothing: nothing is left to truncate.',
    });
  return { modules: kept, relativeError: share(total), perModule };
}

const share = ({ kept, cut }: { kept: number; cut: number }): number =>
  cut === 0 ? 0 : Math.sqrt(cut / (kept + cut));

function checkFinite({ name, a, b }: LoraModule): void {
  if (Number.isFinite(maxMagnitude(a)) && Number.isFinite(maxMagnitude(b))) return;
  throw new AdapterFormatError({
    code: 'non_finite',
    message: `${printable(name)}: A or B holds NaN or infinity. The training diverged; use an earlier checkpoint.`,
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
