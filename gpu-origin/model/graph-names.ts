/** What those who run the graphs know of them: kinds, inputs, types. Without the builder, which no browser needs. */
import { LINEAR_KINDS, type LinearKind } from './base-model.ts';
import type { PreparedTensor } from './prepare-weights.ts';

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

/** Most parts that a graph is cut into. */
const MOST_PARTS = 6;

/** The parts that a prompt's chunk is read in where decode steps run between them, about as many layers each. */
export function graphParts(layers: number): Layers[] {
  const parts = Math.min(MOST_PARTS, layers);
  const cut = (part: number): number => Math.round((part * layers) / parts);
  return Array.from({ length: parts }, (_, part) => ({ from: cut(part), to: cut(part + 1) }));
}

/** The stream behind a layer, `[B, T, hidden]` each: normed, and as it is. One part gives them to the next. */
export const streamNames = (layer: number): { normed: string; stream: string } => ({
  normed: `l${layer}.h2`,
  stream: `l${layer}.x2`,
});

export interface WeightEntry {
  name: string;
  type: PreparedTensor['type'];
  dims: number[];
  offset: number;
  bytes: number;
}

/** Names of the inputs that carry a linear's delta: A as `deltaShapeOfA` says, B `[B, R, out]`. */
export const deltaNames = (layer: number, kind: LinearKind): { a: string; b: string } => ({
  a: `l${layer}.${kind}.A`,
  b: `l${layer}.${kind}.B`,
});
