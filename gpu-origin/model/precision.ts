import { toHalves } from '../../adapters/index.ts';

/**
 * What flows through a graph: activations, keys and values, scales of weights and deltas. `f16` of the `gpu` flavour
 * alone; the head and its logits are float32 either way.
 */
export const PRECISIONS = ['f32', 'f16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Bytes of a number. */
export const NUMBER_BYTES: Record<Precision, number> = { f32: 4, f16: 2 };

/** Numbers as tensors of a precision have them; float16 by its bits. */
export type Numbers = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

export const inPrecision = (precision: Precision, values: Float32Array<ArrayBuffer>): Numbers =>
  precision === 'f16' ? toHalves(values) : values;
