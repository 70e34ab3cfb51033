import type { Tensor } from './dtype.ts';

/**
 * @param tensor `[rows, columns]`, F32, F16 or BF16.
 * @returns `[columns, rows]`, in memory of its own.
 */
export function transposeTensor(tensor: Tensor): Tensor {
  const { dtype, shape, data } = tensor;
  const width = dtype === 'F32' ? 4 : 2;
  const [rows, columns] = shape as [number, number];
  // Copied once, so that the elements are aligned whatever the file's layout is.
  const source = data.slice();
  const [from, to] =
    width === 4
      ? [new Uint32Array(source.buffer), new Uint32Array(rows * columns)]
      : [new Uint16Array(source.buffer), new Uint16Array(rows * columns)];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      to[column * rows + row] = from[row * columns + column] as number;
  return { dtype, shape: [columns, rows], data: new Uint8Array(to.buffer) };
}
