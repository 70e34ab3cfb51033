/** Stretched rotary frequencies, as divisors per pair; formulas of transformers' `modeling_rope_utils.py`. */
import { BaseModelError, type Rope } from './base-model.ts';

/** Fields of `rope_scaling` or `rope_parameters`. */
export type RopeFields = Readonly<Record<string, unknown>>;

function number(fields: RopeFields, key: string): number {
  const value = fields[key];
  if (typeof value !== 'number') throw new BaseModelError(`config.json: rope_scaling lacks ${key}`);
  return value;
}

/** `_compute_llama3_parameters` */
function llama3(fields: RopeFields, theta: number, dim: number): Float32Array {
  const factor = number(fields, 'factor');
  const low = number(fields, 'low_freq_factor');
  const high = number(fields, 'high_freq_factor');
  const original = number(fields, 'original_max_position_embeddings');
  return Float32Array.from({ length: dim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / dim);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Divisors that are all the same: `_compute_linear_scaling_rope_parameters`. */
export const linearDivisors = (factor: number, dim: number): Float32Array =>
  new Float32Array(dim / 2).fill(factor);

/** What LongRoPE multiplies cosine and sine by, for a context that is `factor` times the original one. */
export const longRopeScale = (factor: number, original: number): number =>
  factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));

/** `_compute_longrope_parameters` for rows within the original context, which are all that is served. */
function longRope(
  fields: RopeFields,
  dim: number,
  context: number,
  original: number,
): Pick<Rope, 'divisors' | 'scale'> {
  const short = fields['short_factor'];
  if (
    !Array.isArray(short) ||
    short.length !== dim / 2 ||
    !short.every((x) => typeof x === 'number' && x > 0)
  )
    throw new BaseModelError(`config.json: rope_scaling needs short_factor, ${dim / 2} numbers`);
  const factor = typeof fields['factor'] === 'number' ? fields['factor'] : context / original;
  const given = fields['attention_factor'];
  return {
    divisors: Float32Array.from(short as number[]),
    scale: typeof given === 'number' ? given : longRopeScale(factor, original),
  };
}

/**
 * @param params.context tokens that the configuration allows. @param params.original those of training before LongRoPE.
 * @returns the positions, and how many tokens they are right for.
 * @throws BaseModelError for kinds of scaling that are not supported.
 */
export function hubRope(params: {
  fields: RopeFields;
  theta: number;
  dim: number;
  context: number;
  original: number;
}): { rope: Rope; context: number } {
  const { fields, theta, dim, context, original } = params;
  const type = fields['rope_type'] ?? fields['type'] ?? 'default';
  const plain: Rope = { theta, dim, divisors: null, scale: 1 };
  switch (type) {
    case 'default':
      return { rope: plain, context };
    case 'llama3':
      return { rope: { ...plain, divisors: llama3(fields, theta, dim) }, context };
    case 'linear':
      return { rope: { ...plain, divisors: linearDivisors(number(fields, 'factor'), dim) }, context };
    case 'longrope':
    case 'su':
      return {
        rope: { ...plain, ...longRope(fields, dim, context, original) },
        context: Math.min(context, original),
      };
    default:
      throw new BaseModelError(
        `the base uses rotary scaling "${String(type)}"; default, linear, llama3 and longrope are supported`,
      );
  }
}
