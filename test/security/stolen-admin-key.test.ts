/** What a stolen admin key has made of itself and of others before it is revoked. */
import { beforeEach, describe, expect, it } from 'vitest';
import { MIN_SELF_GRACE_MS } from '../../worker/access/limits.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const LATER_MS = 61_000;

interface Key {
  id: string;
  key: string;
  replaces: string | null;
  replaced_by: string | null;
  old_expires_at: number;
  revoked_at: number | null;
}
interface Report {
  revoked: Key[];
  made: Key[];
  more_made: boolean;
  cursor: string | null;
}

let graft: AppHarness;
let stolen: Key;

const post = async (path: string, body: object, key?: string) =>
  graft.request(path, { body, ...(key === undefined ? {} : { key }) });
const make = async (body: object, key?: string) =>
  (await (await post('/admin/keys', body, key)).json()) as Key;
const rotate = async (old: Key, body: object = {}, key = old.key) =>
  (await (await post('/admin/keys/rotate', { id: old.id, ...body }, key)).json()) as Key;
const revoke = (id: string, query = '', key?: string) =>
  graft.request(`/admin/keys/${id}${query}`, { method: 'DELETE', ...(key === undefined ? {} : { key }) });
const report = async (id: string, query = '') => {
  const response = await revoke(id, `?report=true${query}`);
  expect(response.status).toBe(200);
  return (await response.json()) as Report;
};
const isGood = async ({ key }: Key) => (await graft.request('/admin/keys', { key })).status === 200;
const answers = async ({ key }: Key) => {
  graft.clock.advance(LATER_MS);
  const body = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
  return (await graft.request('/v1/chat/completions', { key, body })).status === 200;
};
const idsOf = (keys: Key[]) => keys.map(({ id }) => id).sort();

beforeEach(async () => {
  graft = await createAppHarness();
  stolen = await make({ kind: 'admin', tenant: 'acme' });
});

describe('a stolen admin key', () => {
  it('does not survive its revocation by what it was rotated into, once or several times', async () => {
    const second = await rotate(stolen);
    const other = await rotate(stolen);
    const third = await rotate(second);
    expect(await isGood(third)).toBe(true);
    expect((await revoke(stolen.id)).status).toBe(204);
    for (const key of [stolen, second, other, third]) expect(await isGood(key)).toBe(false);
  });

  it('does not survive by a rotation that was let in before the revocation', async () => {
    const { keyLedger } = graft.services;
    const begun = keyLedger.get.bind(keyLedger);
    let fresh: Promise<Response> | undefined;
    keyLedger.get = async (id) => {
      const row = await begun(id);
      if (fresh !== undefined) return row;
      // Its request has read the key; then the whole revocation comes, and then it goes on.
      fresh = Promise.resolve(new Response());
      await graft.services.keyLedger.revoke({ id: stolen.id, successors: true, made: false, at: 1 });
      return row;
    };
    expect((await post('/admin/keys/rotate', { id: stolen.id }, stolen.key)).status).toBe(409);
    keyLedger.get = begun;
    const api = { id: 'x', tenant: 'acme' };
    expect((await post('/admin/keys', { label: api.id }, stolen.key)).status).toBe(401);
    const { items } = await keyLedger.list({ tenant: 'acme', cursor: null, limit: 99 });
    expect(items.filter(({ revoked_at }) => revoked_at === null)).toEqual([]);
  });

  it('cannot lock its owner out at once: the old one has an hour, and revokes both', async () => {
    const fresh = await rotate(stolen, { grace: 0 });
    expect(fresh.old_expires_at).toBe(graft.clock.now() + MIN_SELF_GRACE_MS);
    expect(await isGood(stolen)).toBe(true);
    // What it was rotated into cannot end it and live on.
    const alone = await revoke(stolen.id, '?successors=false', fresh.key);
    expect(alone.status).toBe(403);
    expect((await revoke(stolen.id, '', stolen.key)).status).toBe(204);
    expect(await isGood(fresh)).toBe(false);
  });

  it('has what it made listed, and ended where that is asked for', async () => {
    const before = await make({ tenant: 'acme' });
    const made = await make({ label: 'backdoor' }, stolen.key);
    const successor = await rotate(stolen);
    const later = await make({ label: 'another' }, successor.key);
    const taken = await rotate(before, {}, successor.key);
    const told = await report(stolen.id);
    expect(idsOf(told.revoked)).toEqual(idsOf([stolen, successor]));
    expect(idsOf(told.made)).toEqual(idsOf([made, later, taken]));
    expect(told).toMatchObject({ more_made: false, cursor: null });
    for (const key of [made, later, taken]) expect(await answers(key)).toBe(true);
    const all = await report(stolen.id, '&made=true');
    expect(idsOf(all.revoked)).toEqual(idsOf([stolen, successor, made, later, taken]));
    for (const key of [made, later, taken]) expect(await answers(key)).toBe(false);
    // It did not make the one that it had replaced.
    expect(await answers(before)).toBe(true);
  });

  it('is found from the key that it replaced, and back', async () => {
    const fresh = await rotate(stolen);
    const { keys } = (await (await graft.request('/admin/keys')).json()) as { keys: Key[] };
    const of = (id: string) => keys.find((key) => key.id === id);
    expect(of(stolen.id)).toMatchObject({ replaced_by: fresh.id, replaces: null });
    expect(of(fresh.id)).toMatchObject({ replaced_by: null, replaces: stolen.id });
  });
});

describe('a revocation', () => {
  it('of a key that was rotated ends the new one with it, or the old one alone', async () => {
    for (const [query, good] of [
      ['', false],
      ['?successors=false', true],
    ] as const) {
      const old = await make({ tenant: 'acme' });
      const fresh = await rotate(old, {}, graft.adminKey);
      expect((await revoke(old.id, query)).status).toBe(204);
      expect([query, await answers(old), await answers(fresh)]).toEqual([query, false, good]);
    }
  });

  it('by the bootstrap key takes effect without a grace', async () => {
    const fresh = await rotate(stolen, { grace: 0 }, graft.adminKey);
    expect(await isGood(stolen)).toBe(false);
    expect((await revoke(stolen.id, '?successors=false')).status).toBe(204);
    expect(await isGood(fresh)).toBe(true);
  });

  it('takes what it knows, and nothing else', async () => {
    expect((await revoke(stolen.id, '?made=yes')).status).toBe(400);
    expect((await revoke(stolen.id, '?mad=true')).status).toBe(400);
    expect(await isGood(stolen)).toBe(true);
  });
});
