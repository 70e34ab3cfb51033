import { describe, expect, it } from 'vitest';
import { drawLossCurve, lossText } from '../../../cli/train/loss-curve.ts';
import type { TrainingCurve } from '../../../protocol/training.ts';

const SIZE = { width: 12, height: 4 };

describe('drawLossCurve', () => {
  it('draws the training loss as a line, and each held-out loss as an o', () => {
    const curve: TrainingCurve = [
      [1, 4, null],
      [50, 1, 2],
      [100, 0, 0.5],
    ];
    expect(drawLossCurve(curve, SIZE)).toEqual([
      '4 ┤⠑⢄',
      '  │  ⠑⢄',
      '  │    ⠑o⡀',
      '0 ┤      ⠈⠉⠒⠢⠤o',
      '  └────────────',
      '   step 1   100',
      '   line: loss of the rows trained on; o: held-out loss',
    ]);
  });

  it('draws a level line for one loss', () => {
    const lines = drawLossCurve(
      [
        [1, 2, null],
        [9, 2, null],
      ],
      SIZE,
    );
    expect(lines[0]).toBe('2 ┤');
    expect(lines[2]).toMatch(/^ {2}│[\u2801-\u28ff]{12}$/);
    expect(lines.at(-1)).toBe('   line: loss of the rows trained on');
  });

  it.each<[string, TrainingCurve]>([
    ['nothing', []],
    ['one point', [[1, 2, 3]]],
  ])('draws nothing for %s', (_, curve) => {
    expect(drawLossCurve(curve)).toEqual([]);
  });

  it('fits 80 columns, whatever the numbers', () => {
    for (let seed = 1; seed < 200; seed += 1) {
      const curve = Array.from({ length: 2 + (seed % 60) }, (__, i): TrainingCurve[number] => [
        1 + i * seed,
        Math.abs(Math.sin(seed * 9.7 + i)) * 10 ** ((seed % 9) - 4),
        i % 5 === 0 ? Math.abs(Math.cos(seed + i)) : null,
      ]);
      const lines = drawLossCurve(curve);
      expect(lines).toHaveLength(11);
      for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(80);
    }
  });
});

it.each([
  [0, '0'],
  [0.000012, '1.2e-5'],
  [0.01234, '0.0123'],
  [2.409, '2.41'],
  [12.3456, '12.3'],
])('writes a loss of %d as %s', (loss, text) => {
  expect(lossText(loss)).toBe(text);
});
