/** One LoRA module: rules that apply whatever its file format, and conversions of its type and scale. */
import { MAX_RANK } from '../../protocol/limits.ts';
import { AdapterFormatError, printable } from '../errors.ts';
import { type Dtype, DTYPE_BITS, elementsOf, readFloat32, type Tensor, toFloat32 } from './dtype.ts';

/** The linear before the logits, and the table of tokens, in a model of text alone. */
export const HEAD_MODULE = 'lm_head';
export const EMBEDDING_MODULE = 'model.embed_tokens';

/**
 * Adds `scale * B A` to a linear layer's weight `[out, in]`; to an embedding's, whose rows are tokens, the transpose: it
 * has tokens as inputs.
 */
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

/** Where models that also see have the layers of their text: transformers 5, older ones and mlx-lm, without a head. */
const TEXT_LAYERS = /^(?:model\.language_model|language_model(?:\.model)?)(?=\.(?:layers\.\d|embed_tokens$))/;
/** … and their head. */
const TEXT_HEAD = /^language_model\.(?=lm_head$)/;

/**
 * Adapters keep the names that they were trained under, which PEFT needs to load them again; the same layer is found by
 * this one.
 * @returns the path in a model of text alone, `model.layers.…`, `model.embed_tokens` or `lm_head`.
 */
export const textModule = (name: string): string => name.replace(TEXT_LAYERS, 'model').replace(TEXT_HEAD, '');

/** Whether the module is the table of tokens, whatever kind of model it is in. */
export const isEmbedding = (name: string): boolean => textModule(name) === EMBEDDING_MODULE;

/** Paths in the part of such a model that sees. */
const VISION = /^(?:model\.)?(?:visual|vision_tower|embed_vision|multi_modal_projector)\./;
export const isVision = (path: string): boolean => VISION.test(path);

/** Tokens that {@link movedTokens} names at most. */
const MOVED_TOKENS = 8;

/** @returns tokens with the largest values in an embedding's A: it is zero for those that training did not see. */
export function movedTokens({ a, rank }: Pick<LoraModule, 'a' | 'rank'>): number[] {
  const values = toFloat32(a);
  const tokens = values.length / rank;
  const largest = new Float32Array(tokens);
  for (let at = 0; at < values.length; at++) {
    const token = at % tokens;
    largest[token] = Math.max(largest[token]!, Math.abs(values[at]!));
  }
  const best: number[] = [];
  largest.forEach((value, token) => {
    if (value === 0 || (best.length === MOVED_TOKENS && value <= largest[best.at(-1)!]!)) return;
    const place = best.findIndex((other) => largest[other]! < value);
    best.splice(place === -1 ? best.length : place, 0, token);
    best.length = Math.min(best.length, MOVED_TOKENS);
  });
  return best;
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
  /** From the configuration; the tensors must agree. */
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
        `${shown}: ${side} has the shape [${shape.join(', ')}]; only linear layers (two dimensions, ` +
          'not empty) are supported. Leave it out.',
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
      `${shown}: the tensors have rank ${rows}, but the configuration says ${rank}. Use the ` +
        'configuration that belongs to them.',
    );
  if (rank > MAX_RANK)
    throw problem(
      'rank_too_large',
      `${shown}: rank ${rank} is above the limit of ${MAX_RANK}. Train with a smaller rank.`,
    );
  const scale = alpha / rank;
  if (!Number.isFinite(Math.fround(scale)) || Math.fround(scale) === 0)
    throw problem(
      'scale_invalid',
      `${shown}: alpha ${alpha} over rank ${rank} is not a usable scale. Correct alpha.`,
    );
  return { name, rank, alpha, scale, a, b };
}

export const inFeatures = (module: { readonly a: { readonly shape: readonly number[] } }): number =>
  module.a.shape[1] as number;
export const outFeatures = (module: { readonly b: { readonly shape: readonly number[] } }): number =>
  module.b.shape[0] as number;

/** Target types; each value is rounded to the nearest one, ties to even. */
export type LoraDtype = 'F32' | 'BF16' | 'F16';

/** Elements converted at once, so that no copy of a whole tensor is needed. */
const PIECE = 1 << 11;

/** Bits of float32 infinity; larger ones are NaN, smaller ones are numbers. */
const INFINITE = 0x7f800000;
/** Bits of 65520, the least float32 that float16 rounds to infinity, and of its smallest normal number, 2^-14. */
const HALF_OVERFLOW = 0x477ff000;
const HALF_NORMAL = 0x38800000;

/** @param bits of a float32, not NaN. @returns the bfloat16's bits. */
const toBfloat16 = (bits: number): number => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;

/** @param bits of a float32, not NaN. @returns the float16's bits. */
function toFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= HALF_OVERFLOW) return sign | 0x7c00;
  if (magnitude >= HALF_NORMAL)
    return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13);
  // Subnormal: the fraction counts in units of 2^-24.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const half = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  return sign | (half + (rest > middle || (rest === middle && (half & 1) === 1) ? 1 : 0));
}

/** @param values finite. @returns float16s' bits; infinity where a value is beyond their range. */
export function toHalves(values: Float32Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) halves[i] = toFloat16(bits[i] as number);
  return halves;
}

