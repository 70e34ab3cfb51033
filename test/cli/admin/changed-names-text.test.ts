import { expect, it } from 'vitest';
import { changedNameText } from '../../../cli/admin/operation-command.ts';
import { removedText } from '../../../cli/commands/versions.ts';

const whole = { name: 'a/b', whole: true, versions: [1, 2, 3, 5], live: 5, alias: null };

it('describes what a name has lost, or has again', () => {
  expect(changedNameText(whole)).toBe('a/b: versions 1 to 3, 5, 5 live');
  expect(changedNameText({ ...whole, live: null })).toBe('a/b: versions 1 to 3, 5, none live');
  expect(changedNameText({ ...whole, versions: [4], live: 4 })).toBe('a/b: version 4, live');
  expect(changedNameText({ ...whole, versions: [4], live: null })).toBe('a/b: version 4, not live');
  expect(changedNameText({ ...whole, whole: false, versions: [2, 3], live: null })).toBe('a/b@2, a/b@3');
  expect(changedNameText({ ...whole, versions: [], live: null, alias: 'c' })).toBe('a/b: alias of c');
});

it('describes what is removed along, what others lose, and how to restore it', () => {
  const other = { name: 'a/b/c', whole: false, versions: [2], live: null, alias: null };
  const answer = {
    removed: [whole, other],
    unpinned: ['a/b'],
    stops: { versions: 2, experiments: 1 },
    removed_at: 0,
    restorable_until: Date.UTC(2026, 0, 8),
  };
  expect(removedText(answer, 'would be').split('\n')).toEqual([
    'dry run: would be removed',
    '  a/b: versions 1 to 3, 5, 5 live',
    '  a/b/c@2',
    'unpinned: a/b',
    'no longer served: 2 versions and 1 experiment of other tenants',
    'restore it until 2026-01-08 00:00Z with: graft restore a/b --cascade',
  ]);
  const one = { ...answer, removed: [other], unpinned: [], stops: { versions: 0, experiments: 0 } };
  expect(removedText(one, 'is').split('\n')).toEqual([
    'removed',
    '  a/b/c@2',
    'restore it until 2026-01-08 00:00Z with: graft restore a/b/c@2',
  ]);
});
