import { stripVTControlCharacters } from 'node:util';
import { expect, it } from 'vitest';
import { reservedText, roomTable } from '../../../cli/commands/names.ts';

it('describes the result of a reservation', () => {
  const room = { name: 'acme', tenant: 'alice', from: null };
  expect(reservedText(room, false)).toBe('acme is reserved for alice');
  expect(reservedText({ ...room, from: 'bob' }, true)).toBe(
    'dry run: acme would be reserved for alice (before: for bob)',
  );
  expect(reservedText({ ...room, from: 'alice' }, false)).toBe(
    'acme is reserved for alice already; nothing changed',
  );
});

it('lists reserved prefixes', () => {
  const room = { name: 'acme', tenant: 'alice', created_at: Date.UTC(2026, 0, 31), created_by: 'bootstrap' };
  expect(
    stripVTControlCharacters(roomTable([room]))
      .split('\n')
      .map((line) => line.split(/ {2,}/)),
  ).toEqual([
    ['ROOM', 'TENANT', 'SINCE', 'BY'],
    ['acme', 'alice', '2026-01-31', 'bootstrap'],
  ]);
});
