import type { Tensor } from './dtype.ts';

/**
 * @param tensor `[rows, columns]`, F32, F16 or BF16.
 * @returns `[columns, rows]`, in memory of its own.
 */
export function transposeTensor(tensor: Tensor): Tensor {
  const { dtype, shape, data } = tensor;
  const width = dtype === 'F32' ? 4 : 2;
  const [rows, columns] = shape as [number, number];
  const count = rows * columns;
  // A view, unless the file's layout forbids one.
  const { buffer, byteOffset } = data.byteOffset % width === 0 ? data : data.slice();
  const [from, to] =
    width === 4
      ? [new Uint32Array(buffer, byteOffset, count), new Uint32Array(count)]
      : [new Uint16Array(buffer, byteOffset, count), new Uint16Array(count)];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      to[column * rows + row] = from[row * columns + column] as number;
  return { dtype, shape: [columns, rows], data: new Uint8Array(to.buffer) };
}
