import { expect, it } from 'vitest';
import { removedLately } from '../../dashboard/model/names.ts';
import { REMOVAL_GRACE_MS } from '../../protocol/admin-api/names.ts';

const NOW = 1_000 * REMOVAL_GRACE_MS;
/** `action name` or `action name@version`, oldest first, a second apart. */
const changes = (...all: string[]) =>
  all
    .map((text, i) => {
      const [action = '', what = ''] = text.split(' ');
      const [name = '', version] = what.split('@');
      return {
        ...{ id: i, name, owner: 'o', at: NOW - 1_000 * (all.length - i), actor: 'key', action },
        ...{ from: null, to: version === undefined ? null : Number(version), target: null, why: null },
      };
    })
    .reverse();
const found = (...all: string[]) =>
  removedLately(changes(...all), NOW).map(({ name, version }) =>
    version === null ? name : `${name}@${version}`,
  );

it.each<[string[], string[]]>([
  [[], []],
  [['publish a@1', 'remove a'], ['a']],
  [['publish a@1', 'remove a', 'publish b@1'], ['a']],
  [['remove a', 'restore a@1'], []],
  [['remove a', 'publish a@2'], []],
  [['remove a', 'restore a@1', 'remove a'], ['a']],
  [['remove a@1'], ['a@1']],
  [['remove a@1', 'publish a@3'], ['a@1']],
  [['remove a@1', 'restore a@1'], []],
  [['remove a@1', 'restore a@1', 'remove a@1'], ['a@1']],
  // With the name its versions went once more, and come back with it.
  [['remove a@1', 'remove a'], ['a']],
  [
    ['remove a', 'remove b@2'],
    ['b@2', 'a'],
  ],
])('after %j, %j can be restored', (all, expected) => {
  expect(found(...all)).toEqual(expected);
});

it('forgets what can no longer be restored', () => {
  const [change] = changes('remove a');
  expect(removedLately([{ ...change!, at: NOW - REMOVAL_GRACE_MS }], NOW)).toEqual([]);
  expect(removedLately([{ ...change!, at: NOW - REMOVAL_GRACE_MS + 1 }], NOW)).toHaveLength(1);
});
