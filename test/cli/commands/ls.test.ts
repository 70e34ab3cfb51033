import { stripVTControlCharacters } from 'node:util';
import { expect, it } from 'vitest';
import { nameTable, removedTable } from '../../../cli/commands/names.ts';
import type { NameView } from '../../../protocol/admin-api/names.ts';

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

it('shows columns of tags and descriptions if a name has some', () => {
  expect(lines(view('a', { tags: ['x', 'y'] }), view('b', { description: 'what it is for' }))).toEqual([
    'NAME  LIVE  NEWEST  OWNER  TAGS  DESCRIPTION',
    'a     2     3       alice  x y   -',
    'b     2     3       alice  -     what it is for',
  ]);
});

it('shows a column of marks if a name is strict, one line per name', () => {
  expect(lines(view('a'), view('b', { strict: true }), view('c'), view('d'))).toEqual([
    'NAME  LIVE  NEWEST  OWNER  STRICT',
    'a     2     3       alice  -',
    'b     2     3       alice  yes',
    'c     2     3       alice  -',
    'd     2     3       alice  -',
  ]);
});

it('lists removed names with their deadlines', () => {
  const at = { removed_at: Date.UTC(2026, 0, 2, 3, 4), restorable_until: Date.UTC(2026, 0, 9, 3, 4) };
  const table = removedTable([
    { name: 'a', owner: 'alice', whole: true, versions: [1, 2], ...at },
    { name: 'b', owner: 'alice', whole: false, versions: [3], ...at },
    { name: 'c', owner: 'alice', whole: true, versions: [], ...at },
  ]);
  expect(stripVTControlCharacters(table).split('\n')).toEqual([
    'NAME  REMOVED  VERSIONS  OWNER  WHEN               RESTORABLE UNTIL',
    'a     name     1, 2      alice  2026-01-02 03:04Z  2026-01-09 03:04Z',
    'b     version  3         alice  2026-01-02 03:04Z  2026-01-09 03:04Z',
    'c     name     -         alice  2026-01-02 03:04Z  2026-01-09 03:04Z',
  ]);
});
