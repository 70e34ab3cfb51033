import fc from 'fast-check';
import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import { FlowText } from '../../../cli/chat/ask.ts';

function flow(pieces: readonly string[], width: number): string {
  const text = new FlowText(width);
  return pieces.map((piece) => text.push(piece)).join('') + text.end();
}

describe('FlowText', () => {
  it.each([
    [['The quick ', 'brown fox'], 10, 'The quick\nbrown fox'],
    [['  indented', ' code'], 40, '  indented code'],
    [['a\n\n', '  - b'], 20, 'a\n\n  - b'],
    [['wonder', 'ful'], 5, 'wonderful'],
    [['日本語 日本語'], 8, '日本語\n日本語'],
  ])('%j in %d columns', (pieces, width, expected) => {
    expect(flow(pieces, width)).toBe(expected);
  });

  it('keeps the words whatever the chunks, in lines that only a long word exceeds', () => {
    const anyText = fc.array(fc.constantFrom('a', 'bc', ' ', '\n', 'wörter', '日本'), { maxLength: 60 });
    fc.assert(
      fc.property(anyText, fc.integer({ min: 4, max: 30 }), (pieces, width) => {
        const flowed = flow(pieces, width);
        expect(flowed).toBe(flow([...pieces.join('')], width));
        const words = (text: string) => text.split(/\s+/).filter((word) => word !== '');
        expect(words(flowed)).toEqual(words(pieces.join('')));
        // An indentation may be as wide as the terminal.
        for (const line of flowed.split('\n').filter((one) => !one.startsWith(' ')))
          if (words(line).every((word) => stringWidth(word) <= width))
            expect(stringWidth(line.trimEnd())).toBeLessThanOrEqual(width);
      }),
    );
  });
});
