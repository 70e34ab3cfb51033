/** What those who run the graphs know of them: kinds, inputs, types. Without the builder, which no browser needs. */
import { LINEAR_KINDS, type LinearKind } from './base-model.ts';
import type { PreparedTensor } from './prepare-weights.ts';

/** onnx.TensorProto.DataType */
export const DataType = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7 } as const;
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
