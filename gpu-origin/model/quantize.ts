/**
 * Row-wise symmetric int8 of a linear's weight, transposed for the matrix product.
 * @param weight `[out, in]` float
 * @returns `values` int8 `[in, out]` and `scales` float32 `[out]` with weight[o][i] ~ values[i][o] * scales[o]
 */
export function quantizeLinear(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
): { values: Int8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const at = row * columns;
    let max = 0;
    for (let i = 0; i < columns; i++) max = Math.max(max, Math.abs(weight[at + i]!));
    const scale = Math.fround(max / 127);
    scales[row] = scale;
    if (scale === 0) continue;
    for (let i = 0; i < columns; i++) values[i * rows + row] = Math.round(weight[at + i]! / scale);
  }
  return { values, scales };
}

/** @param weight `[rows, columns]` @returns float32 `[columns, rows]` */
export function transpose(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      out[column * rows + row] = weight[row * columns + column]!;
  return out;
}
