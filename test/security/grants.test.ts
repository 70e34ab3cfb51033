/** Grants need no consent: what a tenant can do to another with them, and what that one can do about it. */
import { beforeEach, describe, expect, it } from 'vitest';
import { hashApiKey } from '../../protocol/identity.ts';
import { MAX_GRANTS_FROM_ONE } from '../../worker/access/limits.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const LATER_MS = 61_000;

let graft: AppHarness;
/** Admin keys. */
let admins: Record<'carol' | 'eve' | 'friend', string>;
let carol: string;

const keyOf = async (body: object): Promise<string> =>
  ((await (await graft.request('/admin/keys', { body })).json()) as { key: string }).key;
const grant = (from: keyof typeof admins, scope: string, tenant: string) =>
  graft.request('/admin/grants', { key: admins[from], body: { scope, tenant } });
const refuse = (from: string, key = admins.carol) =>
  graft.request('/admin/grants/refuse', { key, body: { from } });
const accept = (from: string) =>
  graft.request(`/admin/grants/refuse?from=${from}`, { method: 'DELETE', key: admins.carol });
/** What carol is served by a name, in an isolate that knows nothing yet. */
const served = async (model: string) => {
  graft.clock.advance(LATER_MS);
  const isolate = await createAppHarness({ beside: graft });
  const body = { model, strict: true, messages: [{ role: 'user', content: 'hi' }] };
  const response = await isolate.request('/v1/chat/completions', { key: carol, body });
  return response.headers.get('x-graft-adapter') ?? response.status;
};
const valueOf = (key: string): string | null => {
  let value: string | null = null;
  graft.kv.tamper(key, (current) => (value = current));
  return value;
};

beforeEach(async () => {
  graft = await createAppHarness();
  admins = { carol: '', eve: '', friend: '' };
  for (const tenant of ['carol', 'eve', 'friend'] as const)
    admins[tenant] = await keyOf({ kind: 'admin', tenant });
  carol = await keyOf({ tenant: 'carol' });
  for (const [name, owner, seed] of [
    ['eve', 'eve', 1],
    ['friend', 'friend', 2],
    ['mine', 'carol', 3],
  ] as const)
    expect((await graft.publish(name, tinyAdapter({ seed }), { owner })).status).toBe(201);
});

describe('a stranger', () => {
  it('cannot fill up what another can have: each gives so many and no more', async () => {
    const statuses = [];
    for (let i = 0; i <= MAX_GRANTS_FROM_ONE; i += 1)
      statuses.push((await grant('eve', `eve/g${i}`, 'carol')).status);
    expect(statuses).toEqual([...Array<number>(MAX_GRANTS_FROM_ONE).fill(201), 400]);
    const refused = await grant('eve', 'eve/more', 'carol');
    expect(await refused.json()).toMatchObject({
      error: { code: 'invalid_request', param: 'tenant', message: expect.stringContaining('32 grants') },
    });
    // Given before: not one more. And everybody else's room is as it was.
    expect((await grant('eve', 'eve/g0', 'carol')).status).toBe(200);
    expect((await grant('friend', 'friend', 'carol')).status).toBe(201);
    expect(await served('friend')).toBe('friend@1');
  });

  it('cannot give to itself what is its own anyway', async () => {
    const response = await grant('eve', 'eve/**', 'eve');
    expect(response.status).toBe(400);
    expect(valueOf('grant:eve')).toBeNull();
    const root = await graft.request('/admin/grants', { body: { scope: 'eve/**', tenant: 'eve' } });
    expect(root.status).toBe(400);
  });

  it('has nothing written by taking back what was never given', async () => {
    for (const tenant of ['null', 'nobody', 'undefined']) {
      const path = `/admin/grants?scope=eve&tenant=${tenant}`;
      expect((await graft.request(path, { method: 'DELETE', key: admins.eve })).status).toBe(404);
      expect(valueOf(`grant:${tenant}`)).toBeNull();
    }
    for (const path of ['/admin/grants?scope=eve&tenant=', '/admin/grants?scope=eve'])
      expect((await graft.request(path, { method: 'DELETE', key: admins.eve })).status).toBe(400);
  });

  it('has what is left over in KV taken away where its giver asks again', async () => {
    expect((await grant('eve', 'eve', 'carol')).status).toBe(201);
    // Cut off between the two stores.
    await graft.services.grantLedger.remove({ scope: 'eve', tenant: 'carol' });
    expect(await served('eve')).toBe('eve@1');
    const path = '/admin/grants?scope=eve&tenant=carol';
    expect((await graft.request(path, { method: 'DELETE', key: admins.eve })).status).toBe(404);
    expect(await served('eve')).toBe(404);
  });
});

