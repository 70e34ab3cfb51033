import { SHORT_MEMORY_MS } from '../../worker/limits.ts';
import { StoreUnavailable } from '../../worker/platform/ports.ts';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import type { KvTrouble } from '../fakes/fake-kv.ts';
import { createAppHarness, type AppHarness } from './app-harness.ts';

const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
/** Longer than what KV may be behind. */
const LATER_MS = 61_000;

let graft: AppHarness;
let key: string;

const ask = (model: string, withKey = key) =>
  graft.request('/v1/chat/completions', {
    key: withKey,
    body: { model, messages: [{ role: 'user', content: 'hi' }] },
  });
const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; reason?: string } }).error;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const made = await graft.request('/admin/keys', { body: { tenant: 'default', scopes: [] } });
  ({ key } = (await made.json()) as { key: string });
  expect((await graft.publish('notes', first)).status).toBe(201);
  graft.clock.advance(LATER_MS);
});

describe('the hot path', () => {
  it('reads KV twice, key and name, and not at all within a second; and the database never', async () => {
    await ask('notes');
    graft.clock.advance(SHORT_MEMORY_MS);
    graft.kv.reads = 0;
    graft.asked.length = 0;
    const { registry } = graft.services;
    const reads = (['name', 'version', 'live', 'usable'] as const).map((method) =>
      vi.spyOn(registry, method),
    );
    expect((await ask('notes')).status).toBe(200);
    expect(graft.kv.reads).toBe(2);
    graft.clock.advance(SHORT_MEMORY_MS - 1);
    expect((await ask('notes')).status).toBe(200);
    expect(graft.kv.reads).toBe(2);
    for (const spy of reads) expect(spy).not.toHaveBeenCalled();
    expect(graft.asked).toEqual(Array(2).fill('POST /v1/chat/completions'));
  });

  it('refuses malformed keys without touching anything', async () => {
    graft.kv.reads = 0;
    for (const wrong of ['', 'x', key.slice(0, -1), `${key.slice(0, -1)}!`, 'gk_'.padEnd(36, '0')])
      expect((await ask('notes', wrong)).status).toBe(401);
    expect(graft.kv.reads).toBe(0);
  });
});

describe('trouble in KV', () => {
  const troubles: KvTrouble[] = ['throw', 'hang', 'null', 'garbage'];

  it.each(troubles)('%s: what was known is served, labelled; nobody is denied', async (trouble) => {
    const fresh = await ask('notes');
    expect(fresh.headers.get('x-graft-degraded')).toBeNull();
    graft.clock.advance(LATER_MS);
    graft.kv.trouble = trouble;
    const response = await ask('notes');
    expect(response.status).toBe(200);
    expect(response.headers.get('x-graft-degraded')).toBe('stale');
    expect(response.headers.get('x-graft-adapter')).toBe('notes@1');
  });

  it.each(troubles.filter((trouble) => trouble !== 'null'))(
    '%s: what was not known is 503, not 401 or 404',
    async (trouble) => {
      graft.kv.trouble = trouble;
      const response = await ask('notes');
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2']);
      expect((await errorOf(response)).code).toBe('registry_unavailable');
    },
  );

  it('a forged or moved value is trouble, never another chain', async () => {
    expect((await graft.publish('other', second)).status).toBe(201);
    let other = '';
    graft.kv.tamper('name:other', (value) => (other = value as string));
    graft.kv.tamper('name:notes', () => other);
    expect((await ask('notes')).status).toBe(503);
    // One that is lost is found in the database.
    graft.kv.tamper('name:notes', () => null);
    expect((await ask('notes')).headers.get('x-graft-adapter')).toBe('notes@1');
  });

  it('makes uploads fail in a way that can be repeated', async () => {
    const put = vi.spyOn(graft.kv, 'put').mockRejectedValue(new Error('KV PUT failed: 500'));
    expect((await graft.upload(second)).status).toBe(503);
    put.mockRestore();
    expect((await graft.upload(second)).status).toBe(201);
  });
});

