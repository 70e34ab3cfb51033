import { beforeEach, describe, expect, it } from 'vitest';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import { NOTHING_SAID } from '../../../protocol/admin-api/names.ts';
import { usableRanges } from '../../../worker/access/authenticate.ts';
import type {
  NameRow,
  NameWindow,
  Registry,
  UsableName,
  VersionRow,
} from '../../../worker/registry/ports.ts';
import { versionRow } from '../../contracts/sample-rows.ts';
import { trainingCard } from '../../contracts/sample-training.ts';

/** What `me` finds, by default in a window of all names. */
async function usableOf(
  registry: Registry,
  scopes: string[],
  window: Partial<NameWindow>,
): Promise<UsableName[]> {
  const layers = usableRanges({ tenant: 'me', scopes }, 1);
  const windows = [{ from: '', to: '\u007f', limit: 10, ...window }];
  return (await registry.usable({ tenant: 'me', layers, windows })).flatMap(({ names }) => names);
}

const make = async () => createD1Registry(await openDatabase());

describe('Registry', () => {
  let registry: Registry;
  beforeEach(async () => {
    registry = await make();
  });

  const publish = async (name: string, version: number, more: { owner?: string; stage?: boolean } = {}) => {
    const before = await registry.name(name);
    const { stage = false, ...fields } = more;
    return registry.publish({ row: versionRow(name, version, fields), stage, before });
  };

  it('is empty at first', async () => {
    expect(await registry.name('a')).toBeNull();
    expect(await registry.version('a', 1)).toBeNull();
    expect(await registry.live('a')).toBeNull();
    expect(await registry.versions('a')).toEqual([]);
  });

  it('returns versions as they were written', async () => {
    const below = versionRow('a', 3, { owner: 'other' });
    await registry.publish({ row: below, stage: false, before: null });
    const row = versionRow('a/b', 1, {
      parent: 'a@3',
      rankSum: 24,
      proof: 'b'.repeat(64),
      evaluation: { rows: 3, exact_match: 2 / 3, mean_nll: 0.25, sha256: 'c'.repeat(64), at: 5 },
    });
    row.chain.unshift({ digest: below.digest, scale: 0.1 + 0.2, name: 'a', owner: 'other' });
    const published = await registry.publish({ row, stage: false, before: null });
    expect(published).toEqual({
      ok: true,
      value: {
        name: 'a/b',
        owner: 'default',
        version: 1,
        latest: 1,
        sequence: 1,
        alias: null,
        strict: false,
        about: NOTHING_SAID,
        removedAt: null,
      },
    });
    expect(await registry.version('a/b', 1)).toEqual(row);
    expect(await registry.live('a/b')).toEqual(row);
    expect(await registry.name('a/b')).toEqual({
      name: 'a/b',
      owner: 'default',
      version: 1,
      latest: 1,
      sequence: 1,
      alias: null,
      strict: false,
      about: NOTHING_SAID,
      removedAt: null,
    });
  });

  it('accepts versions without a proof or an evaluation', async () => {
    await publish('a', 1);
    expect(await registry.version('a', 1)).toMatchObject({ proof: null, evaluation: null });
  });

  it('returns training cards with described versions and lists, and nowhere else', async () => {
    const training = trainingCard();
    const row = versionRow('a', 1);
    await registry.publish({ row: { ...row, training }, stage: false, before: null });
    await publish('a', 2);
    expect(await registry.describedVersion('a', 1)).toEqual({ ...row, training });
    expect(await registry.describedVersion('a', 3)).toBeNull();
    expect(await registry.versions('a')).toEqual([
      { ...versionRow('a', 2), training: null },
      { ...row, training },
    ]);
    expect(await registry.version('a', 1)).toEqual(row);
    expect(await registry.versionsOf({ digest: row.digest, limit: 1 })).toEqual([row]);
  });

  it('stages, flips and lists newest first', async () => {
    await publish('a', 1);
    await publish('a', 2, { stage: true });
    expect(await registry.name('a')).toMatchObject({ version: 1, latest: 2, sequence: 2 });
    expect((await registry.live('a'))?.version).toBe(1);
    const before = (await registry.name('a')) as NameRow;
    const flipped = await registry.flip({ before, to: 2, actor: 'key_1', at: 5 });
    expect(flipped).toMatchObject({ ok: true, value: { version: 2, sequence: 3 } });
    expect((await registry.live('a'))?.version).toBe(2);
    expect((await registry.versions('a')).map(({ version }) => version)).toEqual([2, 1]);
  });

  it('finds the versions of a file', async () => {
    const digest = 'e'.repeat(64);
    for (const [name, version] of [
      ['b', 1],
      ['a', 1],
      ['a', 2],
    ] as const) {
      const before = await registry.name(name);
      await registry.publish({ row: versionRow(name, version, { digest }), stage: false, before });
    }
    await publish('c', 1);
    const found = await registry.versionsOf({ digest, limit: 9 });
    expect(found.map(({ name, version }) => `${name}@${version}`)).toEqual(['a@2', 'a@1', 'b@1']);
    expect(await registry.versionsOf({ digest, limit: 2 })).toEqual(found.slice(0, 2));
    expect(await registry.versionsOf({ digest: 'd'.repeat(64), limit: 9 })).toEqual([]);
  });

  it('finds the proofs of a chain on a base, each once, some of them', async () => {
    const { digest, chainId, base } = versionRow('a', 1);
    const of = { digest, chainId, baseDigest: base.digest, limit: 2 };
    expect(await registry.proofs(of)).toEqual([]);
    for (const [name, more] of Object.entries<Partial<VersionRow>>({
      a: { proof: 'b'.repeat(64) },
      b: {},
      c: { proof: 'b'.repeat(64) },
      d: { proof: 'c'.repeat(64), base: { ...base, digest: 'd'.repeat(64) } },
      e: { proof: 'd'.repeat(64), chainId: 'e'.repeat(64) },
      f: { proof: 'e'.repeat(64) },
    }))
      await registry.publish({
        row: versionRow(name, 1, { digest, chainId, ...more }),
        stage: false,
        before: null,
      });
    expect(await registry.proofs(of)).toEqual(['b'.repeat(64)]);
    expect(await registry.proofs({ ...of, limit: 3 })).toEqual(['b'.repeat(64), 'e'.repeat(64)]);
  });

  it('has no live version while all are staged', async () => {
    await publish('a', 1, { stage: true });
    expect(await registry.name('a')).toMatchObject({ version: null, latest: 1 });
    expect(await registry.live('a')).toBeNull();
    const everything = { from: '', to: '\u007f', limit: 9 };
    expect(await registry.usable({ tenant: 'default', layers: [], windows: [everything] })).toEqual([
      { names: [], end: null },
    ]);
  });

  it('accepts one of two changes based on the same state, and ignores the other entirely', async () => {
    await publish('a', 1);
    const before = (await registry.name('a')) as NameRow;
    const results = await Promise.all(
      [versionRow('a', 2, { rank: 1 }), versionRow('a', 2, { rank: 2 })].map((row) =>
        registry.publish({ row, stage: false, before }),
      ),
    );
    expect(results.filter(({ ok }) => ok)).toHaveLength(1);
    expect(results.find(({ ok }) => !ok)).toMatchObject({
      error: { kind: 'conflict', name: { latest: 2 } },
    });
    expect(await registry.versions('a')).toHaveLength(2);
    const late = await registry.flip({ before, to: 1, actor: 'x', at: 1 });
    expect(late.ok).toBe(false);
    expect((await registry.name('a'))?.version).toBe(2);
  });

  it('pages through names in order, by prefix and owner', async () => {
    for (const [name, owner] of [
      ['b', 'x'],
      ['a', 'x'],
      ['a/1', 'y'],
      ['a-b', 'x'],
      ['ab', 'x'],
    ] as const)
      await publish(name, 1, { owner });
    const all = { prefix: '', cursor: null, limit: 3, owner: null };
    const first = await registry.names(all);
    expect(first.items.map(({ name }) => name)).toEqual(['a', 'a-b', 'a/1']);
    const second = await registry.names({ ...all, cursor: first.cursor });
    expect(second).toMatchObject({ items: [{ name: 'ab' }, { name: 'b' }], cursor: null });
    const below = await registry.names({ ...all, prefix: 'a/', owner: 'y' });
    expect(below.items.map(({ name }) => name)).toEqual(['a/1']);
    expect((await registry.names({ ...all, prefix: 'a/', owner: 'x' })).items).toEqual([]);
  });

  it('finds the names that a tenant or its scopes cover', async () => {
    for (const [name, owner] of [
      ['med', 'x'],
      ['med/heart', 'x'],
      ['medical', 'x'],
      ['mine', 'me'],
      ['one/exact', 'x'],
      ['one/exact/below', 'x'],
    ] as const)
      await publish(name, 1, { owner });
    const usable = async (scopes: string[], window: Partial<NameWindow> = {}) =>
      (await usableOf(registry, scopes, window)).map(({ name }) => name);
    expect(await usable([])).toEqual(['mine']);
    expect(await usable(['med/**', 'one/exact'])).toEqual(['med', 'med/heart', 'mine', 'one/exact']);
    expect(await usable(['**'])).toHaveLength(6);
    expect(await usable(['**'], { from: 'med ', to: 'med\u007f', limit: 1 })).toEqual(['med/heart']);
    expect(await usable(["x' OR '1'='1"])).toEqual(['mine']);
  });

  it('finds aliases among them, by their own name and owner, with their targets', async () => {
    await publish('med', 1, { owner: 'x' });
    await publish('med/heart', 1, { owner: 'x' });
    await publish('staged', 1, { owner: 'me', stage: true });
    const note = { before: null, actor: 'x', at: 1 };
    for (const [name, owner, target] of [
      ['a', 'me', 'med'],
      ['med/best', 'x', 'med/heart'],
      ['mine', 'me', 'med/heart'],
      ['of/alias', 'me', 'mine'],
      ['of/nothing', 'me', 'absent'],
      ['of/staged', 'me', 'staged'],
      ['rival', 'y', 'med'],
    ] as const)
      await registry.alias({ ...note, name, owner, target });
    await registry.alias({ ...note, name: 'over', owner: 'me', target: 'med' });
    await registry.alias({
      ...note,
      before: await registry.name('over'),
      name: 'over',
      owner: 'me',
      target: null,
    });
    const usable = (scopes: string[], window: Partial<NameWindow> = {}) => usableOf(registry, scopes, window);
    expect(await usable(['med/**'])).toEqual([
      { name: 'a', owner: 'me', version: versionRow('med', 1, { owner: 'x' }) },
      { name: 'med', owner: 'x', version: versionRow('med', 1, { owner: 'x' }) },
      { name: 'med/best', owner: 'x', version: versionRow('med/heart', 1, { owner: 'x' }) },
      { name: 'med/heart', owner: 'x', version: versionRow('med/heart', 1, { owner: 'x' }) },
      { name: 'mine', owner: 'me', version: versionRow('med/heart', 1, { owner: 'x' }) },
    ]);
    const names = async (window: Partial<NameWindow>) =>
      (await usable(['**'], window)).map(({ name }) => name);
    expect(await names({ limit: 2 })).toEqual(['a', 'med']);
    expect(await names({ limit: 2, from: 'med ' })).toEqual(['med/best', 'med/heart']);
    expect(await names({ limit: 9, from: 'med/heart ' })).toEqual(['mine', 'rival']);
    expect(await names({ from: 'med/', to: 'med/\u007f' })).toEqual(['med/best', 'med/heart']);
  });

  it('returns where a window continues, whatever it contains, and answers each window', async () => {
    for (const [name, owner] of [
      ['a', 'you'],
      ['b', 'me'],
      ['b/1', 'you'],
      ['b/2', 'they'],
      ['b/3', 'you'],
      ['c', 'you'],
      ['d', 'me'],
    ] as const)
      await publish(name, 1, { owner });
    await publish('b/4', 1, { owner: 'you', stage: true });
    const range = (from: string, to: string, owner: string | null) => ({ from, to, owner });
    const layers = [
      [range('a', 'a ', null)],
      [range('b/', 'b/\u007f', 'you'), range('c', 'c ', 'you')],
      [range('b/2', 'b/2 ', 'they')],
    ];
    const look = async (windows: NameWindow[]) => {
      const answers = await registry.usable({ tenant: 'me', layers, windows });
      return answers.map(({ names, end }) => ({ names: names.map(({ name }) => name), end }));
    };
    const whole = { from: '', to: '\u007f', limit: 9 };
    expect(await look([whole])).toEqual([{ names: ['a', 'b', 'b/1', 'b/2', 'b/3', 'c', 'd'], end: null }]);
    const found: string[] = [];
    for (let from = ''; ;) {
      const [page] = await look([{ ...whole, from, limit: 2 }]);
      found.push(...(page?.names ?? []));
      if (page?.end == null) break;
      from = `${page.end} `;
    }
    expect(found).toEqual(['a', 'b', 'b/1', 'b/2', 'b/3', 'c', 'd']);
    expect(
      await look([
        { ...whole, from: 'b/3', to: 'b/9' },
        { ...whole, from: 'x' },
      ]),
    ).toEqual([
      { names: ['b/3'], end: null },
      { names: [], end: null },
    ]);
  });
});
