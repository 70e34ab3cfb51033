import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { limitsTable, parseLimits } from '../../../cli/commands/limits.ts';

describe('parseLimits', () => {
  it.each([
    [{}, { action: 'list', tenant: '', limits: undefined }],
    [
      { action: 'set', tenant: 'alice', rpm: '600', tpm: 'none', 'tokens-per-day': '5M' },
      {
        action: 'set',
        tenant: 'alice',
        limits: { requests_per_minute: 600, tokens_per_minute: null, tokens_per_day: 5_000_000 },
      },
    ],
    [
      { action: 'lift', tenant: 'alice' },
      { action: 'lift', tenant: 'alice', limits: undefined },
    ],
    [
      { action: 'reset', tenant: 'alice' },
      { action: 'reset', tenant: 'alice', limits: undefined },
    ],
  ])('%j', (args, wanted) => expect(parseLimits(args)).toEqual(wanted));

  it.each([
    [{ action: 'drop' }, /not one of list, set, lift, reset/],
    [{ action: 'list', tenant: 'alice' }, /takes no 'alice'/],
    [{ action: 'set', rpm: '6' }, /Which tenant\?/],
    [{ action: 'set', tenant: 'alice' }, /Which limits\?/],
    [{ action: 'set', tenant: 'alice', rpm: '0' }, /--rpm/],
    [{ action: 'lift', tenant: 'alice', rpm: '6' }, /--rpm is not a flag of `graft limits lift`/],
  ])('refuses %j', (args, message) => expect(() => parseLimits(args)).toThrow(message));
});

it('lists limits as text', () => {
  const changed = { changed_at: Date.UTC(2026, 0, 31), changed_by: 'bootstrap' };
  const table = limitsTable([
    { tenant: 'alice', limits: { requests_per_minute: 600, concurrent: 4 }, pending: false, ...changed },
    { tenant: 'bob', limits: null, pending: true, ...changed },
  ]);
  const lines = stripVTControlCharacters(table).split('\n');
  expect(lines.map((line) => line.trimEnd().split(/ {2,}/))).toEqual([
    ['TENANT', 'LIMITS', 'SINCE', 'STATE'],
    ['alice', '600 req/min, 4 at once', '2026-01-31 00:00Z', 'in force'],
    ['bob', '-', '2026-01-31 00:00Z', 'not yet on all keys'],
  ]);
});
