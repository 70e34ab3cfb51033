import { expect, it } from 'vitest';
import {
  rangeOf,
  usageTimeOf,
  usageTimeQuery,
  type UsageTime,
} from '../../dashboard/views/traffic/usage.tsx';
import { USAGE_OPERATIONS } from '../../protocol/admin-api/tenants.ts';

const NOW = Date.UTC(2026, 2, 9, 15, 30);

it.each<[UsageTime, object]>([
  ['1', { from: '2026-03-08T15:30:00.000Z' }],
  ['month', { from: '2026-03-01T00:00:00.000Z' }],
  ['last', { from: '2026-02-01T00:00:00.000Z', to: '2026-03-01T00:00:00.000Z' }],
  [
    { from: '2026-01-01', to: '2026-01-31' },
    { from: '2026-01-01', to: '2026-02-01' },
  ],
  [
    { from: '2026-03-09', to: '2026-03-09' },
    { from: '2026-03-09', to: '2026-03-10' },
  ],
  [{ from: '2024-02-29', to: '' }, { from: '2024-02-29' }],
])('%j is %j, which the edge accepts', (time, range) => {
  expect(rangeOf(time, NOW)).toEqual({ ok: true, value: range });
  expect(USAGE_OPERATIONS['GET /admin/usage'].query.safeParse(range).success).toBe(true);
});

it.each<[string, string, 'from' | 'to', RegExp]>([
  ['', '2026-01-31', 'from', /first day/],
  ['2026-02-30', '', 'from', /not a date/],
  ['yesterday', '', 'from', /not a date/],
  ['2026-01-01', '2026-13-01', 'to', /not a date/],
  ['2026-01-31', '2026-01-01', 'to', /before the first/],
  ['2026-03-10', '', 'from', /in the future.*2026-03-09/],
  ['2026-03-01', '2026-03-10', 'to', /in the future/],
])('%j to %j is invalid in %s', (from, to, field, words) => {
  const range = rangeOf({ from, to }, NOW);
  expect(range).toMatchObject({ ok: false, error: { field } });
  expect(!range.ok && range.error.message).toMatch(words);
});

it.each<UsageTime>(['1', '30', 'last', { from: '2026-01-01', to: '' }, { from: 'x', to: '2026-01-31' }])(
  '%j comes back from the address',
  (time) => {
    expect(usageTimeOf(new URLSearchParams(usageTimeQuery(time)))).toEqual(time);
  },
);

it('shows thirty days for an unknown address', () => {
  for (const query of ['', 'span=forever', 'from=&to='])
    expect(usageTimeOf(new URLSearchParams(query))).toBe('30');
});
