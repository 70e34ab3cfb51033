/** History, aliases, retired versions, and the source of what is in KV. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import { NOTHING_SAID } from '../../../protocol/admin-api/names.ts';
import type { NameRow, Registry } from '../../../worker/registry/ports.ts';
import { digestOf, versionRow } from '../../contracts/sample-rows.ts';

const make = async () => createD1Registry(await openDatabase());

describe('life cycle in the Registry', () => {
  let registry: Registry;
  beforeEach(async () => {
    registry = await make();
  });

  const nameOf = async (name: string) => (await registry.name(name)) as NameRow;
  const publish = async (
    name: string,
    version: number,
    more: { owner?: string; stage?: boolean; parents?: [string, number][] } = {},
  ) => {
    const { stage = false, parents = [], ...fields } = more;
    const row = versionRow(name, version, fields);
    for (const [parent, at] of parents.toReversed())
      row.chain.unshift({ digest: digestOf(`${parent}@${at}`), scale: 1, name: parent, owner: 'default' });
    return registry.publish({ row, stage, before: await registry.name(name), why: `because ${version}` });
  };
  const all = { name: null, owner: null, before: null, limit: 99 };

  it('records every change with who, when, from, to and why, newest first', async () => {
    await publish('a', 1);
    await publish('b', 1, { owner: 'other' });
    await publish('a', 2, { stage: true });
    const note = { actor: 'key_1', at: 5 };
    await registry.flip({
      before: await nameOf('a'),
      to: 2,
      action: 'promote',
      ...note,
      why: "it's better",
    });
    await registry.flip({ before: await nameOf('a'), to: 1, action: 'rollback', ...note });
    await registry.retire({
      before: await nameOf('a'),
      version: 2,
      digest: digestOf('a@2'),
      actor: 'key_2',
      at: 6,
    });
    await registry.repaired({ before: await nameOf('a'), actor: 'key_2', at: 7 });
    const history = await registry.history({ ...all, name: 'a' });
    expect(history.map(({ sequence, action, from, to }) => [sequence, action, from, to])).toEqual([
      [6, 'repair', 1, 1],
      [5, 'retire', 1, 2],
      [4, 'rollback', 2, 1],
      [3, 'promote', 1, 2],
      [2, 'stage', 1, 2],
      [1, 'publish', null, 1],
    ]);
    expect(history[3]).toMatchObject({ actor: 'key_1', at: 5, owner: 'default', target: null });
    expect(history.map(({ why }) => why)).toEqual([
      null,
      null,
      null,
      "it's better",
      'because 2',
      'because 1',
    ]);
    expect((await registry.history({ ...all, owner: 'other' })).map(({ name }) => name)).toEqual(['b']);
    const first = await registry.history({ ...all, limit: 3 });
    const rest = await registry.history({ ...all, before: first.at(-1)?.id ?? null });
    expect([...first, ...rest]).toEqual(await registry.history(all));
    expect([...first, ...rest]).toHaveLength(7);
  });

  it('finds the newest version that was never live', async () => {
    expect(await registry.newestStaged('a')).toBeNull();
    await publish('a', 1);
    await publish('a', 2, { stage: true });
    await publish('a', 3, { stage: true });
    expect((await registry.newestStaged('a'))?.version).toBe(3);
    const note = { actor: 'x', at: 1 };
    await registry.flip({ before: await nameOf('a'), to: 3, ...note });
    expect((await registry.newestStaged('a'))?.version).toBe(2);
    await registry.retire({ before: await nameOf('a'), version: 2, digest: digestOf('a@2'), ...note });
    expect(await registry.newestStaged('a')).toBeNull();
  });

  it('retires a version, but keeps its row', async () => {
    await publish('a', 1);
    await publish('a', 2);
    await registry.retire({
      before: await nameOf('a'),
      version: 1,
      digest: digestOf('a@1'),
      actor: 'x',
      at: 9,
    });
    await registry.retire({
      before: await nameOf('a'),
      version: 1,
      digest: digestOf('a@1'),
      actor: 'x',
      at: 10,
    });
    expect(await registry.version('a', 1)).toEqual({ ...versionRow('a', 1), retiredAt: 9 });
    expect(await registry.version('a', 2)).toMatchObject({ retiredAt: null });
    expect(await registry.name('a')).toMatchObject({ version: 2, latest: 2 });
  });

  it('finds versions in use that are built on a version, directly or not', async () => {
    await publish('a', 1);
    await publish('a/b', 1, { parents: [['a', 1]] });
    await publish('a/b/c', 1, {
      parents: [
        ['a', 1],
        ['a/b', 1],
      ],
    });
    const a = versionRow('a', 1);
    const b = versionRow('a/b', 1);
    expect(await registry.dependents(a, 9)).toEqual([
      { name: 'a/b', version: 1 },
      { name: 'a/b/c', version: 1 },
    ]);
    expect(await registry.dependents(a, 1)).toHaveLength(1);
    expect(await registry.dependents(b, 9)).toEqual([{ name: 'a/b/c', version: 1 }]);
    expect(await registry.dependents(versionRow('a/b/c', 1), 9)).toEqual([]);
    await registry.retire({
      before: await nameOf('a/b/c'),
      version: 1,
      digest: digestOf('a/b/c@1'),
      actor: 'x',
      at: 1,
    });
    expect(await registry.dependents(b, 9)).toEqual([]);
    expect(await registry.dependents(a, 9)).toEqual([{ name: 'a/b', version: 1 }]);
  });

  it('retires no version that another is built on, and builds on no retired one, whoever comes first', async () => {
    await publish('a', 1);
    await publish('a', 2);
    await publish('a/b', 1, { parents: [['a', 1]] });
    const retire = async (version: number) =>
      registry.retire({
        before: await nameOf('a'),
        version,
        digest: digestOf(`a@${version}`),
        actor: 'x',
        at: 9,
      });
    const before = await nameOf('a');
    expect(await retire(1)).toEqual({ ok: false, error: { kind: 'conflict', name: before } });
    expect(await registry.version('a', 1)).toMatchObject({ retiredAt: null });
    await publish('a', 3);
    expect((await retire(2)).ok).toBe(true);
    const late = await publish('a/c', 1, { parents: [['a', 2]] });
    expect(late).toEqual({ ok: false, error: { kind: 'conflict', name: null } });
    expect(await registry.versions('a/c')).toEqual([]);
    expect((await publish('a/c', 1, { parents: [['a', 3]] })).ok).toBe(true);
    // The same file is used by another version again.
    const digest = digestOf('a@2');
    await registry.publish({
      row: versionRow('a', 4, { digest }),
      stage: false,
      before: await nameOf('a'),
    });
    expect((await publish('a/d', 1, { parents: [['a', 2]] })).ok).toBe(true);
  });

  it('withdraws others’ versions built on a retired one, and notes the pointers that lead to them', async () => {
    await publish('a', 1);
    await publish('a', 2);
    const others = { owner: 'bob', parents: [['a', 1]] as [string, number][] };
    for (const name of ['b/live', 'b/old', 'b/staged']) await publish(name, 1, others);
    await publish('b/old', 2, { owner: 'bob' });
    await publish('b/free', 1, { owner: 'bob', parents: [['a', 2]] });
    const row = versionRow('a', 1);
    expect(await registry.dependents(row, 9)).toEqual([]);
    expect(await registry.stops(row)).toEqual({ versions: 3, experiments: 0 });
    const stale = (newest: boolean, limit = 9) => registry.stalePointers({ limit, newest });
    await registry.pointersWritten(await stale(false));
    const before = await nameOf('a');
    const retired = { before, version: 1, digest: row.digest, actor: 'x', at: 9 };
    expect((await registry.retire(retired)).ok).toBe(true);
    for (const name of ['b/live', 'b/old', 'b/staged'])
      expect(await registry.version(name, 1)).toMatchObject({ withdrawnAt: 9, retiredAt: null });
    expect(await registry.version('b/free', 1)).toMatchObject({ withdrawnAt: null });
    expect(await registry.pointer('b/live')).toMatchObject({ row: { withdrawnAt: 9 } });
    const windows = [{ from: '', to: '~', limit: 9 }];
    const [usable] = await registry.usable({ tenant: 'bob', layers: [], windows });
    expect(usable?.names.map(({ name }) => name)).toEqual(['b/free', 'b/old']);
    const [{ id: change } = { id: 0 }] = await registry.history({ ...all, name: 'a' });
    expect(await stale(false)).toEqual([
      { name: 'b/live', since: 9, change },
      { name: 'b/staged', since: 9, change },
    ]);
    expect(await stale(true, 1)).toEqual([{ name: 'b/staged', since: 9, change }]);
    await registry.pointersWritten([
      { name: 'b/live', change },
      { name: 'b/staged', change: change - 1 },
    ]);
    expect(await stale(false)).toEqual([{ name: 'b/staged', since: 9, change }]);
    expect(await registry.stops(row)).toEqual({ versions: 0, experiments: 0 });
  });

  it('notes each change of a pointer until KV has that very change', async () => {
    const noted = () => registry.stalePointers({ limit: 9, newest: false });
    const note = { actor: 'x', at: 5 };
    await publish('a', 1, { stage: true });
    expect(await noted()).toEqual([]);
    expect(await registry.pointerToWrite('a')).toEqual({ pointer: { kind: 'none' }, change: null });
    const changes: [string, () => Promise<unknown>][] = [
      ['a', async () => registry.flip({ before: await nameOf('a'), to: 1, ...note })],
      ['a', () => publish('a', 2)],
      ['a', async () => registry.setStrict({ before: await nameOf('a'), strict: true, ...note })],
      ['b', () => registry.alias({ before: null, name: 'b', owner: 'default', target: 'a', ...note })],
      [
        'b',
        async () =>
          registry.alias({ before: await nameOf('b'), name: 'b', owner: 'default', target: null, ...note }),
      ],
    ];
    for (const [name, change] of changes) {
      await change();
      const [last] = await registry.history({ ...all, name });
      expect(await noted()).toEqual([{ name, since: last?.at, change: last?.id }]);
      const toWrite = await registry.pointerToWrite(name);
      expect(toWrite).toEqual({ pointer: await registry.pointer(name), change: last?.id });
      await registry.pointersWritten([{ name, change: (last?.id ?? 0) - 1 }]);
      expect(await noted()).toHaveLength(1);
      await registry.pointersWritten([{ name, change: last?.id ?? 0 }]);
      expect(await noted()).toEqual([]);
    }
    // Changes without an effect, and refused ones, are not noted.
    await registry.repaired({ before: await nameOf('a'), ...note });
    const outdated = { ...(await nameOf('a')), sequence: 1 };
    expect((await registry.flip({ before: outdated, to: 1, ...note })).ok).toBe(false);
    expect(await noted()).toEqual([]);
  });

  it('withdraws nothing while the name has another version in use with the same file', async () => {
    await publish('a', 1);
    const digest = digestOf('a@1');
    for (const version of [2, 3])
      await registry.publish({
        row: versionRow('a', version, version === 2 ? { digest } : {}),
        ...{ stage: false, before: await nameOf('a') },
      });
    await publish('b', 1, { owner: 'bob', parents: [['a', 1]] });
    const retire = async (version: number) =>
      registry.retire({ before: await nameOf('a'), version, digest, actor: 'x', at: 10 + version });
    expect(await registry.stops(versionRow('a', 1))).toEqual({ versions: 0, experiments: 0 });
    await retire(1);
    expect(await registry.version('b', 1)).toMatchObject({ withdrawnAt: null });
    expect(await registry.stops(versionRow('a', 2, { digest }))).toEqual({ versions: 1, experiments: 0 });
    await retire(2);
    expect(await registry.version('b', 1)).toMatchObject({ withdrawnAt: 12 });
  });

  it('makes a name an alias, and ends that', async () => {
    await publish('a', 1);
    const note = { actor: 'key_1', at: 3, why: 'short' };
    const alias = { before: null, name: 'latest', owner: 'default', target: 'a', ...note };
    const made = await registry.alias(alias);
    const row = {
      name: 'latest',
      owner: 'default',
      version: null,
      latest: 0,
      sequence: 1,
      alias: 'a',
      strict: false,
      about: NOTHING_SAID,
      removedAt: null,
    };
    expect(made).toEqual({ ok: true, value: row });
    expect(await registry.name('latest')).toEqual(row);
    expect(await registry.pointer('latest')).toEqual({ kind: 'alias', target: 'a' });
    expect((await registry.alias(alias)).ok).toBe(false);
    const names = { prefix: '', cursor: null, limit: 9, owner: null };
    expect((await registry.names(names)).items.map(({ name }) => name)).toEqual(['a', 'latest']);
    await registry.alias({ ...alias, before: row, target: null });
    expect(await registry.pointer('latest')).toEqual({ kind: 'gone' });
    expect((await registry.names(names)).items.map(({ name }) => name)).toEqual(['a']);
    const history = await registry.history({ ...all, name: 'latest' });
    expect(history.map(({ action, to, target, why }) => [action, to, target, why])).toEqual([
      ['unalias', null, 'a', 'short'],
      ['alias', null, 'a', 'short'],
    ]);
    await publish('latest', 1);
    expect(await registry.name('latest')).toMatchObject({
      version: 1,
      latest: 1,
      sequence: 3,
      alias: null,
    });
  });

  it('keeps a name strict, whatever goes live, until that is changed', async () => {
    await publish('a', 1);
    await publish('b', 1, { stage: true });
    const note = { actor: 'key_1', at: 5, why: 'must not be guessed' };
    const before = await nameOf('a');
    const made = await registry.setStrict({ before, strict: true, ...note });
    expect(made).toEqual({ ok: true, value: { ...before, sequence: 2, strict: true } });
    expect((await registry.setStrict({ before, strict: true, ...note })).ok).toBe(false);
    await publish('a', 2);
    await registry.flip({ before: await nameOf('a'), to: 1, actor: 'x', at: 6 });
    await registry.retire({
      before: await nameOf('a'),
      version: 2,
      digest: digestOf('a@2'),
      actor: 'x',
      at: 7,
    });
    await registry.repaired({ before: await nameOf('a'), actor: 'x', at: 8 });
    expect(await nameOf('a')).toMatchObject({ version: 1, latest: 2, sequence: 6, strict: true });
    expect(await nameOf('b')).toMatchObject({ strict: false });
    const pointer = { kind: 'version', row: versionRow('a', 1), strict: true };
    expect(await registry.pointer('a')).toEqual(pointer);
    const page = await registry.pointers({ cursor: null, limit: 1 });
    expect(page.items).toEqual([{ name: await nameOf('a'), pointer }]);
    const names = await registry.names({ prefix: '', cursor: null, limit: 9, owner: null });
    expect(names.items.map(({ name, strict }) => [name, strict])).toEqual([
      ['a', true],
      ['b', false],
    ]);
    const ended = await registry.setStrict({ before: await nameOf('a'), strict: false, ...note });
    expect(ended).toMatchObject({ ok: true, value: { strict: false } });
    const marks = (await registry.history({ ...all, name: 'a' })).filter(({ to }) => to === null);
    expect(marks.map(({ action, from, target, why }) => [action, from, target, why])).toEqual([
      ['unstrict', 1, null, 'must not be guessed'],
      ['strict', 1, null, 'must not be guessed'],
    ]);
  });

  it('keeps a description across other changes, and never writes it to KV', async () => {
    await publish('a', 1);
    const note = { actor: 'key_1', at: 5, why: null };
    const before = await nameOf('a');
    expect(before.about).toEqual(NOTHING_SAID);
    const pointer = await registry.pointer('a');
    const about = { description: 'What it’s for: "x"', tags: ['a', 'b'] };
    const made = await registry.setAbout({ before, about, ...note });
    expect(made).toEqual({ ok: true, value: { ...before, sequence: 2, about } });
    expect((await registry.setAbout({ before, about, ...note })).ok).toBe(false);
    expect(await registry.pointer('a')).toEqual(pointer);
    await publish('a', 2);
    await registry.setStrict({ before: await nameOf('a'), strict: true, ...note });
    const removal = { items: [{ name: 'a', version: null, before: await nameOf('a') }], owner: 'default' };
    expect((await registry.remove({ ...removal, cascade: false, ...note })).ok).toBe(true);
    await publish('a', 3);
    expect(await nameOf('a')).toMatchObject({ version: 3, about });
    const names = await registry.names({ prefix: '', cursor: null, limit: 9, owner: null });
    expect(names.items.map((name) => name.about)).toEqual([about]);
    const pointers = await registry.pointers({ cursor: null, limit: 1 });
    expect(pointers.items[0]?.name).toEqual(await nameOf('a'));
    await registry.setAbout({ before: await nameOf('a'), about: NOTHING_SAID, ...note });
    expect((await nameOf('a')).about).toEqual(NOTHING_SAID);
    const history = await registry.history({ ...all, name: 'a' });
    expect(history.filter(({ action }) => action === 'edit').map(({ from, to }) => [from, to])).toEqual([
      [3, null],
      [1, null],
    ]);
  });

  it('returns what KV should contain, for one name and for all', async () => {
    await publish('a', 1);
    await publish('a', 2);
    await publish('b', 1, { stage: true });
    const note = { actor: 'x', at: 1 };
    await registry.alias({ before: null, name: 'c', owner: 'default', target: 'a', ...note });
    expect(await registry.pointer('a')).toEqual({
      kind: 'version',
      row: versionRow('a', 2),
      strict: false,
    });
    expect(await registry.pointer('b')).toEqual({ kind: 'none' });
    expect(await registry.pointer('absent')).toEqual({ kind: 'none' });
    const first = await registry.pointers({ cursor: null, limit: 2 });
    const second = await registry.pointers({ cursor: first.cursor, limit: 2 });
    const items = [...first.items, ...second.items];
    expect(items.map(({ name, pointer }) => [name.name, pointer.kind])).toEqual([
      ['a', 'version'],
      ['b', 'none'],
      ['c', 'alias'],
    ]);
    expect(second.cursor).toBeNull();
    for (const { name, pointer } of items) {
      expect(name).toEqual(await registry.name(name.name));
      expect(pointer).toEqual(await registry.pointer(name.name));
    }
  });
});
