/** One LoRA module, and the rules that hold for it whatever file it came from. */
import { MAX_RANK } from '../../protocol/limits.ts';
import { AdapterFormatError, printable } from '../errors.ts';
import type { Dtype, Tensor } from './dtype.ts';

/** Adds `scale * B A` to a linear layer's weight `[out, in]`. */
export interface LoraModule {
  /** Path in Hugging Face's naming: `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank, always. */
  readonly scale: number;
  /** `[rank, in]` */
  readonly a: Tensor;
  /** `[out, rank]` */
  readonly b: Tensor;
}

const LORA_DTYPES: ReadonlySet<Dtype> = new Set<Dtype>(['F32', 'F16', 'BF16']);
/** Python attribute names and list indexes, as PyTorch joins them. */
const MODULE_NAME = /^[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*$/;
const MAX_MODULE_NAME = 256;

/**
 * @throws AdapterFormatError `module_name_invalid`, `dtype_unsupported`, `shape_invalid`, `rank_mismatch`,
 * `rank_too_large` or `scale_invalid`.
 */
export function makeLoraModule(params: {
  name: string;
  alpha: number;
  /** What the configuration says; the tensors must agree. */
  rank: number;
  a: Tensor;
  b: Tensor;
  path?: string | undefined;
}): LoraModule {
  const { name, alpha, rank, a, b, path } = params;
  const shown = printable(name);
  const problem = (code: AdapterFormatError['code'], message: string): AdapterFormatError =>
    new AdapterFormatError({ code, message, path, subject: name });

  if (name.length > MAX_MODULE_NAME || !MODULE_NAME.test(name))
    throw problem(
      'module_name_invalid',
      `Module "${shown}" is not a dotted path of letters, digits and "_" of at most ${MAX_MODULE_NAME} characters. Save the adapter from the model itself.`,
    );
  for (const [side, { dtype, shape }] of [
    ['A', a],
    ['B', b],
  ] as const) {
    if (!LORA_DTYPES.has(dtype))
      throw problem(
        'dtype_unsupported',
        `${shown}: ${side} is ${dtype}; save the adapter as F32, F16 or BF16.`,
      );
    if (shape.length !== 2 || shape.includes(0))
      throw problem(
        'shape_invalid',
        `${shown}: ${side} has the shape [${shape.join(', ')}]; only linear layers (two dimensions, not empty) can be adapted. Leave it out.`,
      );
  }
  const [rows] = a.shape as [number, number];
  const [, columns] = b.shape as [number, number];
  if (rows !== columns)
    throw problem(
      'rank_mismatch',
      `${shown}: A [${a.shape.join(', ')}] has rank ${rows}, B [${b.shape.join(', ')}] has rank ${columns}. Save the adapter again.`,
    );
  if (rows !== rank)
    throw problem(
      'rank_mismatch',
      `${shown}: the tensors have rank ${rows}, the configuration says ${rank}. Use the configuration that belongs to them.`,
    );
  if (rank > MAX_RANK)
    throw problem(
      'rank_too_large',
      `${shown}: rank ${rank} is above the limit of ${MAX_RANK}. Train with a smaller one.`,
    );
  const scale = alpha / rank;
  if (!Number.isFinite(Math.fround(scale)) || Math.fround(scale) === 0)
    throw problem(
      'scale_invalid',
      `${shown}: alpha ${alpha} over rank ${rank} is no usable scale. Correct alpha.`,
    );
  return { name, rank, alpha, scale, a, b };
}

export const inFeatures = (module: { readonly a: { readonly shape: readonly number[] } }): number =>
  module.a.shape[1] as number;
export const outFeatures = (module: { readonly b: { readonly shape: readonly number[] } }): number =>
  module.b.shape[0] as number;
