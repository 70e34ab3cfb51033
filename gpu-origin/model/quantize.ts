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
    const scale = rowScale(weight.subarray(at, at + columns));
    scales[row] = scale;
    if (scale === 0) continue;
    for (let i = 0; i < columns; i++) values[i * rows + row] = Math.round(weight[at + i]! / scale);
  }
  return { values, scales };
}

/**
 * The same scales, the values where they are: for rows that are looked up.
 * @param weight `[rows, columns]` @returns `values` int8 `[rows, columns]`, `scales` float32 `[rows]`
 */
export function quantizeRows(
  weight: Float32Array,
  rows: number,
  columns: number,
): { values: Int8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const part = weight.subarray(row * columns, (row + 1) * columns);
    const scale = rowScale(part);
    scales[row] = scale;
    if (scale !== 0) part.forEach((value, i) => (values[row * columns + i] = Math.round(value / scale)));
  }
  return { values, scales };
}

/** The largest magnitude is 127 of it. */
function rowScale(row: Float32Array | Float64Array): number {
  let max = 0;
  for (let i = 0; i < row.length; i++) max = Math.max(max, Math.abs(row[i]!));
  return Math.fround(max / 127);
}

/** @param weight `[rows, columns]` @returns float32 `[columns, rows]` */
export function transpose(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
  out = new Float32Array(rows * columns),
): Float32Array<ArrayBuffer> {
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      out[column * rows + row] = weight[row * columns + column]!;
  return out;
}

/** Weights of a row that share a scale, in 4 bit a zero point too: `MatMulNBits`' block_size. */
export const BLOCK = 32;

/**
 * Blocks of 32 weights of a row in 4 bit, as com.microsoft's `MatMulNBits` reads them (ContribOperators.md of ONNX
 * Runtime): each block's range, zero within it, in 15 steps. A last block that is shorter ends in zeros.
 * @param weight `[out, in]` float
 * @returns `values` two a byte, the lower half first, `[out, blocks, 16]`; `scales` float32 `[out, blocks]`; `zeros` two
 * a byte, `[out, ceil(blocks / 2)]`; weight ~ (value - zero) * scale
 */
export function quantizeBlocks(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
): Record<'values' | 'zeros', Uint8Array<ArrayBuffer>> & { scales: Float32Array<ArrayBuffer> } {
  const blocks = Math.ceil(columns / BLOCK);
  const zeroBytes = Math.ceil(blocks / 2);
  const values = new Uint8Array((rows * blocks * BLOCK) / 2);
  const scales = new Float32Array(rows * blocks);
  const zeros = new Uint8Array(rows * zeroBytes);
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * BLOCK;
      const count = Math.min(BLOCK, columns - block * BLOCK);
      let [min, max] = [0, 0];
      for (let i = 0; i < count; i++) {
        min = Math.min(min, weight[from + i]!);
        max = Math.max(max, weight[from + i]!);
      }
      const scale = Math.fround((max - min) / 15);
      const zero = scale === 0 ? 0 : Math.round(-min / scale);
      const index = row * blocks + block;
      scales[index] = scale;
      zeros[row * zeroBytes + (block >> 1)]! |= zero << (4 * (block & 1));
      for (let i = 0; i < BLOCK; i++) {
        const steps = scale === 0 || i >= count ? 0 : Math.round(weight[from + i]! / scale);
        const value = Math.min(15, Math.max(0, steps + zero));
        values[(index * BLOCK + i) >> 1]! |= value << (4 * (i & 1));
      }
    }
  return { values, scales, zeros };
}

/**
 * Blocks of 32 weights of a row in 8 bit, as `MatMulNBits` reads them: symmetric about 128, its zero point by default.
 * @param weight `[out, in]` float
 * @returns `values` `[out, blocks, 32]`; `scales` float32 `[out, blocks]`; weight ~ (value - 128) * scale
 */
export function quantizeByteBlocks(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
): { values: Uint8Array<ArrayBuffer>; scales: Float32Array<ArrayBuffer> } {
  const blocks = Math.ceil(columns / BLOCK);
  const values = new Uint8Array(rows * blocks * BLOCK).fill(128);
  const scales = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * BLOCK;
      const count = Math.min(BLOCK, columns - block * BLOCK);
      let max = 0;
      for (let i = 0; i < count; i++) max = Math.max(max, Math.abs(weight[from + i]!));
      const index = row * blocks + block;
      const scale = Math.fround(max / 127);
      scales[index] = scale;
      if (scale === 0) continue;
      for (let i = 0; i < count; i++) values[index * BLOCK + i] = 128 + Math.round(weight[from + i]! / scale);
    }
  return { values, scales };
}
