import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chainOf, chat, startTestEdge, type TestEdge } from './edge-harness.ts';

let graft: TestEdge;
let key: string;

const root = tinyAdapter({ seed: 1 });
const post = (model: string, more: object = {}, withKey: string | null = key) =>
  graft.request('/v1/chat/completions', { method: 'POST', key: withKey, body: chat(model, more) });
const short = (digest: string) => digest.slice(0, 8);
const code = async (response: Response) =>
  ((await response.json()) as { error: { code: string } }).error.code;

beforeAll(async () => {
  graft = await startTestEdge();
  key = await graft.makeKey({ tenant: 'default' });
  const published = await graft.publish({ name: 'medicine', adapter: root });
  expect(published.status).toBe(201);
});
afterAll(() => graft.stop());

describe('completions', () => {
  it('serves the base under its two names, to every key', async () => {
    const stranger = await graft.makeKey({ tenant: 'stranger' });
    for (const model of ['base', TINY_BASE.id]) {
      const response = await post(model, {}, stranger);
      expect(response.status).toBe(200);
      expect(response.headers.get('x-graft-adapter')).toBe('base');
      expect(await chainOf(response)).toEqual([]);
    }
  });

  it('brings a missing chain to the origin and labels the answer', async () => {
    const { chain_id } = (await (
      await graft.admin('/admin/versions?name=medicine')
    )
      .json()
      .then((body) => (body as { versions: { chain_id: string }[] }).versions[0])) as { chain_id: string };
    const child = tinyAdapter({ seed: 2, parent: chain_id });
    const published = await graft.publish({
      name: 'medicine/cardiology',
      adapter: child,
      parent: 'medicine',
    });
    expect(published.status).toBe(201);
    const response = await post('medicine/cardiology', { temperature: 0 });
    expect(response.status).toBe(200);
    expect(response.headers.get('x-graft-adapter')).toBe('medicine/cardiology@1');
    expect(response.headers.get('x-graft-chain')).toMatch(/^[0-9a-f]{64}$/);
    expect(response.headers.get('x-graft-origin')).toBe('o1');
    expect(response.headers.get('x-request-id')).toMatch(/^[\w-]+$/);
    expect(await chainOf(response)).toEqual([short(root.digest), short(child.digest)]);
    expect(graft.origin.log.parts).toContain(`${short(child.digest)}:0`);
    const asked = graft.origin.log.completions.at(-1);
    expect(asked?.request).toEqual({
      model: 'medicine/cardiology',
      messages: [{ role: 'user', content: 'hi' }],
      temperature: 0,
    });
    expect(asked?.graft).toMatchObject({ tenant: 'default', model: 'medicine/cardiology' });
    expect(asked?.graft.request_id).toBe(response.headers.get('x-request-id'));
  });

  it('sends an evicted adapter again', async () => {
    await (await post('medicine')).arrayBuffer();
    graft.origin.forget(root.digest);
    expect(await chainOf(await post('medicine'))).toEqual([short(root.digest)]);
  });

  it('asks the origin for text completions too', async () => {
    const response = await graft.request('/v1/completions', {
      method: 'POST',
      key,
      body: JSON.stringify({ model: 'base', prompt: 'hi', max_tokens: 3 }),
    });
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  });

  it('does not forward what only the edge may say', async () => {
    const response = await graft.request('/v1/chat/completions', {
      method: 'POST',
      key,
      body: chat('base'),
      headers: {
        'x-graft-adapter': 'x',
        'cf-connecting-ip': '1.2.3.4',
        cookie: 'a=b',
        'x-request-id': 'mine-1',
      },
    });
    expect(response.headers.get('x-request-id')).toBe('mine-1');
    await response.arrayBuffer();
    const names = Object.keys(graft.origin.log.headers);
    expect(
      names.filter((name) => /^(x-graft-(?!signature)|cf-(?!worker)|cookie|authorization)/.test(name)),
    ).toEqual([]);
    const left = await post('base', { graft: { chain: [{ digest: 'a'.repeat(64), scale: 1 }] } });
    expect(left.status).toBe(200);
    expect(left.headers.get('x-graft-ignored')).toBe('graft');
    const sent = graft.origin.log.completions.at(-1);
    expect(sent?.graft.chain).toEqual([]);
    expect(sent?.request).not.toHaveProperty('graft');
  });
});

