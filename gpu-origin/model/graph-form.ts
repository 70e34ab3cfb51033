/**
 * What runners know of graphs: kinds, inputs, types, flavours, precisions. Without the builder, which browsers
 * do not need.
 */
import { toHalves } from '../../adapters/index.ts';
import { LINEAR_KINDS, type LinearKind } from './base-model.ts';

/** onnx.TensorProto.DataType */
export const DataType = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, f16: 10 } as const;
export type DataType = keyof typeof DataType;

export type GraphKind = 'none' | 'qv' | 'all';

export const GRAPH_KINDS: readonly GraphKind[] = ['none', 'qv', 'all'];

export const DELTA_KINDS: Record<GraphKind, readonly LinearKind[]> = {
  none: [],
  qv: ['q', 'v'],
  all: LINEAR_KINDS,
};

/** Tensors of the weights' file begin at multiples of this, as ONNX external data wants (a page). */
export const GRAPH_FILE_ALIGNMENT = 4_096;

/** Layers `from` … `to`-1 of a base. */
export interface Layers {
  readonly from: number;
  readonly to: number;
}

/** Maximum parts of a graph. */
const MOST_PARTS = 6;

/**
 * The parts in which a prompt's chunk is read with decode steps between them, with about equal numbers of
 * layers.
 */
export function graphParts(layers: number): Layers[] {
  const parts = Math.min(MOST_PARTS, layers);
  const cut = (part: number): number => Math.round((part * layers) / parts);
  return Array.from({ length: parts }, (_, part) => ({ from: cut(part), to: cut(part + 1) }));
}

/** The stream after a layer, `[B, T, hidden]` each: normed, and raw. One part passes them to the next. */
export const streamNames = (layer: number): { normed: string; stream: string } => ({
  normed: `l${layer}.h2`,
  stream: `l${layer}.x2`,
});

/** Of the tensors in the weights' file. */
export const WEIGHT_TYPES = ['f32', 'i8', 'u8'] as const;

export interface WeightEntry {
  name: string;
  type: (typeof WEIGHT_TYPES)[number];
  dims: number[];
  offset: number;
  bytes: number;
}

/** Names of the inputs that carry a linear's delta: A as `deltaShapeOfA` says, B `[B, R, out]`. */
export const deltaNames = (layer: number, kind: LinearKind): { a: string; b: string } => ({
  a: `l${layer}.${kind}.A`,
  b: `l${layer}.${kind}.B`,
});

/**
 * What graphs are made of. `cpu`: int8 products with a scale for each row, A `[B, R, in]`, R of 0 where there is
 * nothing. `gpu`: operators that ONNX Runtime's WebGPU provider has, natively and in browsers; int8 in blocks, A
 * `[B, in, R]`, R of 1 at least.
 */
export type GraphFlavour = 'cpu' | 'gpu';

/** Minimum R of a flavour: WebGPU binds no empty buffer. */
export const LEAST_RANK: Record<GraphFlavour, number> = { cpu: 0, gpu: 1 };

/** Dimensions of A: each row's own layout, `[R, in]` or turned. */
export const deltaShapeOfA = <T>(flavour: GraphFlavour, rows: T, rank: T, width: T): [T, T, T] =>
  flavour === 'gpu' ? [rows, width, rank] : [rows, rank, width];

/**
 * A row's A in the layout of a flavour's graphs.
 * @param a `[r, width]` of the row. @param rank R of the graph's input, at least r.
 * @returns `[r, width]` unchanged, or `[width, R]` with zeros beyond r.
 */
export function blockOfA(
  flavour: GraphFlavour,
  a: Float32Array<ArrayBuffer>,
  rank: number,
  width: number,
): Float32Array<ArrayBuffer> {
  if (flavour === 'cpu') return a;
  const turned = new Float32Array(width * rank);
  for (let row = 0, at = 0; at < a.length; row++)
    for (let column = 0; column < width; column++, at++) turned[column * rank + row] = a[at]!;
  return turned;
}

/**
 * Precision of activations, keys and values, scales of weights and deltas. `f16` only in the `gpu` flavour; the
 * head and its logits are always float32.
 */
export const PRECISIONS = ['f32', 'f16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Bytes of a number. */
export const NUMBER_BYTES: Record<Precision, number> = { f32: 4, f16: 2 };

/** Numbers in a precision's representation; float16 as bits. */
export type Numbers = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

export const inPrecision = (precision: Precision, values: Float32Array<ArrayBuffer>): Numbers =>
  precision === 'f16' ? toHalves(values) : values;
