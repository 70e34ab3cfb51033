import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isHeads, permuteRows, unpermuteRows } from '../../../adapters/format/gguf-adapter.ts';

describe('the rows of q and k', () => {
  it('two heads of four rows, by hand', () => {
    const rows = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7);
    expect([...permuteRows(rows, 2, 1)]).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
    const wide = Uint8Array.of(10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61);
    expect([...permuteRows(wide, 1, 2)]).toEqual([10, 11, 40, 41, 20, 21, 50, 51, 30, 31, 60, 61]);
  });

  it('as llama.cpp: reshape(heads, 2, headDim / 2, columns), swap axes 1 and 2, reshape back', () => {
    const [heads, headDim, columns] = [3, 8, 5];
    const rows = Uint8Array.from({ length: heads * headDim * columns }, (_, i) => i);
    // The element at [head, i, part, column] of the result is the one at [head, part, i, column] of the source.
    const expected: number[] = [];
    for (let head = 0; head < heads; head++)
      for (let i = 0; i < headDim / 2; i++)
        for (let part = 0; part < 2; part++)
          for (let column = 0; column < columns; column++)
            expected.push(((head * 2 + part) * (headDim / 2) + i) * columns + column);
    expect([...permuteRows(rows, heads, columns)]).toEqual(expected);
  });

  it('are where they were after both ways, for any heads and sizes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 9 }),
        (heads, half, rowBytes) => {
          const rows = Uint8Array.from({ length: heads * half * 2 * rowBytes }, (_, i) => (i * 7) % 251);
          const copy = rows.slice();
          expect(unpermuteRows(permuteRows(rows, heads, rowBytes), heads, rowBytes)).toEqual(copy);
          expect(permuteRows(unpermuteRows(rows, heads, rowBytes), heads, rowBytes)).toEqual(copy);
          expect(rows).toEqual(copy);
        },
      ),
      { seed: 2 },
    );
  });

  it.each([
    [576, 9, true],
    [192, 3, true],
    [6, 3, true],
    [9, 3, false],
    [10, 3, false],
    [8, 0, false],
    [8, 0.5, false],
    [8, -2, false],
  ])('%i rows are %f heads of an even size: %s', (rows, heads, expected) => {
    expect(isHeads(rows, heads)).toBe(expected);
  });
});