describe('keys', () => {
  it('refuses none, malformed, unknown and admin keys with 401', async () => {
    for (const wrong of [null, 'x', 'gk_0', generateApiKey('gk'), graft.adminKey]) {
      const response = await post('base', {}, wrong);
      expect(response.status).toBe(401);
      expect(await code(response)).toBe('invalid_api_key');
    }
    // The key speaks before the body does.
    const response = await graft.request('/v1/chat/completions', { method: 'POST', key: null, body: '{' });
    expect(response.status).toBe(401);
    for (const path of ['/v1/models', '/v1/models/medicine', '/admin/names', '/admin/origins'])
      expect((await graft.request(path)).status).toBe(401);
    expect((await graft.request('/admin/names', { key })).status).toBe(401);
  });

  it('revokes', async () => {
    const response = await graft.admin('/admin/keys', {
      method: 'POST',
      body: JSON.stringify({ tenant: 'brief' }),
    });
    const made = (await response.json()) as { id: string; key: string };
    expect((await graft.request('/v1/models', { key: made.key })).status).toBe(200);
    expect((await graft.admin(`/admin/keys/${made.id}`, { method: 'DELETE' })).status).toBe(204);
    expect((await graft.request('/v1/models', { key: made.key })).status).toBe(401);
    const list = await (await graft.admin('/admin/keys')).text();
    expect(list).toContain(made.id);
    expect(list).not.toContain(made.key);
  });
});

describe('versions', () => {
  it('uses a re-published name at once; a stream that began before ends on its version', async () => {
    const first = tinyAdapter({ seed: 10 });
    const second = tinyAdapter({ seed: 11 });
    expect((await graft.publish({ name: 'alice/notes', adapter: first })).status).toBe(201);
    expect(await chainOf(await post('alice/notes'))).toEqual([short(first.digest)]);
    graft.origin.hold();
    const stream = await post('alice/notes', { stream: true });
    expect(stream.headers.get('x-graft-adapter')).toBe('alice/notes@1');
    expect((await graft.publish({ name: 'alice/notes', adapter: second, expect: 1 })).status).toBe(201);
    graft.origin.release();
    expect(await stream.text()).toContain(short(first.digest));
    const next = await post('alice/notes');
    expect(next.headers.get('x-graft-adapter')).toBe('alice/notes@2');
    expect(await chainOf(next)).toEqual([short(second.digest)]);
    expect(await chainOf(await post('alice/notes@1'))).toEqual([short(first.digest)]);
    expect((await post('alice/notes@3')).status).toBe(404);

    const flip = (to: number, expected?: number) =>
      graft.admin('/admin/promote', {
        method: 'POST',
        body: JSON.stringify({ name: 'alice/notes', version: to, expect: expected }),
      });
    expect((await flip(1, 1)).status).toBe(409);
    expect((await flip(9)).status).toBe(404);
    expect(await (await flip(1, 2)).json()).toEqual({ name: 'alice/notes', version: 1, from: 2 });
    expect(await chainOf(await post('alice/notes'))).toEqual([short(first.digest)]);
  });

  it('is idempotent, answers 409 to a stale expectation, keeps staged versions quiet', async () => {
    const first = tinyAdapter({ seed: 20 });
    const second = tinyAdapter({ seed: 21 });
    expect((await graft.publish({ name: 'bob', adapter: first, expect: 0 })).status).toBe(201);
    const again = await graft.publish({ name: 'bob', adapter: first });
    expect(again.status).toBe(200);
    expect(await again.json()).toMatchObject({ version: 1, live: true });
    const stale = await graft.publish({ name: 'bob', adapter: second, expect: 0 });
    expect(stale.status).toBe(409);
    expect(await code(stale)).toBe('version_conflict');
    const staged = await graft.publish({ name: 'bob', adapter: second, stage: true });
    expect(staged.status).toBe(201);
    expect(await staged.json()).toMatchObject({ version: 2, live: false });
    expect(await chainOf(await post('bob'))).toEqual([short(first.digest)]);
  });

  it('keeps every acknowledged version when several publish at once', async () => {
    const adapters = [30, 31, 32].map((seed) => tinyAdapter({ seed }));
    const answers = await Promise.all(adapters.map((adapter) => graft.publish({ name: 'race', adapter })));
    const acknowledged = answers.filter((answer) => answer.status === 201).length;
    expect(acknowledged).toBeGreaterThan(0);
    const { versions, version } = (await (await graft.admin('/admin/versions?name=race')).json()) as {
      versions: { version: number; digest: string }[];
      version: number;
    };
    expect(versions).toHaveLength(acknowledged);
    const live = versions.find((row) => row.version === version);
    expect(await chainOf(await post('race'))).toEqual([short(live?.digest ?? '')]);
  });

  it('refuses at publish what does not fit, with both shapes, and makes nothing', async () => {
    const wrong = tinyAdapter({ seed: 40, shape: { in: 8, out: 7 } });
    const response = await graft.publish({ name: 'wrong', adapter: wrong });
    expect(response.status).toBe(422);
    const { error } = (await response.json()) as { error: { code: string; reason: string; message: string } };
    expect(error).toMatchObject({ code: 'adapter_invalid', reason: 'shape_mismatch' });
    expect(error.message).toContain('[7, 2]');
    expect(error.message).toContain('[6, 2]');
    const orphan = await graft.publish({
      name: 'wrong',
      adapter: tinyAdapter({ seed: 41, parent: 'c'.repeat(64) }),
    });
    expect(await orphan.json()).toMatchObject({ error: { reason: 'parent_mismatch' } });
    const noBlob = await graft.admin('/admin/versions', {
      method: 'POST',
      body: JSON.stringify({ name: 'wrong', digest: 'd'.repeat(64) }),
    });
    expect(await noBlob.json()).toMatchObject({ error: { reason: 'blob_missing' } });
    const noParent = await graft.publish({ name: 'wrong', adapter: root, parent: 'absent' });
    expect(noParent.status).toBe(404);
    expect((await graft.admin('/admin/versions?name=wrong')).status).toBe(404);
    expect((await graft.publish({ name: TINY_BASE.id, adapter: root })).status).toBe(422);
    expect((await graft.publish({ name: 'v1/x', adapter: root })).status).toBe(400);
  });
});

