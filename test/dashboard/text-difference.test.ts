import fc from 'fast-check';
import { expect, it } from 'vitest';
import { differences, type Piece } from '../../dashboard/model/answer-difference.ts';

/** What is not in the other text stands in brackets. */
const marked = (pieces: readonly Piece[]) =>
  pieces.map(({ text, same }) => (same ? text : `[${text}]`)).join('');

it.each<[string, string, string, string]>([
  ['', '', '', ''],
  ['a b c', 'a b c', 'a b c', 'a b c'],
  ['a b c', 'a x c', 'a [b ]c', 'a [x ]c'],
  ['a', '', '[a]', ''],
  ['the cat sat', 'the old cat sat down', 'the cat sat', 'the [old ]cat sat [down]'],
  ['open at all hours.', 'open at all hours.\n', 'open at all hours.', 'open at all hours.\n'],
  ['one two', '\n one\n\ntwo ', 'one two', '\n one\n\ntwo '],
  ['x', '\n', '[x]', '\n'],
])('%j beside %j: %j, %j', (a, b, left, right) => {
  const found = differences(a, b)!;
  expect(marked(found.a)).toBe(left);
  expect(marked(found.b)).toBe(right);
});

it('keeps both texts whole, and equal parts are equal except for white space', () => {
  const text = fc
    .array(fc.constantFrom('a ', 'b ', 'c', ' ', '\n'), { maxLength: 12 })
    .map((all) => all.join(''));
  fc.assert(
    fc.property(text, text, (a, b) => {
      const found = differences(a, b)!;
      const whole = (pieces: readonly Piece[]) => pieces.map((piece) => piece.text).join('');
      expect(whole(found.a)).toBe(a);
      expect(whole(found.b)).toBe(b);
      const same = (pieces: readonly Piece[]) =>
        whole(pieces.filter((piece) => piece.same))
          .split(/\s+/)
          .filter((word) => word !== '');
      expect(same(found.a)).toEqual(same(found.b));
    }),
  );
});

it('skips texts that would take long', () => {
  const long = 'word '.repeat(2_001);
  expect(differences(long, long)).toBeNull();
});
