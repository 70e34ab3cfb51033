import { expect, it } from 'vitest';
import { transposeTensor } from '../../../adapters/format/lora-module.ts';
import { filled, tensor, transposed } from '../make-adapter.ts';

it.each(['F32', 'F16', 'BF16'] as const)('%s: rows become columns, at any alignment', (dtype) => {
  const matrix = tensor([2, 3], [1, 2, 3, 4, 5, 6], dtype);
  expect(transposeTensor(matrix)).toEqual(tensor([3, 2], [1, 4, 2, 5, 3, 6], dtype));
  const shifted = new Uint8Array(matrix.data.length + 1);
  shifted.set(matrix.data, 1);
  expect(transposeTensor({ ...matrix, data: shifted.subarray(1) })).toEqual(transposeTensor(matrix));
  const wide = filled(5, 7, dtype);
  expect(transposeTensor(wide)).toEqual(transposed(wide));
  expect(transposeTensor(transposeTensor(wide))).toEqual(wide);
});
