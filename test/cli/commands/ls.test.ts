import { stripVTControlCharacters } from 'node:util';
import { expect, it } from 'vitest';
import { nameTable } from '../../../cli/commands/ls.ts';
import type { NameView } from '../../../protocol/index.ts';

const view = (name: string, more: Partial<NameView> = {}): NameView => ({
  ...{ name, owner: 'alice', version: 2, latest: 3, alias: null, strict: false, description: null, tags: [] },
  ...more,
});
const lines = (...names: NameView[]): string[] => stripVTControlCharacters(nameTable(names)).split('\n');

it('lists live and staged names and aliases', () => {
  expect(
    lines(
      view('a'),
      view('b', { version: null, latest: 1 }),
      view('c', { version: null, latest: 0, alias: 'a' }),
    ),
  ).toEqual([
    'NAME  LIVE  NEWEST  OWNER',
    'a     2     3       alice',
    'b     -     1       alice',
    'c     -> a  -       alice',
  ]);
});

it('has columns of tags and descriptions where a name has some', () => {
  expect(lines(view('a', { tags: ['x', 'y'] }), view('b', { description: 'what it is for' }))).toEqual([
    'NAME  LIVE  NEWEST  OWNER  TAGS  DESCRIPTION',
    'a     2     3       alice  x y   -',
    'b     2     3       alice  -     what it is for',
  ]);
});

it('has a column of marks where a name is strict, and a line a name', () => {
  expect(lines(view('a'), view('b', { strict: true }), view('c'), view('d'))).toEqual([
    'NAME  LIVE  NEWEST  OWNER  STRICT',
    'a     2     3       alice  -',
    'b     2     3       alice  yes',
    'c     2     3       alice  -',
    'd     2     3       alice  -',
  ]);
});
