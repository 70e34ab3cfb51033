import { expect, it } from 'vitest';
import { byName, fit, isFound } from '../../dashboard/model/names.ts';

it('sorts like people count, and never treats two names as equal', () => {
  const names = ['v10', 'v2', 'V2', 'v1', 'a/v10', 'a/v9', 'b', 'v02'];
  expect(names.toSorted(byName)).toEqual(['a/v9', 'a/v10', 'b', 'v1', 'V2', 'v02', 'v2', 'v10']);
  expect(byName('a', 'a')).toBe(0);
  expect(byName('a', 'A')).not.toBe(0);
});

it.each<[string, string, boolean]>([
  ['medicine/cardiology/dr-lee', 'cardio', true],
  ['medicine/cardiology/dr-lee', 'LEE med', true],
  ['medicine/cardiology/dr-lee', 'lee  x', false],
  ['medicine', 'medicine/', false],
  ['medicine', '', true],
])('%j has %j in it: %j', (name, text, expected) => {
  expect(isFound(name, text)).toBe(expected);
});

it('lists the likeliest match first', () => {
  const names = ['x/a/y', 'a/b', 'x/a', 'a', 'ba'];
  expect(names.toSorted((one, other) => fit(one, 'a') - fit(other, 'a'))).toEqual([
    ...['a', 'x/a', 'a/b', 'x/a/y', 'ba'],
  ]);
});