describe('a tenant that refuses another', () => {
  it.each(['carol', '*'])('has nothing opened by grants of it to %s, given before or after', async (to) => {
    expect((await grant('eve', 'eve', to)).status).toBe(201);
    expect((await grant('friend', 'friend', to)).status).toBe(201);
    expect(await served('eve')).toBe('eve@1');
    expect((await refuse('eve')).status).toBe(201);
    expect((await refuse('eve')).status).toBe(200);
    expect(await served('eve')).toBe(404);
    expect(await served('friend')).toBe('friend@1');
    expect((await grant('eve', 'eve/**', to)).status).toBe(201);
    expect(await served('eve')).toBe(404);
    expect(valueOf('grant:carol')).not.toContain('"scope":"eve');
    // Neither listed nor suggested, nor to be built upon.
    const models = await (await graft.request('/v1/models', { key: carol })).text();
    expect(models).toContain('"friend"');
    expect(models).not.toContain('"eve"');
    const { bytes, digest } = tinyAdapter({ seed: 9 });
    const part = { method: 'PUT', key: admins.carol, body: new Uint8Array(bytes) };
    await graft.request(`/admin/blobs/${digest}/parts/0`, part);
    const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
    await graft.request(`/admin/blobs/${digest}`, { key: admins.carol, body: record });
    const child = { name: 'mine/child', digest, parent: 'eve' };
    expect((await graft.request('/admin/versions', { key: admins.carol, body: child })).status).toBe(404);
    expect((await accept('eve')).status).toBe(204);
    expect((await accept('eve')).status).toBe(404);
    expect(await served('eve')).toBe('eve@1');
  });

  it('is not known by it to do so, and sees itself what is refused', async () => {
    await grant('eve', 'eve', 'carol');
    await refuse('eve');
    const listed = async (key: string, query: string) => {
      const response = await graft.request(`/admin/grants${query}`, { key });
      return ((await response.json()) as { grants: { owner: string; refused?: boolean }[] }).grants;
    };
    expect(await listed(admins.eve, '')).toMatchObject([{ owner: 'eve', scope: 'eve' }]);
    expect(JSON.stringify(await listed(admins.eve, ''))).not.toContain('refused');
    expect(await listed(admins.carol, '?held=true')).toMatchObject([{ owner: 'eve', refused: true }]);
    const refusals = await graft.request('/admin/grants/refuse', { key: admins.carol });
    expect(await refusals.json()).toMatchObject({ refusals: [{ from: 'eve' }] });
    const others = await graft.request('/admin/grants/refuse', { key: admins.eve });
    expect(await others.json()).toEqual({ refusals: [] });
  });

  it('still has its own names and what a scope of the key opens', async () => {
    const scoped = await keyOf({ tenant: 'carol', scopes: ['eve'] });
    await refuse('eve');
    const body = { model: 'eve', messages: [{ role: 'user', content: 'hi' }] };
    expect((await graft.request('/v1/chat/completions', { key: scoped, body })).status).toBe(200);
    expect(await served('mine')).toBe('mine@1');
    for (const from of ['carol', '*', '', 'A'])
      expect([from, (await refuse(from)).status]).toEqual([from, 400]);
  });

  it('is not overruled while KV does not say what it refuses', async () => {
    await grant('eve', 'eve', '*');
    await refuse('eve');
    graft.clock.advance(LATER_MS);
    graft.kv.faultOf = (key) => (key === 'grant:carol' ? 'throw' : null);
    expect(await served('eve')).toBe(503);
    expect(await hashApiKey(carol)).toHaveLength(64);
  });
});
