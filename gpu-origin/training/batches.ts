export interface Batch {
  rows: number;
  length: number;
  tokens: Int32Array;
  labels: Int32Array;
  weights: Float32Array;
  source: Int32Array;
}