describe('uploads', () => {
  it('takes an adapter larger than one KV value in parts, resumes, and streams it to the origin', async () => {
    const wide = tinyAdapter({ seed: 50, wide: true, rank: 128 });
    const partBytes = 24 * 1024 * 1024;
    expect(wide.bytes.length).toBeGreaterThan(25 * 1024 * 1024);
    const firstPart = new Uint8Array(wide.bytes.subarray(0, partBytes));
    const put = await graft.admin(`/admin/blobs/${wide.digest}/parts/0`, { method: 'PUT', body: firstPart });
    expect(put.status).toBe(200);
    const held = (await (await graft.admin(`/admin/blobs/${wide.digest}`)).json()) as { parts: unknown[] };
    expect(held).toMatchObject({ complete: false, parts: [{ index: 0, bytes: partBytes }] });
    const published = await graft.publish({ name: 'wide', adapter: wide, partBytes });
    expect(published.status).toBe(201);
    expect(await chainOf(await post('wide'))).toEqual([short(wide.digest)]);
    expect(graft.origin.log.parts.filter((part) => part.startsWith(short(wide.digest)))).toEqual([
      `${short(wide.digest)}:0`,
      `${short(wide.digest)}:1`,
    ]);
  });

  it('refuses a part over the limit, a part that is not what it says, a file that is not its digest', async () => {
    const path = `/admin/blobs/${'e'.repeat(64)}/parts/0`;
    const over = await graft.admin(path, { method: 'PUT', body: new Uint8Array(24 * 1024 * 1024 + 1) });
    expect(over.status).toBe(413);
    const other = await graft.admin(`${path}?sha256=${'0'.repeat(64)}`, {
      method: 'PUT',
      body: new Uint8Array(3),
    });
    expect(await other.json()).toMatchObject({ error: { reason: 'part_mismatch' } });
    const last = await graft.admin(`/admin/blobs/${'e'.repeat(64)}/parts/42`, {
      method: 'PUT',
      body: new Uint8Array(3),
    });
    expect(await last.json()).toMatchObject({ error: { reason: 'too_many_parts' } });
    const tampered = { bytes: Buffer.from(tinyAdapter({ seed: 60 }).bytes), digest: 'e'.repeat(64) };
    expect(await (await graft.upload(tampered)).json()).toMatchObject({
      error: { reason: 'digest_mismatch' },
    });
  });

  it('takes a digest as no right to anything: another tenant must send the bytes', async () => {
    const adapter = tinyAdapter({ seed: 70 });
    expect((await graft.publish({ name: 'secret', adapter })).status).toBe(201);
    const other = await graft.makeAdminKey('thief');
    const state = await (await graft.admin(`/admin/blobs/${adapter.digest}`, { key: other })).json();
    expect(state).toMatchObject({ digest: adapter.digest, complete: false, parts: [] });
    expect(Object.keys(state as object).sort()).toEqual(['complete', 'digest', 'limits', 'parts']);
    const body = JSON.stringify({ name: 'thief/one', digest: adapter.digest });
    const stolen = await graft.admin('/admin/versions', { method: 'POST', key: other, body });
    expect(await stolen.json()).toMatchObject({ error: { reason: 'blob_missing' } });
    const poisoned = await graft.admin(`/admin/blobs/${adapter.digest}/parts/0`, {
      method: 'PUT',
      key: other,
      body: new Uint8Array(10),
    });
    // It lies beside the real one, and is nobody's.
    expect(poisoned.status).toBe(200);
    expect((await graft.publish({ name: 'secret/two', adapter, key: other })).status).toBe(403);
    expect((await graft.publish({ name: 'thief/one', adapter, key: other })).status).toBe(201);
    expect((await graft.admin('/admin/versions?name=secret', { key: other })).status).toBe(404);
  });
});