describe('bringing adapters', () => {
  const missing = () =>
    Response.json(
      { error: { message: 'x', code: 'adapter_missing', missing: [first.digest] } },
      { status: 409 },
    );

  it('is done once for requests that come together', async () => {
    let here = false;
    graft.origin.answer = async (method, path) => {
      if (path === '/base') return Response.json(TINY_BASE);
      if (method === 'POST') return here ? Response.json({}) : missing();
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (path.endsWith('/parts/0')) here = true;
      return new Response(null, { status: 204 });
    };
    const answers = await Promise.all([ask('notes'), ask('notes'), ask('notes')]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(graft.asked.filter((call) => /^PUT .*[0-9a-f]{64}/.test(call))).toEqual([
      `PUT /adapters/${first.digest}`,
      `PUT /adapters/${first.digest}/parts/0`,
    ]);
  });

  it('ends when the origin loses it again and again, or refuses it', async () => {
    graft.origin.answer = (method, path) =>
      path === '/base'
        ? Response.json(TINY_BASE)
        : method === 'POST'
          ? missing()
          : new Response(null, { status: 204 });
    const response = await ask('notes');
    expect(response.status).toBe(503);
    expect((await errorOf(response)).code).toBe('adapter_unavailable');
    graft.origin.answer = (method) => (method === 'POST' ? missing() : new Response('no', { status: 422 }));
    expect((await errorOf(await ask('notes'))).code).toBe('adapter_unavailable');
  });

  it.each<KvTrouble>(['throw', 'hang', 'garbage'])(
    'ends in 503 when the blobs answer with %s',
    async (trouble) => {
      await ask('notes');
      graft.origin.answer = (method) => {
        graft.kv.trouble = trouble;
        return method === 'POST' ? missing() : new Response(null, { status: 204 });
      };
      const response = await ask('notes');
      expect(response.status).toBe(503);
      expect((await errorOf(response)).code).toBe('registry_unavailable');
    },
  );

  it('ends when loading takes longer than a request waits', async () => {
    graft.origin.answer = () =>
      Response.json(
        { error: { message: 'x', code: 'adapter_loading' } },
        { status: 409, headers: { 'retry-after-ms': '2000' } },
      );
    const started = graft.clock.time;
    expect((await errorOf(await ask('notes'))).code).toBe('adapter_unavailable');
    expect(graft.clock.time - started).toBeLessThanOrEqual(60_000);
  });
});

describe('another tenant', () => {
  it('can neither take a file over nor spoil it with parts that it sent before', async () => {
    const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'thief' } });
    const { key: thief } = (await made.json()) as { key: string };
    const garbage = new Uint8Array(10);
    const path = `/admin/blobs/${second.digest}`;
    const early = await graft.request(`${path}/parts/0`, { method: 'PUT', key: thief, body: garbage });
    expect(early.status).toBe(200);
    graft.clock.advance(LATER_MS);
    expect((await graft.publish('mine', second)).status).toBe(201);
    const { sha256 } = (await early.json()) as { sha256: string };
    const record = { bytes: 10, parts: [{ bytes: 10, sha256 }] };
    const claimed = await graft.request(path, { key: thief, body: record });
    expect((await errorOf(claimed)).reason).toBe('digest_mismatch');
    const stolen = await graft.request('/admin/versions', {
      key: thief,
      body: { name: 'thief', digest: second.digest },
    });
    expect((await errorOf(stolen)).reason).toBe('blob_missing');
    const { blobs, blobLedger } = graft.services;
    expect(await blobs.getRecord(second.digest)).toEqual(await blobLedger.record(second.digest));
    expect(await blobLedger.holds(second.digest, 'thief')).toBe(false);
  });

  it('sees, pins, parents and flips nothing that is not its own or granted', async () => {
    const body = (scopes: string[]) => ({ body: { kind: 'admin', tenant: 'guest', scopes } });
    const keyOf = async (response: Response) => ((await response.json()) as { key: string }).key;
    const stranger = await keyOf(await graft.request('/admin/keys', body([])));
    const granted = await keyOf(await graft.request('/admin/keys', body(['notes'])));
    const { chain_id } = (await (
      await graft.request('/admin/versions?name=notes')
    )
      .json()
      .then((answer) => (answer as { versions: { chain_id: string }[] }).versions[0])) as {
      chain_id: string;
    };
    const child = tinyAdapter({ seed: 9, parent: chain_id });
    const state = { digest: child.digest, parent: 'notes' };
    for (const [adminKey, status] of [
      [stranger, 404],
      [granted, 201],
    ] as const) {
      expect((await graft.request('/admin/versions?name=notes', { key: adminKey })).status).toBe(
        status === 404 ? 404 : 200,
      );
      const bytes = new Uint8Array(child.bytes);
      await graft.request(`/admin/blobs/${child.digest}/parts/0`, {
        method: 'PUT',
        key: adminKey,
        body: bytes,
      });
      const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: child.digest }] };
      await graft.request(`/admin/blobs/${child.digest}`, { key: adminKey, body: record });
      const published = await graft.request('/admin/versions', {
        key: adminKey,
        body: { ...state, name: `guest/${status}` },
      });
      expect(published.status).toBe(status);
      const flip = await graft.request('/admin/promote', {
        key: adminKey,
        body: { name: 'notes', version: 1 },
      });
      expect(flip.status).toBe(404);
      const taken = await graft.request('/admin/versions', {
        key: adminKey,
        body: { ...state, name: 'notes/mine' },
      });
      expect(taken.status).toBe(403);
      graft.clock.advance(LATER_MS);
    }
    const guest = await keyOf(await graft.request('/admin/keys', { body: { tenant: 'guest' } }));
    expect((await ask('notes@1', guest)).status).toBe(404);
    expect((await ask('guest/201', guest)).status).toBe(404);
  });
});

