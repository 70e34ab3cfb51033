/** Removed, restored and forgotten names and versions. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import type { Doomed } from '../../../worker/registry/ports.ts';
import type { NameRow, Registry } from '../../../worker/registry/ports.ts';
import { digestOf, versionRow } from '../../contracts/sample-rows.ts';

const make = async () => createD1Registry(await openDatabase());

describe('removals from the Registry', () => {
  let registry: Registry;
  beforeEach(async () => {
    registry = await make();
  });

  const owner = 'default';
  const note = (at: number) => ({ actor: 'key_1', at });
  const nameOf = async (name: string) => (await registry.name(name)) as NameRow;
  const publish = async (
    name: string,
    version: number,
    more: { owner?: string; stage?: boolean; on?: [name: string, version: number][] } = {},
  ) => {
    const { stage = false, on = [], ...fields } = more;
    const row = versionRow(name, version, fields);
    for (const [parent, at] of on.toReversed())
      row.chain.unshift({ digest: digestOf(`${parent}@${at}`), scale: 1, name: parent, owner });
    return registry.publish({ row, stage, before: await registry.name(name) });
  };
  const withNames = async (items: Doomed[]) =>
    Promise.all(items.map(async (item) => ({ ...item, before: await nameOf(item.name) })));
  const remove = async (items: Doomed[], { at = 100, cascade = false } = {}) =>
    (await registry.remove({ items: await withNames(items), owner, cascade, ...note(at) })).ok;
  const whole = (name: string): Doomed => ({ name, version: null });
  const restore = async (name: string) => {
    const versions = await registry.removedVersions({ name }, 0);
    const before = await nameOf(name);
    return registry.restore({
      names: await registry.removedNames({ name }, 0),
      versions: versions.map((one) => ({ ...one, before })),
      ...note(200),
    });
  };
  const stale = async () =>
    (await registry.stalePointers({ limit: 9, newest: false })).map(({ name }) => name).sort();
  const told = async () =>
    registry.pointersWritten(await registry.stalePointers({ limit: 9, newest: false }));

  it('lists names with something to restore, page by page', async () => {
    for (const name of ['a', 'b', 'b/c', 'd']) for (const version of [1, 2]) await publish(name, version);
    await publish('x', 1, { owner: 'other' });
    await registry.alias({ before: null, name: 'e', target: 'd', owner, ...note(5) });
    const list = async (more: object = {}) =>
      registry.withRemoved({ prefix: '', owner: null, since: 50, cursor: null, limit: 10, ...more });
    expect(await list()).toEqual({ items: [], cursor: null });
    expect(await remove([whole('b')], { at: 40 })).toBe(true);
    expect(await remove([{ name: 'b/c', version: 1 }], { at: 60 })).toBe(true);
    expect(await remove([whole('e')], { at: 65 })).toBe(true);
    expect(await remove([whole('a')], { at: 70 })).toBe(true);
    const a = { name: 'a', owner, whole: true, versions: [1, 2], removedAt: 70 };
    const c = { name: 'b/c', owner, whole: false, versions: [1], removedAt: 60 };
    const e = { name: 'e', owner, whole: true, versions: [], removedAt: 65 };
    expect((await list()).items).toEqual([a, c, e]);
    expect((await list({ owner })).items).toEqual([a, c, e]);
    expect((await list({ owner: 'other' })).items).toEqual([]);
    expect((await list({ prefix: 'b' })).items).toEqual([c]);
    expect(await list({ limit: 1 })).toEqual({ items: [a], cursor: 'a' });
    // A page may have none of the owner's.
    expect(await list({ owner: 'other', limit: 1 })).toEqual({ items: [], cursor: 'a' });
    expect((await list({ cursor: 'a' })).items).toEqual([c, e]);
    expect((await list({ since: 40 })).items.map(({ name }) => name)).toEqual(['a', 'b', 'b/c', 'e']);
  });

  it('removes a name with all its versions, and restores exactly these', async () => {
    await publish('a', 1);
    await publish('a', 2);
    await publish('a', 3, { stage: true });
    await registry.setStrict({ before: await nameOf('a'), strict: true, ...note(5) });
    const was = [await nameOf('a'), await registry.versions('a'), await registry.pointer('a')] as const;
    await told();
    expect(await remove([whole('a')])).toBe(true);
    expect(await registry.pointer('a')).toEqual({ kind: 'gone' });
    expect(await nameOf('a')).toMatchObject({ version: null, latest: 3, removedAt: 100 });
    expect([await registry.live('a'), await registry.version('a', 2), await registry.versions('a')]).toEqual([
      null,
      null,
      [],
    ]);
    expect(await registry.versionsOf({ digest: digestOf('a@1'), limit: 9 })).toEqual([]);
    expect(await registry.newestStaged('a')).toBeNull();
    const all = { prefix: '', cursor: null, limit: 9, owner: null };
    expect((await registry.names(all)).items).toEqual([]);
    expect(await stale()).toEqual(['a']);
    expect((await registry.around('a')).own).toBe(owner);
    expect((await restore('a')).ok).toBe(true);
    const { sequence, ...name } = was[0];
    expect(await nameOf('a')).toEqual({ ...name, sequence: sequence + 2 });
    expect(await registry.versions('a')).toEqual(was[1]);
    expect(await registry.pointer('a')).toEqual(was[2]);
    const history = await registry.history({ name: 'a', owner: null, before: null, limit: 2 });
    expect(history.map(({ action, from, to, at }) => [action, from, to, at])).toEqual([
      ['restore', null, 2, 200],
      ['remove', 2, null, 100],
    ]);
    expect(await registry.removedVersions({ name: 'a' }, 0)).toEqual([]);
    expect(await registry.removedNames({ name: 'a' }, 0)).toEqual([]);
  });

  it('removes and restores a single version', async () => {
    await publish('a', 1);
    await publish('a', 2);
    expect(await remove([{ name: 'a', version: 1 }])).toBe(true);
    expect((await registry.versions('a')).map(({ version }) => version)).toEqual([2]);
    expect((await registry.live('a'))?.version).toBe(2);
    expect(await registry.removedVersions({ name: 'a' }, 100)).toMatchObject([{ version: 1, lacks: [] }]);
    expect(await registry.removedVersions({ name: 'a' }, 101)).toEqual([]);
    expect((await restore('a')).ok).toBe(true);
    expect((await registry.versions('a')).map(({ version }) => version)).toEqual([2, 1]);
    expect((await registry.live('a'))?.version).toBe(2);
  });

  it('continues the numbers when a removed name is published again, and keeps the removed versions apart', async () => {
    await publish('a', 1);
    await remove([whole('a')]);
    expect((await publish('a', 2)).ok).toBe(true);
    expect(await nameOf('a')).toMatchObject({ version: 2, latest: 2, removedAt: null });
    expect(await registry.removedNames({ name: 'a' }, 0)).toEqual([]);
    expect((await restore('a')).ok).toBe(true);
    expect((await registry.live('a'))?.version).toBe(2);
    expect(await registry.versions('a')).toHaveLength(2);
  });

  it('reports what is built on it, and removes nothing that other versions need', async () => {
    await publish('a', 1);
    await publish('a/b', 1, { on: [['a', 1]] });
    await publish('a/b', 2);
    await publish('a/b/c', 1, {
      on: [
        ['a', 1],
        ['a/b', 1],
      ],
    });
    await publish('theirs', 1, { owner: 'other', on: [['a', 1]] });
    const items = [whole('a')];
    expect(await registry.descendants({ items, owner, limit: 9 })).toEqual([
      { name: 'a/b', version: 1, live: false, versions: 2 },
      { name: 'a/b/c', version: 1, live: true, versions: 1 },
    ]);
    expect(await registry.descendants({ items, owner, limit: 1 })).toHaveLength(1);
    expect(await registry.holders({ items, owner })).toEqual({
      ...{ aliases: [], pins: [], experiments: [], others: { versions: 1, experiments: 0 } },
    });
    expect(await remove(items)).toBe(false);
    expect(await remove(items, { cascade: true })).toBe(false);
    expect((await registry.live('a'))?.version).toBe(1);
    const below = [...items, { name: 'a/b', version: 1 }, whole('a/b/c')];
    expect(await remove(below)).toBe(false);
    await told();
    expect(await remove(below, { cascade: true })).toBe(true);
    expect((await registry.versions('a/b')).map(({ version }) => version)).toEqual([2]);
    expect(await registry.pointer('a/b/c')).toEqual({ kind: 'gone' });
    expect(await registry.version('theirs', 1)).toMatchObject({ withdrawnAt: 100 });
    expect(await stale()).toEqual(['a', 'a/b/c', 'theirs']);
    const [removal] = await registry.removedNames({ name: 'a' }, 0);
    const together = { removal: removal?.removal ?? 0 };
    expect((await registry.removedNames(together, 0)).map(({ row }) => row.name)).toEqual(['a', 'a/b/c']);
    expect(await registry.removedVersions(together, 0)).toMatchObject([
      { name: 'a', version: 1, lacks: [] },
      { name: 'a/b', version: 1, lacks: ['a'] },
      { name: 'a/b/c', version: 1, lacks: ['a', 'a/b'] },
    ]);
    expect((await restore('a/b')).ok).toBe(false);
    expect((await restore('a')).ok).toBe(true);
    expect(await registry.version('theirs', 1)).toMatchObject({ withdrawnAt: null });
    expect((await restore('a/b')).ok).toBe(true);
    expect((await restore('a/b/c')).ok).toBe(true);
    expect((await registry.live('a/b/c'))?.version).toBe(1);
  });

  it('is blocked by an alias, or removes it too', async () => {
    await publish('a', 1);
    await registry.alias({ before: null, name: 'short', owner, target: 'a', ...note(1) });
    await registry.alias({ before: null, name: 'theirs', owner: 'other', target: 'a', ...note(1) });
    expect(await registry.holders({ items: [whole('a')], owner })).toMatchObject({ aliases: ['short'] });
    expect(await remove([whole('a')], { cascade: true })).toBe(false);
    expect(await remove([whole('a'), whole('short')])).toBe(true);
    expect(await registry.pointer('short')).toEqual({ kind: 'gone' });
    const again = { before: await nameOf('theirs'), name: 'theirs', owner: 'other', ...note(2) };
    expect((await registry.alias({ ...again, target: 'a' })).ok).toBe(false);
    expect((await restore('short')).ok).toBe(true);
    expect(await registry.pointer('short')).toEqual({ kind: 'alias', target: 'a' });
  });

  it('accepts one of two concurrent changes, whatever they are', async () => {
    await publish('a', 1);
    await publish('a', 2, { stage: true });
    const before = await nameOf('a');
    const items = [{ ...whole('a'), before }];
    const flip = () => registry.flip({ before, to: 2, ...note(3) });
    expect((await flip()).ok).toBe(true);
    expect((await registry.remove({ items, owner, cascade: true, ...note(4) })).ok).toBe(false);
    expect(await remove([whole('a')])).toBe(true);
    const row = versionRow('a', 3);
    expect((await registry.publish({ row, stage: false, before })).ok).toBe(false);
    // No version can be built on a removed one, though its own name has not changed.
    expect((await publish('b', 1, { on: [['a', 2]] })).ok).toBe(false);
    expect(await registry.name('b')).toBeNull();
  });

  it('forgets what was removed long ago, oldest first, along with its files', async () => {
    await publish('a', 1);
    await publish('a', 2);
    await publish('b', 1);
    await remove([whole('a')], { at: 10 });
    await remove([whole('b')], { at: 20 });
    expect(await registry.forgetRemoved({ before: 10, limit: 9, at: 1 })).toBe(0);
    expect(await registry.forgetRemoved({ before: 11, limit: 1, at: 1 })).toBe(1);
    expect(await registry.forgetRemoved({ before: 11, limit: 9, at: 1 })).toBe(1);
    expect(await registry.removedVersions({ name: 'a' }, 0)).toEqual([]);
    expect((await restore('b')).ok).toBe(true);
    // Numbers are never reused.
    expect((await publish('a', 3)).ok).toBe(true);
    expect((await registry.versions('a')).map(({ version }) => version)).toEqual([3]);
  });
});
