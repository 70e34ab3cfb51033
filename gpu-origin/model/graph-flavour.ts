/**
 * What graphs are made of. `cpu`: int8 products with a scale for each row, A `[B, R, in]`, R of 0 where there is
 * nothing. `gpu`: operators that ONNX Runtime's WebGPU provider has, natively and in browsers; int8 in blocks, A
 * `[B, in, R]`, R of 1 at least.
 */
export type GraphFlavour = 'cpu' | 'gpu';

/** Least R of a flavour: WebGPU binds no empty buffer. */
export const LEAST_RANK: Record<GraphFlavour, number> = { cpu: 0, gpu: 1 };

/** Dimensions of A: each row's own layout, `[R, in]` or turned. */
export const deltaShapeOfA = <T>(flavour: GraphFlavour, rows: T, rank: T, width: T): [T, T, T] =>
  flavour === 'gpu' ? [rows, width, rank] : [rows, rank, width];

/**
 * A row's A as the graphs of a flavour take it.
 * @param a `[r, width]` of the row. @param rank R of the graph's input, at least r.
 * @returns `[r, width]` as it is, or `[width, R]` with zeros beyond r.
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