describe('dropped files', () => {
  it('are left where they are unless DROPS is on, by the schedule and by requests', async () => {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    await kv.put('drop:dropped', new Uint8Array(root.bytes));
    await graft.edge.runSchedule();
    expect((await post('dropped')).status).toBe(404);
    expect((await kv.list({ prefix: 'drop' })).keys.map(({ name }) => name)).toEqual(['drop:dropped']);
  });
});

describe('resolution', () => {
  it('inherits, composes and grants over the real KV and D1', async () => {
    const inherited = await post('medicine/nowhere/at/all');
    expect(inherited.headers.get('x-graft-inherited')).toBe('true');
    expect(inherited.headers.get('x-graft-adapter')).toBe('medicine@1');
    expect(await chainOf(inherited)).toEqual([short(root.digest)]);
    expect((await post('medicine/nowhere/at/all', { strict: true })).status).toBe(404);

    const composed = await post('base', { adapters: [{ name: 'medicine', scale: 0.5 }] });
    expect(composed.headers.get('x-graft-composed')).toBe('medicine@1=0.5');
    expect(await chainOf(composed)).toEqual([short(root.digest)]);

    const guest = await graft.makeKey({ tenant: 'granted-guest' });
    const grants = (method: string, tenant: string) =>
      method === 'POST'
        ? graft.admin('/admin/grants', { method, body: JSON.stringify({ scope: 'medicine', tenant }) })
        : graft.admin(`/admin/grants?scope=medicine&tenant=${encodeURIComponent(tenant)}`, { method });
    for (const tenant of ['granted-guest', '*']) {
      expect((await post('medicine', {}, guest)).status).toBe(404);
      expect((await grants('POST', tenant)).status).toBe(201);
      expect((await post('medicine', {}, guest)).status).toBe(200);
      expect((await post('medicine/nowhere', {}, guest)).headers.get('x-graft-inherited')).toBe('true');
      expect((await grants('DELETE', tenant)).status).toBe(204);
    }
    expect((await post('medicine', {}, guest)).status).toBe(404);
  });

  it('serves a key and a name that KV has lost, from D1', async () => {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    const lost = await graft.makeKey({ tenant: 'default' });
    expect((await graft.publish({ name: 'lost', adapter: root })).status).toBe(201);
    await kv.delete(`key:${await hashApiKey(lost)}`);
    await kv.delete('name:lost');
    const response = await post('lost', {}, lost);
    expect([response.status, response.headers.get('x-graft-adapter')]).toEqual([200, 'lost@1']);
  });
});
