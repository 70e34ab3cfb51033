import fc from 'fast-check';
import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import { fitColumns, fitRows, shortenMiddle, wrapText, plainTable } from '../../cli/output.ts';

describe('shortenMiddle', () => {
  it.each([
    ['medicine/cardiology/dr-lee', 26, 'medicine/cardiology/dr-lee'],
    ['medicine/cardiology/dr-lee', 15, 'medicin…/dr-lee'],
    ['日本語の名前', 7, '日…前'],
    ['ab', 1, '…'],
  ])('%s in %d columns', (text, width, expected) => {
    expect(shortenMiddle(text, width)).toBe(expected);
  });

  it('is never too wide, and keeps both ends', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', maxLength: 60 }),
        fc.integer({ min: 5, max: 40 }),
        (text, width) => {
          expect(stringWidth(shortenMiddle(text, width))).toBeLessThanOrEqual(width);
        },
      ),
    );
  });
});

describe('fitColumns', () => {
  it.each([
    [[10, 20], 40, [10, 20]],
    [[60, 20, 5], 60, [35, 20, 5]],
    [[40, 40], 60, [30, 30]],
    [[40, 40], 10, [12, 12]],
  ])('%j into %d', (widths, room, expected) => {
    expect(fitColumns(widths, room)).toEqual(expected);
  });

  it('never widens a column, and fills the room if possible', () => {
    const anyWidths = fc.array(fc.integer({ min: 0, max: 90 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(anyWidths, fc.integer({ min: 1, max: 200 }), (widths, room) => {
        const fitted = fitColumns(widths, room);
        const sum = (all: readonly number[]) => all.reduce((total, each) => total + each, 0);
        fitted.forEach((width, at) => {
          expect(width).toBeLessThanOrEqual(widths[at]!);
          expect(width).toBeGreaterThanOrEqual(Math.min(12, widths[at]!));
        });
        const least = sum(widths.map((width) => Math.min(12, width)));
        expect(sum(fitted)).toBe(Math.max(Math.min(sum(widths), room), Math.min(least, sum(widths))));
      }),
    );
  });
});

describe('a table in a narrow terminal', () => {
  const rows = [
    ['medicine/cardiology/dr-lee/with-a-long-name', '3', 'the second half of the year brought better notes'],
    ['short', '12', 'first'],
  ];

  it('shortens names and wraps sentences', () => {
    const table = plainTable(['NAME', 'V', 'WHY'], rows, 60);
    expect(
      table
        .split('\n')
        .map((line) => stringWidth(line))
        .every((width) => width <= 60),
    ).toBe(true);
    expect(table).toContain('medicine/cardio…th-a-long-name');
    expect(table.replace(/\s+/g, ' ')).toContain('the second half of the');
  });

  it('prints the whole table if it fits, and in a pipe', () => {
    expect(plainTable(['NAME', 'V', 'WHY'], rows)).toContain(rows[0]![0]);
    expect(fitRows(rows, 2, 120)).toEqual(rows);
  });
});

describe('wrapText', () => {
  it('keeps all words in order, in lines that only a long word exceeds', () => {
    const anyWords = fc.array(
      fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 15 }).filter((word) => !/\s/.test(word)),
    );
    fc.assert(
      fc.property(anyWords, fc.integer({ min: 1, max: 40 }), (words, width) => {
        const lines = wrapText(words.join(' '), width);
        expect(lines.join(' ')).toBe(words.join(' '));
        for (const line of lines) if (line.includes(' ')) expect(line.length).toBeLessThanOrEqual(width);
      }),
    );
  });
});
