/** Reserved rooms, and the claims around a name. */
import { beforeEach, describe, expect, it } from 'vitest';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import type { Registry } from '../../../worker/registry/ports.ts';
import { versionRow } from '../../contracts/sample-rows.ts';

const make = async () => createD1Registry(await openDatabase());

describe('rooms in the Registry', () => {
  let registry: Registry;
  beforeEach(async () => {
    registry = await make();
  });
  const note = { actor: 'key_1', at: 5 };
  const publish = async (name: string, owner: string, claimant?: string) =>
    registry.publish({
      ...{ row: versionRow(name, 1, { owner }), stage: false, before: await registry.name(name) },
      ...(claimant === undefined ? {} : { claimant }),
    });

  it('are given, reassigned and released, with history for every holder', async () => {
    expect(await registry.reserve({ name: 'a/b', tenant: 'me', ...note, why: 'so' })).toBe(true);
    expect(await registry.reserve({ name: 'a/b', tenant: 'me', ...note, at: 6 })).toBe(false);
    expect(await registry.reserve({ name: 'a', tenant: 'you', ...note })).toBe(true);
    const all = { tenant: null, cursor: null, limit: 9 };
    expect((await registry.rooms(all)).items).toEqual([
      { name: 'a', tenant: 'you', created_at: 5, created_by: 'key_1' },
      { name: 'a/b', tenant: 'me', created_at: 5, created_by: 'key_1' },
    ]);
    expect((await registry.rooms({ ...all, tenant: 'me' })).items.map(({ name }) => name)).toEqual(['a/b']);
    const { items, cursor } = await registry.rooms({ ...all, limit: 1 });
    expect([items.length, (await registry.rooms({ ...all, cursor })).items.length]).toEqual([1, 1]);
    expect(await registry.reserve({ name: 'a/b', tenant: 'you', ...note, at: 7 })).toBe(true);
    expect(await registry.release({ name: 'a/b', ...note, at: 8 })).toBe(true);
    expect(await registry.release({ name: 'a/b', ...note })).toBe(false);
    const history = await registry.history({ name: 'a/b', owner: null, before: null, limit: 9 });
    expect(history.map((row) => [row.sequence, row.action, row.owner, row.target, row.why])).toEqual([
      [-4, 'unreserve', 'you', 'you', null],
      [-3, 'reserve', 'you', 'you', null],
      [-2, 'unreserve', 'me', 'me', null],
      [-1, 'reserve', 'me', 'me', 'so'],
    ]);
    // The name's own changes are counted separately.
    expect((await publish('a/b', 'me')).ok).toBe(true);
    expect((await registry.history({ name: 'a/b', owner: null, before: null, limit: 1 }))[0]).toMatchObject({
      sequence: 1,
    });
  });

  it('returns what is around a name', async () => {
    expect(await registry.around('a/b')).toEqual({ own: null, above: null, below: [] });
    await publish('a', 'bob');
    await publish('a/b/c', 'alice');
    await publish('a/b/d', 'alice');
    await publish('a/bc', 'eve');
    await registry.reserve({ name: 'a/b/e', tenant: 'carol', ...note });
    expect(await registry.around('a/b')).toEqual({
      own: null,
      above: { path: 'a', owner: 'bob', by: 'name' },
      below: ['alice', 'carol'],
    });
    await registry.reserve({ name: 'a', tenant: 'alice', ...note });
    expect((await registry.around('a/b')).above).toEqual({ path: 'a', owner: 'alice', by: 'room' });
    expect(await registry.around('a')).toMatchObject({ own: 'bob', above: { owner: 'alice', by: 'room' } });
    await publish('a/b', 'alice');
    await registry.reserve({ name: 'a/b', tenant: 'dan', ...note });
    expect(await registry.around('a/b')).toMatchObject({
      own: 'alice',
      above: { path: 'a/b', owner: 'dan' },
    });
    expect((await registry.around('a/b/x')).above).toEqual({ path: 'a/b', owner: 'dan', by: 'room' });
  });

  it('refuses a name that is no longer free', async () => {
    await publish('a/b', 'alice');
    const alias = { name: 'a', owner: 'bob', target: 'x', before: null, claimant: 'bob', ...note };
    expect((await publish('a', 'bob', 'bob')).ok).toBe(false);
    expect((await registry.alias(alias)).ok).toBe(false);
    expect((await publish('a/b/c', 'bob', 'bob')).ok).toBe(false);
    expect(await registry.name('a')).toBeNull();
    await registry.reserve({ name: 'r', tenant: 'alice', ...note });
    expect((await publish('r', 'bob', 'bob')).ok).toBe(false);
    expect((await publish('r/x', 'alice', 'alice')).ok).toBe(true);
    expect((await publish('a/b/c', 'alice', 'alice')).ok).toBe(true);
    expect((await publish('a', 'bob')).ok).toBe(true);
    await registry.reserve({ name: 'q', tenant: 'bob', ...note });
    await publish('q/old', 'alice');
    expect((await publish('q', 'bob', 'bob')).ok).toBe(true);
  });
});