/** @returns bytes of the tensor in another type. */
export const bytesAs = (tensor: Tensor, dtype: LoraDtype): number =>
  (tensor.data.byteLength / (DTYPE_BITS.get(tensor.dtype) as number)) * (DTYPE_BITS.get(dtype) as number);

/**
 * Converts a tensor into a buffer.
 * @param target {@link bytesAs} bytes, at any alignment.
 * @param where.name module named in the error.
 * @throws AdapterFormatError `non_finite` when a value is NaN or infinite, or becomes so; `dtype_unsupported`
 * for anything but F32, F16, BF16 and F64.
 */
export function convertInto(
  tensor: Tensor,
  dtype: LoraDtype,
  target: Uint8Array,
  where: { name: string; path?: string | undefined },
): void {
  const width = (DTYPE_BITS.get(tensor.dtype) as number) / 8;
  const count = tensor.data.byteLength / width;
  const floats = new Float32Array(Math.min(count, PIECE));
  const narrow = new Uint16Array(floats.length);
  const [made, madeWidth] =
    dtype === 'F32' ? [new Uint8Array(floats.buffer), 4] : [new Uint8Array(narrow.buffer), 2];
  for (let at = 0; at < count; at += PIECE) {
    const end = Math.min(count, at + PIECE);
    const piece = floats.subarray(0, end - at);
    readFloat32({ dtype: tensor.dtype, data: tensor.data.subarray(at * width, end * width) }, piece);
    const bits = new Uint32Array(piece.buffer, 0, piece.length);
    if (!(dtype === 'F32' ? allFinite(bits) : narrowAll(bits, dtype, narrow)))
      throw new AdapterFormatError({
        code: 'non_finite',
        message:
          `${printable(where.name)}: a value is NaN, infinite or too large for ${dtype}. Keep the ` +
          'type, or use an earlier checkpoint.',
        path: where.path,
        subject: where.name,
      });
    target.set(made.subarray(0, piece.length * madeWidth), at * madeWidth);
  }
}

function allFinite(bits: Uint32Array): boolean {
  for (let i = 0; i < bits.length; i++) if (((bits[i] as number) & 0x7fffffff) >= INFINITE) return false;
  return true;
}

/** @param bits of float32 values. @returns whether all of them, and all results, are finite. */
function narrowAll(bits: Uint32Array, dtype: 'BF16' | 'F16', out: Uint16Array): boolean {
  const convert = dtype === 'BF16' ? toBfloat16 : toFloat16;
  const infinite = dtype === 'BF16' ? 0x7f80 : 0x7c00;
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i] as number;
    const narrow = convert(value);
    // A NaN may round to anything, so it is checked first.
    if ((value & 0x7fffffff) >= INFINITE || (narrow & 0x7fff) >= infinite) return false;
    out[i] = narrow;
  }
  return true;
}

/**
 * @returns the tensor itself when it has the type already.
 * @throws AdapterFormatError as {@link convertInto}.
 */
export function convertTensor(
  tensor: Tensor,
  dtype: LoraDtype,
  where: { name: string; path?: string | undefined },
): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const data = new Uint8Array(bytesAs(tensor, dtype));
  convertInto(tensor, dtype, data, where);
  return { dtype, shape: tensor.shape, data };
}

/**
 * The modules with all tensors in one type; rank, alpha and order stay.
 * @throws AdapterFormatError as {@link convertTensor}.
 */
export function toDtype(modules: readonly LoraModule[], dtype: LoraDtype): LoraModule[] {
  return modules.map((module) => ({
    ...module,
    a: convertTensor(module.a, dtype, module),
    b: convertTensor(module.b, dtype, module),
  }));
}

/**
 * For formats without a scale per module: `factor * B` as float32, computed in float64 and rounded once: each
 * entry is off by at most 2^-24 (6e-8) of itself, and exact when the factor is a power of two (above float32's
 * subnormals). B and not A, so that A stays exact.
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
          `${printable(module.name)}: B times the scale ${factor} exceeds float32. Use a checkpoint ` +
          'from before the training diverged.',
        subject: module.name,
      });
  }
  return values;
}

/**
 * @param tensor `[rows, columns]`, F32, F16 or BF16.
 * @returns `[columns, rows]`, in memory of its own.
 */
export function transposeTensor(tensor: Tensor): Tensor {
  const { dtype, shape, data } = tensor;
  const [rows, columns] = shape as [number, number];
  const [from, to] =
    dtype === 'F32'
      ? [elementsOf(data, Uint32Array), new Uint32Array(rows * columns)]
      : [elementsOf(data, Uint16Array), new Uint16Array(rows * columns)];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      to[column * rows + row] = from[row * columns + column] as number;
  return { dtype, shape: [columns, rows], data: new Uint8Array(to.buffer) };
}

/**
 * Anything but a matrix of a LoRA type stays unchanged, for `makeLoraModule` to refuse; so does an empty one,
 * whose other size may be anything.
 */
export const turned = (tensor: Tensor): Tensor =>
  tensor.shape.length === 2 && !tensor.shape.includes(0) && ['F32', 'F16', 'BF16'].includes(tensor.dtype)
    ? transposeTensor(tensor)
    : tensor;