describe('the base', () => {
  it('is not confused with an unknown name while no origin tells its id', async () => {
    const lonely = await createAppHarness();
    const made = await lonely.request('/admin/keys', { body: {} });
    const { key: lonelyKey } = (await made.json()) as { key: string };
    lonely.origin.answer = () => Promise.reject(new Error('ECONNREFUSED'));
    const response = await lonely.request('/v1/chat/completions', {
      key: lonelyKey,
      body: { model: TINY_BASE.id, messages: [{ role: 'user', content: 'hi' }] },
    });
    expect(response.status).toBe(503);
    expect((await errorOf(response)).code).toBe('origin_unavailable');
    const publish = await lonely.publish('x', first);
    expect(publish.status).toBe(503);
  });
});

describe('keys', () => {
  it('can be registered by hash, as often as one likes', async () => {
    const body = { tenant: 'default', hash: 'a'.repeat(64), label: 'local' };
    expect((await graft.request('/admin/keys', { body })).status).toBe(201);
    graft.clock.advance(LATER_MS);
    const again = await graft.request('/admin/keys', { body });
    expect(again.status).toBe(200);
    expect(await again.json()).not.toHaveProperty('key');
  });

  it('grant no more than their maker has', async () => {
    const made = await graft.request('/admin/keys', {
      body: { kind: 'admin', tenant: 'me', scopes: ['shared/**'] },
    });
    const { key: mine } = (await made.json()) as { key: string };
    const attempts: [object, number][] = [
      [{ scopes: ['shared/a'] }, 201],
      [{ scopes: ['shared/**', 'other'] }, 403],
      [{ scopes: ['**'] }, 403],
      [{ tenant: 'you' }, 403],
      [{ kind: 'admin' }, 403],
      [{ hash: 'b'.repeat(64) }, 403],
      [{ scopes: ['*'] }, 400],
      [{ colour: 'red' }, 400],
    ];
    for (const [body, status] of attempts)
      expect((await graft.request('/admin/keys', { body, key: mine })).status, JSON.stringify(body)).toBe(
        status,
      );
    const list = (await (await graft.request('/admin/keys', { key: mine })).json()) as {
      keys: { tenant: string }[];
    };
    expect(new Set(list.keys.map(({ tenant }) => tenant))).toEqual(new Set(['me']));
  });
});

describe('chains', () => {
  it('end at eight, and at the ranks that the origin takes', async () => {
    let parent: string | undefined;
    let chainId: string | null = null;
    for (let depth = 1; depth <= 9; depth += 1) {
      const adapter = tinyAdapter({ seed: 100 + depth, parent: chainId });
      const response = await graft.publish(`deep/${depth}`, adapter, parent === undefined ? {} : { parent });
      if (depth === 9) {
        expect(response.status).toBe(422);
        expect((await errorOf(response)).reason).toBe('chain_too_long');
        break;
      }
      expect(response.status, String(depth)).toBe(201);
      parent = `deep/${depth}`;
      ({ chain_id: chainId } = (await response.json()) as { chain_id: string });
    }
    const big = tinyAdapter({ seed: 200, rank: 256 });
    const { chain_id } = (await (await graft.publish('big', big)).json()) as { chain_id: string };
    const over = await graft.publish('big/more', tinyAdapter({ seed: 201, rank: 1, parent: chain_id }), {
      parent: 'big',
    });
    expect((await errorOf(over)).reason).toBe('rank_sum_exceeded');
  });
});

it('answers a bug with 500 and says nothing of it', async () => {
  vi.spyOn(graft.services.registry, 'names').mockRejectedValue(new Error('secret detail'));
  const response = await graft.request('/admin/names');
  expect(response.status).toBe(500);
  const text = await response.text();
  expect(text).not.toContain('secret');
  expect(JSON.parse(text)).toMatchObject({ error: { code: 'internal_error' } });
});

describe('GET /readyz', () => {
  it('is 503 while the registry or every origin is away, and asks once a second', async () => {
    const edge = await createAppHarness();
    const state = async () => {
      const response = await edge.request('/readyz', { key: '' });
      const { error } = (await response.json()) as { error?: { code: string } };
      return error?.code ?? response.status;
    };
    let reads = 0;
    let down = true;
    const { keptPrompts } = edge.services;
    const { read } = keptPrompts;
    keptPrompts.read = async (of) => {
      reads += 1;
      if (down) throw new StoreUnavailable('D1', new Error('no such table'));
      return read(of);
    };
    expect([await state(), await state(), reads]).toEqual([
      'registry_unavailable',
      'registry_unavailable',
      1,
    ]);
    down = false;
    const { answer } = edge.origin;
    edge.origin.answer = () => Promise.reject(new Error('connection refused'));
    edge.clock.advance(1_000);
    expect(await state()).toBe('origin_unavailable');
    edge.origin.answer = answer;
    edge.clock.advance(10_000);
    expect(await state()).toBe(200);
    expect((await edge.request('/healthz')).status).toBe(200);
  });
});
