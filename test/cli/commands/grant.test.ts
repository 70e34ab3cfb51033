import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { grantTable, parseGrant, parseRefusal } from '../../../cli/commands/grant.ts';

describe('parseGrant', () => {
  it.each([
    [
      { scope: 'alice/**', to: 'bob' },
      { scope: 'alice/**', tenant: 'bob' },
    ],
    [
      { scope: 'alice', public: true },
      { scope: 'alice', tenant: '*' },
    ],
    [
      { scope: '**', to: 'bob', remove: true },
      { scope: '**', tenant: 'bob' },
    ],
    [{}, null],
    [{ held: true }, null],
  ])('%j', (args, wanted) => {
    expect(parseGrant(args)).toEqual(wanted);
  });

  it.each([
    [{ scope: 'alice' }, /--to <tenant> or --public/],
    [{ scope: 'alice', to: 'bob', public: true }, /--to <tenant> or --public/],
    [{ scope: 'alice/*', to: 'bob' }, /neither a name/],
    [{ scope: '/**', to: 'bob' }, /neither a name/],
    [{ to: 'bob' }, /What should be granted/],
    [{ remove: true }, /What should be granted/],
    [{ scope: 'alice', to: 'bob', held: true }, /--held lists/],
  ])('refuses %j', (args, message) => {
    expect(() => parseGrant(args)).toThrow(message);
  });
});

describe('parseRefusal', () => {
  it.each([
    [
      { scope: 'refuse', tenant: 'eve' },
      { action: 'refuse', tenant: 'eve' },
    ],
    [
      { scope: 'accept', tenant: 'eve' },
      { action: 'accept', tenant: 'eve' },
    ],
    [{ scope: 'refuse' }, { action: 'refuse', tenant: null }],
    // Names can be called so.
    [{ scope: 'refuse', to: 'bob' }, null],
    [{ scope: 'accept', public: true }, null],
    [{ scope: 'alice/**', to: 'bob' }, null],
    [{}, null],
  ])('%j', (args, wanted) => {
    expect(parseRefusal(args)).toEqual(wanted);
  });

  it.each([
    [{ scope: 'accept' }, /Whose grants/],
    [{ scope: 'alice/**', tenant: 'bob' }, /with --to/],
    [{ scope: 'refuse', tenant: 'eve', held: true }, /no flags/],
  ])('refuses %j', (args, message) => {
    expect(() => parseRefusal(args)).toThrow(message);
  });
});

it('lists grants as text', () => {
  const at = { created_at: Date.UTC(2026, 0, 31), created_by: 'x' };
  const table = grantTable([
    { scope: 'medicine/**', tenant: '*', owner: 'clinic', ...at },
    { scope: '**', tenant: 'ops', owner: null, ...at },
    { scope: 'eve', tenant: 'ops', owner: 'eve', refused: true, ...at },
  ]);
  const lines = stripVTControlCharacters(table).split('\n');
  expect(lines.map((line) => line.split(/ {2,}/))).toEqual([
    ['SCOPE', 'OWNER', 'GRANTED TO', 'SINCE'],
    ['medicine/**', 'clinic', 'everybody', '2026-01-31'],
    ['**', 'anybody', 'ops', '2026-01-31'],
    ['eve', 'eve', 'ops (refused)', '2026-01-31'],
  ]);
});
