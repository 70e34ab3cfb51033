import { expect, it } from 'vitest';
import { suggestName, suggestVersions } from '../../dashboard/model/names.ts';
import type { NameView } from '../../protocol/admin-api/names.ts';
import type { VersionView } from '../../protocol/admin-api/versions.ts';

const name = (more: Partial<NameView>): NameView => ({
  ...{ name: 'a/b', owner: 'o', version: 2, latest: 2, alias: null, strict: false, description: null },
  tags: [],
  ...more,
});

it.each<[string, Partial<NameView>]>([
  ['@2 live', {}],
  ['@2 live, newest @5', { latest: 5 }],
  ['nothing live', { version: null }],
  ['alias of a/c', { alias: 'a/c', version: null, latest: 0 }],
  ['@2 live. Sorts tickets', { description: 'Sorts tickets' }],
])('suggests a name with its state and description: %s', (about, more) => {
  expect(suggestName(name(more))).toEqual({ value: 'a/b', about });
});

it('suggests versions with their states, without those that may not be used', () => {
  const version = (number: number, more: Partial<VersionView> = {}) =>
    ({
      name: 'a',
      version: number,
      live: false,
      retired_at: null,
      withdrawn_at: null,
      ...more,
    }) as VersionView;
  const versions = [
    version(5),
    version(4),
    version(3, { live: true }),
    version(2),
    version(1, { retired_at: 7 }),
    version(0, { withdrawn_at: 7 }),
  ];
  const found = suggestVersions({ versions, version: 3 }, new Set([4]), (one) => `a@${one.version}`);
  expect(found).toEqual([
    { value: 'a@5', about: 'staged' },
    { value: 'a@4', about: 'rolled back' },
    { value: 'a@3', about: 'live' },
    { value: 'a@2', about: 'earlier' },
  ]);
});
