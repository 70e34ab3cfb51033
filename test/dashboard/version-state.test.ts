import { expect, it } from 'vitest';
import { heirsOf, inheritedFrom } from '../../dashboard/model/names.ts';
import { versionState } from '../../protocol/state-words.ts';
import type { VersionView } from '../../protocol/admin-api/versions.ts';

const version = (name: string, number: number, more: Partial<VersionView> = {}): VersionView => ({
  ...{ name, version: number, digest: 'd', parent: null, bytes: 1, rank: 8, created_at: 0, created_by: 'k' },
  ...{ chain_id: 'c', owner: 'o', base: { id: 'b', digest: 'd' }, proof: null, evaluation: null },
  training: null,
  retired_at: null,
  withdrawn_at: null,
  chain: [{ digest: 'd', scale: 1, name, owner: 'o' }],
  live: false,
  ...more,
});
const member = (name: string, scale = 1) => ({ digest: name, scale, name, owner: 'o' });

it.each<[string, Partial<VersionView>, number | null]>([
  ['live', { live: true }, 3],
  ['staged', {}, 2],
  ['staged', {}, null],
  ['earlier', {}, 4],
  ['retired', { retired_at: 5 }, 4],
  ['withdrawn', { withdrawn_at: 5, live: true }, 2],
  ['retired', { retired_at: 5 }, 2],
  ['retired', { retired_at: 0 }, null],
  ['earlier', { retired_at: null }, 4],
])('is %s: %j beside live version %j', (state, more, live) => {
  expect(versionState(version('a', 3, more), live)).toBe(state);
});

it.each<[string, number, number | null, boolean]>([
  ['rolled_back', 3, 2, true],
  ['rolled_back', 3, null, true],
  ['staged', 3, 2, false],
  ['earlier', 3, 4, true],
])('is %s: version %d beside live version %j, live before: %j', (state, number, live, wasLive) => {
  expect(versionState(version('a', number), live, wasLive)).toBe(state);
});

it('lists what a version is built on, without itself', () => {
  expect(inheritedFrom(version('a', 1))).toEqual([]);
  const chain = [member('root'), member('root/mid', 0.5), member('a')];
  expect(inheritedFrom(version('a', 1, { chain }))).toEqual([
    { name: 'root', scale: 1 },
    { name: 'root/mid', scale: 0.5 },
  ]);
});

it('lists the affected names: those whose live version is built on it', () => {
  const of = (name: string, ...versions: VersionView[]) => ({ name, owner: 'o', version: 1, versions });
  const heir = { chain: [member('root'), member('x')] };
  const others = [
    of('root', version('root', 1, { live: true })),
    of('live', version('live', 2, { ...heir, live: true }), version('live', 1)),
    of('staged', version('staged', 2, heir), version('staged', 1, { live: true })),
    of('none'),
    of('stranger', version('stranger', 1, { live: true, chain: [member('rooted'), member('stranger')] })),
  ];
  expect(heirsOf('root', others)).toEqual(['live']);
});
