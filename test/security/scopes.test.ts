/** A key's scopes open the adapters of one owner each, whoever comes to publish in the same room. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const LATER_MS = 61_000;
let graft: AppHarness;
let seed = 0;

interface Answer {
  status: number;
  body: { id: string; key: string; scope_owners: (string | null)[]; error?: { message: string } };
}

const post = async (path: string, body: object, key?: string): Promise<Answer> => {
  const response = await graft.request(path, { body, ...(key === undefined ? {} : { key }) });
  return { status: response.status, body: (await response.json()) as Answer['body'] };
};
const makeKey = (body: object, key?: string) => post('/admin/keys', body, key);
const publish = async (name: string, owner: string) =>
  expect((await graft.publish(name, tinyAdapter({ seed: (seed += 1) }), { owner })).status).toBe(201);
const served = async (model: string, key: string) => {
  graft.clock.advance(LATER_MS);
  const messages = [{ role: 'user', content: 'hi' }];
  const response = await graft.request('/v1/chat/completions', { key, body: { model, messages } });
  return response.status === 200 ? response.headers.get('x-graft-adapter') : response.status;
};

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  await publish('lab/one', 'alice');
});

describe('a scope', () => {
  it('opens what its owner has and comes to have there, and nothing of others', async () => {
    const { body } = await makeKey({ tenant: 'carol', scopes: ['lab/**', '**'] });
    expect(body.scope_owners).toEqual(['alice', null]);
    const { key } = (await makeKey({ tenant: 'carol', scopes: ['lab/**'] })).body;
    await publish('lab/two', 'bob');
    await publish('lab/three', 'alice');
    expect(await served('lab/one', key)).toBe('lab/one@1');
    expect(await served('lab/three', key)).toBe('lab/three@1');
    expect(await served('lab/two', key)).toBe(404);
  });

  it('means the room’s tenant, the single owner below, or the key’s own', async () => {
    await graft.request('/admin/rooms', { body: { name: 'ward', tenant: 'alice' } });
    const scopes = ['ward/**', 'ward/x', 'lab/one/below', 'lab', 'none/**'];
    const owners = ['alice', 'alice', 'alice', 'alice', 'carol'];
    expect((await makeKey({ tenant: 'carol', scopes })).body.scope_owners).toEqual(owners);
  });

  it('of a room of several owners is refused, with a way out', async () => {
    await publish('lab/two', 'bob');
    const refused = await makeKey({ tenant: 'carol', scopes: ['lab/one', 'lab/**'] });
    expect([refused.status, refused.body.error?.message]).toEqual([
      400,
      "Invalid value for 'scopes.1': 'lab/**' covers names of several tenants, but a scope opens those of one. " +
        "List each prefix or name separately, such as 'lab/<name>/**', or ask the operator to reserve 'lab' for one tenant.",
    ]);
  });

  it('is given on for the owner that it was given for, and no other', async () => {
    const admin = (await makeKey({ kind: 'admin', tenant: 'carol', scopes: ['lab/**'] })).body.key;
    await publish('lab/two', 'bob');
    expect((await makeKey({ scopes: ['lab/two', 'lab/**'] }, admin)).body.scope_owners).toEqual([
      'alice',
      'alice',
    ]);
    // One that opens more than its maker has is not rotated or changed by it.
    const wider = (await makeKey({ tenant: 'carol', scopes: ['lab/two'] })).body;
    expect(wider.scope_owners).toEqual(['bob']);
    expect((await post('/admin/keys/rotate', { id: wider.id }, admin)).status).toBe(403);
    expect((await post('/admin/keys/change', { id: wider.id, label: 'x' }, admin)).status).toBe(403);
    expect(
      (await post('/admin/keys/change', { id: wider.id, scopes: ['lab/one'] }, admin)).body.scope_owners,
    ).toEqual(['alice']);
  });

  it('of a key from before is bound when it is given once more, and not by a rotation', async () => {
    const { id, key } = (await makeKey({ tenant: 'carol', scopes: ['lab/**'] })).body;
    const ledger = graft.services.keyLedger;
    const old = await ledger.get(id);
    if (old === null) throw new Error('no key');
    expect(await ledger.change({ ...old, scope_owners: [null] }, old)).toBe(true);
    const record = { id, tenant: 'carol', scopes: ['lab/**'] };
    graft.clock.advance(LATER_MS);
    await graft.services.keyIndex.put(old.hash, record);
    await publish('lab/two', 'bob');
    expect(await served('lab/two', key)).toBe('lab/two@1');
    const rotated = (await post('/admin/keys/rotate', { id })).body;
    expect(rotated.scope_owners).toEqual([null]);
    expect(await served('lab/two', rotated.key)).toBe('lab/two@1');
    const changed = await post('/admin/keys/change', { id: rotated.id, scopes: ['lab/one', 'lab/two/**'] });
    expect(changed.body.scope_owners).toEqual(['alice', 'bob']);
    expect(
      (await post('/admin/keys/change', { id: rotated.id, scopes: ['lab/one'] })).body.scope_owners,
    ).toEqual(['alice']);
    expect(await served('lab/two', rotated.key)).toBe(404);
  });
});
