import { expect, it } from 'vitest';
import { hoursWords, keyState, limitsWords, offeredRights } from '../../dashboard/model/key-words.ts';
import { NO_RIGHTS, type KeyView } from '../../protocol/admin-api/keys.ts';

const KEY: KeyView = {
  id: 'key_1',
  kind: 'api',
  tenant: 't',
  scopes: [],
  scope_owners: [],
  label: '',
  created_at: 0,
  created_by: 'k',
  revoked_at: null,
  expires_at: null,
  ...NO_RIGHTS,
  replaced_by: null,
  replaces: null,
};

it.each<[string, Partial<KeyView>]>([
  ['good', {}],
  ['good', { expires_at: 101 }],
  ['expired', { expires_at: 100 }],
  ['ending', { expires_at: 101, replaced_by: 'key_2' }],
  ['expired', { expires_at: 99, replaced_by: 'key_2' }],
  ['revoked', { revoked_at: 5, expires_at: 101 }],
])('shows %s at 100: %j', (state, more) => {
  expect(keyState({ ...KEY, ...more }, 100)).toBe(state);
});

it.each([
  [1, '1 hour'],
  [36, '36 hours'],
  [24, '1 day'],
  [168, '7 days'],
])('says %d hours as %s', (hours, words) => expect(hoursWords(hours)).toBe(words));

it.each([
  ['api', ['strict', 'publish', 'train', 'improve', 'trust_trace']],
  ['admin', ['download', 'train', 'prompts']],
] as const)('offers rights to %s keys', (kind, fields) => {
  expect(offeredRights(kind).map(([field]) => field)).toEqual(fields);
});

it('shows what it may use, and nothing without limits', () => {
  expect(limitsWords(null)).toBeNull();
  expect(limitsWords({ on_outage: 'refuse' })).toBeNull();
  expect(limitsWords({ tokens_per_day: 1_000_000, requests_per_minute: 60, concurrent: 4 })).toBe(
    '60 requests/min, 4 at once, 1,000,000 tokens/day',
  );
});
