import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopScanner, tokenEnds } from '../../../gpu-origin/generation/answer-text.ts';

/** Pushes the pieces until a stop string is complete; everything shown, and whether it stopped. */
function scan(stops: string[], pieces: string[]): { shown: string; stopped: boolean } {
  const scanner = new StopScanner(stops);
  let shown = '';
  for (const piece of pieces) {
    const { text, stopped } = scanner.push(piece);
    shown += text;
    if (stopped !== null) return { shown, stopped: true };
  }
  return { shown: shown + scanner.flush(), stopped: false };
}

describe('StopScanner', () => {
  it.each<[string[], string[], string, boolean]>([
    [[], ['a', 'b'], 'ab', false],
    [['END'], ['xE', 'N', 'Dy'], 'x', true],
    [['END'], ['xE', 'N', 'x'], 'xENx', false],
    [['END'], ['xE', 'N'], 'xEN', false],
    [['END'], ['xEEND'], 'xE', true],
    [['aab'], ['a', 'a', 'a', 'b'], 'a', true],
    [['\n\n'], ['a\n', 'b\n', '\n', 'c'], 'a\nb', true],
    [['abcd', 'bc'], ['abcd'], 'a', true],
    [['bc', 'abc'], ['xabc'], 'x', true],
    [['é'], ['caf', 'é'], 'caf', true],
    [['😀'], ['x', '😀'], 'x', true],
    // Half a character is not looked for.
    [['\ude00'], ['x😀'], 'x😀', false],
  ])('%j over %j shows %j', (stops, pieces, shown, stopped) => {
    expect(scan(stops, pieces)).toEqual({ shown, stopped });
  });

  it('holds back exactly what may become a stop string', () => {
    const scanner = new StopScanner(['<end>', 'zz']);
    expect(scanner.push('a<e').text).toBe('a');
    expect(scanner.push('nd').text).toBe('');
    expect(scanner.push('!').text).toBe('<end!');
    expect(scanner.push('z').text).toBe('');
    expect(scanner.push('y').text).toBe('zy');
  });

  it('shows the same whatever the pieces are, and never shows a stop string', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        fc.array(letters, { minLength: 1, maxLength: 4 }),
        fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 5 }), { maxLength: 12 }),
        (stops, pieces) => {
          const text = pieces.join('');
          const result = scan(stops, pieces);
          expect(result).toEqual(scan(stops, [...text]));
          expect(result).toEqual(scan(stops, [text]));
          expect(text.startsWith(result.shown)).toBe(true);
          for (const stop of stops) expect(result.shown.includes(stop)).toBe(false);
          expect(result.stopped).toBe(stops.some((stop) => text.includes(stop)));
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('tokenEnds', () => {
  const eos = new Set([2]);
  it.each([
    [2, 1, 9, false, 'stop'],
    [2, 9, 9, false, 'stop'],
    [2, 1, 9, true, null],
    [2, 9, 9, true, 'length'],
    [5, 8, 9, false, null],
    [5, 9, 9, false, 'length'],
  ] as const)(
    'token %i as number %i of %i, ignore_eos %s: %s',
    (token, generated, maxTokens, ignoreEos, end) => {
      expect(tokenEnds({ token, generated, maxTokens, eos, ignoreEos })).toBe(end);
    },
  );
});
