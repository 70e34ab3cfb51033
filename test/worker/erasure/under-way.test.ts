/** An erasure beside what is under way while it runs: the real app on D1's real statements, with a clock of its own. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ERASE_SETTLE_MS, EraseAnswer } from '../../../protocol/admin-api/erasures.ts';
import type { DropAnswer } from '../../../protocol/origin-wire.ts';
import { REQUEST_BUDGET_MS } from '../../../worker/limits.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { useD1App } from '../d1-app.ts';
import { erasedIn, erasePages, eraseUntilRefused } from './erase-pages.ts';

const MINUTE_MS = 60_000;

/** What of a kind is on its way to KV fails the next time. */
let failing: string | null;

function cutting<T extends object>(rights: T): T {
  const methods = Object.entries(rights) as [string, (...given: unknown[]) => unknown][];
  const cut = methods.map(([name, method]) => [
    name,
    (...given: unknown[]) => {
      if (name !== failing) return method(...given);
      failing = null;
      return Promise.reject(new Error('cut off'));
    },
  ]);
  return Object.fromEntries(cut) as T;
}

beforeEach(() => {
  failing = null;
});
const app = useD1App(() => ({
  origins: ['o1', 'o2'].map((id) => ({ id, url: `http://${id}.test` })),
  wrap: (port, name) => (name === 'rights' ? cutting(port) : port),
}));

const post = async (path: string, body: object, key?: string) => {
  const response = await app.graft.request(path, { body, ...(key === undefined ? {} : { key }) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
  return JSON.parse(text) as Record<'id' | 'key', string>;
};
const makeKey = async (tenant: string, kind = 'api'): Promise<Record<'id' | 'key', string>> =>
  post('/admin/keys', { tenant, kind, scopes: ['**'] });
/** To its end. */
const eraseAll = (target: object, begun: string | null = null) =>
  erasePages((cursor) => post('/admin/erase', { ...target, usage: true, cursor }), begun);
const erase = (tenant: string, begun: string | null = null) => eraseAll({ tenant }, begun);
/** Runs of the schedule, until no erasure is left for it or it waits for its time. */
const scheduled = async () => {
  for (let runs = 0; runs < 10 && (await rows('SELECT id FROM erasures')).length > 0; runs += 1)
    await app.graft.schedule((work) => void work.catch(() => undefined));
};
const rows = async (sql: string) => (await app.db.prepare(sql).all()).results;
/** What is noted of the tenant, in D1 and in gatherers. */
const noted = async (tenant: string) => {
  const { gatherers } = app.graft.stores;
  const of = { tenant, name: null, keyId: null, from: 0, to: app.graft.clock.now() / 1_000, step: 60 };
  return [
    ...(await rows(`SELECT key_id FROM traffic WHERE tenant = '${tenant}'`)),
    ...(await gatherers.traffic(of)),
    ...(await gatherers.requests({ tenant, limit: 9 })),
  ];
};

describe('a tenant that is erased', () => {
  it('leaves nothing of a request that ran as long as one may', async () => {
    expect(ERASE_SETTLE_MS).toBeGreaterThan(REQUEST_BUDGET_MS + MINUTE_MS);
    const { key } = await makeKey('acme');
    const others = await makeKey('bob');
    let origin: ReadableStreamDefaultController<Uint8Array> | undefined;
    const say = async (text: string) => {
      origin?.enqueue(new TextEncoder().encode(text));
      await new Promise((resolve) => setImmediate(resolve));
    };
    const usual = app.graft.origin.answer;
    app.graft.origin.answer = (method, path, init) =>
      path === '/v1/chat/completions'
        ? new Response(new ReadableStream<Uint8Array>({ start: (begun) => void (origin = begun) }), {
            headers: { 'content-type': 'text/event-stream' },
          })
        : usual(method, path, init);
    const ask = (by: string) =>
      app.graft.request('/v1/chat/completions', {
        key: by,
        body: { model: 'base', stream: true, messages: [{ role: 'user', content: 'hi' }] },
      });
    const end = async () => {
      await say('data: [DONE]\n\n');
      origin?.close();
    };
    const bobs = (await ask(others.key)).text();
    await end();
    await bobs;

    const asking = await ask(key);
    expect(asking.status).toBe(200);
    const text = asking.text();
    await say(': ping\n\n');
    await erase('acme');
    app.graft.clock.advance(4 * MINUTE_MS);
    await say(': ping\n\n');
    await scheduled();
    app.graft.clock.advance(5 * MINUTE_MS);
    await say(': ping\n\n');
    await end();
    await text;
    await app.graft.settled();
    // As of any request: it ran to its end, and is noted.
    expect(await noted('acme')).not.toEqual([]);
    app.graft.clock.advance(ERASE_SETTLE_MS);
    await scheduled();
    expect(await rows('SELECT id FROM erasures')).toEqual([]);
    expect(await noted('acme')).toEqual([]);
    expect(await noted('bob')).not.toEqual([]);
  });

  it('keeps what another of its name uses after it has settled', async () => {
    const use = async () => {
      const { key } = await makeKey('acme');
      const body = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
      expect((await app.graft.request('/v1/chat/completions', { key, body })).status).toBe(200);
      await app.graft.settled();
    };
    const usage = async () =>
      rows(
        `SELECT requests FROM usage WHERE tenant = 'acme'
         UNION ALL SELECT requests FROM usage_days WHERE tenant = 'acme'`,
      );
    await use();
    await erase('acme');
    expect(await usage()).toEqual([]);
    expect(await noted('acme')).toEqual([]);
    // The schedule is late.
    app.graft.clock.advance(ERASE_SETTLE_MS + 61 * MINUTE_MS);
    await use();
    await scheduled();
    expect(await rows('SELECT id FROM erasures')).toEqual([]);
    expect(await usage()).toEqual([{ requests: 1 }, { requests: 1 }]);
    expect(await noted('acme')).not.toEqual([]);
  });

  it('takes the usage of an erased name out of the sums of its days', async () => {
    await app.graft.publish('acme/notes', tinyAdapter({ seed: 1 }), { owner: 'acme' });
    const used = { tenant: 'acme', keyId: 'key_1', errors: 0, promptTokens: 10, completionTokens: 5 };
    const hour = Math.floor(app.graft.clock.now() / 3_600_000);
    const usageRows = [
      { ...used, hour, name: 'acme/notes', version: 1, base: 'tiny', requests: 3 },
      { ...used, hour, name: 'base', version: 0, base: 'base', requests: 4 },
      { ...used, hour: hour - 24, name: 'acme/notes', version: 1, base: 'tiny', requests: 5 },
    ];
    await app.graft.stores.usage.add({ id: 'batch', at: 1, rows: usageRows });
    expect(await rows('SELECT SUM(requests) AS sum FROM usage_days')).toEqual([{ sum: 12 }]);
    await eraseAll({ name: 'acme/notes' });
    expect(await rows('SELECT base, requests, prompt_tokens, last_hour FROM usage_days')).toEqual([
      { base: 'base', requests: 4, prompt_tokens: 10, last_hour: hour },
    ]);
  });

  it('keeps what users of another of its name prefer before it has settled, and nothing that is late', async () => {
    const keeping = { tenant: 'acme', scopes: ['**'], keep_prompts: 24, improve: true };
    const old = await post('/admin/keys', keeping);
    await erase('acme');
    const { key } = await post('/admin/keys', keeping);
    const preferred = { chosen: 'request-1', rejected: 'request-2' };
    expect(await post('/v1/preferences', preferred, key)).toMatchObject({ status: 'recorded' });
    for (const table of ['preferences', 'kept_prompts']) {
      const columns = table === 'preferences' ? 'chosen, rejected' : 'id, name, bytes, sealed, user, improve';
      const values = table === 'preferences' ? "'late', 'later'" : "'late', '', 1, 'x', 'u', 0";
      await rows(`INSERT INTO ${table} (tenant, at, key_id, expires_at, ${columns})
        VALUES ('acme', ${app.graft.clock.now()}, '${old.id}', ${app.graft.clock.now() + 24 * 3_600_000}, ${values})`);
    }
    app.graft.clock.advance(ERASE_SETTLE_MS + MINUTE_MS);
    await scheduled();
    expect(await rows('SELECT id FROM erasures')).toEqual([]);
    expect(await rows('SELECT chosen FROM preferences')).toEqual([{ chosen: 'request-1' }]);
    expect(await rows('SELECT id FROM kept_prompts')).toEqual([]);
  });

  it('ends, however many files its origins have dropped already', async () => {
    await rows(`INSERT INTO erasures (id, kind, target, owner, cascade, usage, step, place, touched_at)
      VALUES (1, 'tenant', 'acme', 'acme', 0, 0, 'waiting', '', 0)`);
    await rows(`INSERT INTO erasure_files (erasure, digest, origins)
      WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 10100)
      SELECT 1, printf('%064x', n), '[]' FROM many`);
    await scheduled();
    expect(await rows('SELECT id FROM erasures')).toEqual([]);
    expect(await rows('SELECT digest FROM erasure_files LIMIT 1')).toEqual([]);
  });

  describe('with a file at two origins', () => {
    const file = tinyAdapter({ seed: 1 });
    /** The origins that have dropped it, in this order. */
    let dropped: string[];
    /** The origins that do not answer. */
    let away: readonly string[];
    beforeEach(async () => {
      [dropped, away] = [[], []];
      const usual = app.graft.origin.answer;
      app.graft.origin.answer = (method, path, init, url = '') => {
        if (path !== '/adapters/drop') return usual(method, path, init, url);
        const id = new URL(url).hostname.replace('.test', '');
        if (away.includes(id)) return new Response('away', { status: 502 });
        const { digests } = JSON.parse(String(init.body)) as { digests: string[] };
        expect(digests).toEqual([file.digest]);
        dropped.push(id);
        return Response.json({ files: digests.length, in_use: 0 } satisfies DropAnswer);
      };
      await publishFor('acme');
    });
    const publishFor = async (tenant: string): Promise<void> => {
      const { key } = await makeKey(tenant, 'admin');
      const path = `/admin/blobs/${file.digest}`;
      await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(file.bytes) });
      const parts = [{ bytes: file.bytes.length, sha256: file.digest }];
      await post(path, { bytes: file.bytes.length, parts }, key);
      await post('/admin/versions', { name: tenant, digest: file.digest }, key);
      app.graft.clock.advance(MINUTE_MS);
    };

    it('has it dropped once more, when no request under way can have sent it there again', async () => {
      await erase('acme');
      expect(dropped.toSorted()).toEqual(['o1', 'o2']);
      away = ['o1', 'o2'];
      app.graft.clock.advance(ERASE_SETTLE_MS + MINUTE_MS);
      await scheduled();
      expect(await rows('SELECT step FROM erasures')).toEqual([{ step: 'waiting' }]);
      away = [];
      app.graft.clock.advance(2 * MINUTE_MS);
      await scheduled();
      expect(dropped.toSorted()).toEqual(['o1', 'o1', 'o2', 'o2']);
      expect(await rows('SELECT id FROM erasures')).toEqual([]);
      expect(await rows('SELECT digest FROM erasure_files')).toEqual([]);
    });

    it('asks the origin again that did not answer last, whichever did not answer before', async () => {
      away = ['o1'];
      await erase('acme');
      expect(dropped).toEqual(['o2']);
      away = ['o2'];
      app.graft.clock.advance(ERASE_SETTLE_MS + MINUTE_MS);
      await scheduled();
      expect(dropped).toEqual(['o2', 'o1']);
      away = [];
      app.graft.clock.advance(2 * MINUTE_MS);
      await scheduled();
      expect(dropped).toEqual(['o2', 'o1', 'o2']);
      expect(await rows('SELECT id FROM erasures')).toEqual([]);
    });

    it('leaves it there if somebody else has published it since', async () => {
      await erase('acme');
      await publishFor('bob');
      app.graft.clock.advance(ERASE_SETTLE_MS + MINUTE_MS);
      await scheduled();
      expect(dropped.toSorted()).toEqual(['o1', 'o2']);
      expect(await rows('SELECT id FROM erasures')).toEqual([]);
    });
  });

  it('leaves no grant with others, wherever it was cut off', async () => {
    await makeKey('acme');
    expect((await app.graft.publish('acme', tinyAdapter({ seed: 1 }), { owner: 'acme' })).status).toBe(201);
    const admin = await makeKey('acme', 'admin');
    for (const tenant of ['bob', 'carol'])
      await post('/admin/grants', { tenant, scope: 'acme/**' }, admin.key);
    const granted = () => {
      const values: (string | null)[] = [];
      for (const tenant of ['bob', 'carol'])
        app.graft.kv.tamper(`grant:${tenant}`, (value) => {
          values.push(value);
          return value;
        });
      return values.join();
    };
    expect(granted()).toContain('acme/**');
    app.graft.clock.advance(MINUTE_MS);
    const page = EraseAnswer.parse(await post('/admin/erase', { tenant: 'acme', dry_run: true }));
    expect(page.plan).toMatchObject({ grants: 2 });
    failing = 'syncGrants';
    const status = await eraseUntilRefused((cursor) =>
      app.graft.request('/admin/erase', { body: { tenant: 'acme', cursor } }),
    );
    expect(status).toBeGreaterThan(499);
    expect(failing).toBeNull();
    const [{ id } = { id: 0 }] = (await rows('SELECT id FROM erasures')) as { id: number }[];
    await erase('acme', String(id));
    expect(await rows('SELECT * FROM grants')).toEqual([]);
    expect(granted()).not.toContain('acme/**');
  });

  it('counts each of its versions, though the schedule runs between two pages', async () => {
    await makeKey('acme');
    expect((await app.graft.publish('acme', tinyAdapter({ seed: 1 }), { owner: 'acme' })).status).toBe(201);
    failing = 'syncKey';
    expect((await app.graft.request('/admin/erase', { body: { tenant: 'acme' } })).status).toBe(500);
    const [{ id } = { id: 0 }] = (await rows('SELECT id FROM erasures')) as { id: number }[];
    await app.graft.schedule((work) => void work.catch(() => undefined));
    const pages = await erase('acme', String(id));
    for (const what of ['names', 'versions'] as const) expect(erasedIn(pages, what)).toBe(1);
  });

  it('keeps a key that was made for it meanwhile to be found and revoked', async () => {
    const old = await makeKey('acme');
    failing = 'syncKey';
    expect((await app.graft.request('/admin/erase', { body: { tenant: 'acme' } })).status).toBeGreaterThan(
      499,
    );
    const [{ id } = { id: 0 }] = (await rows('SELECT id FROM erasures')) as { id: number }[];
    const fresh = await makeKey('acme');
    await erase('acme', String(id));
    const { keys } = (await (await app.graft.request('/admin/keys')).json()) as { keys: { id: string }[] };
    expect(keys.map((one) => one.id)).toEqual([fresh.id]);
    const status = async (key: string) => (await app.graft.request('/v1/models', { key })).status;
    app.graft.clock.advance(2 * MINUTE_MS);
    expect([await status(old.key), await status(fresh.key)]).toEqual([401, 200]);
    expect((await app.graft.request(`/admin/keys/${fresh.id}`, { method: 'DELETE' })).status).toBeLessThan(
      300,
    );
    app.graft.clock.advance(2 * MINUTE_MS);
    expect(await status(fresh.key)).toBe(401);
  });
});

describe('a repair of files that an erasure overtakes', () => {
  const file = tinyAdapter({ seed: 1 });
  const part = `blob:${file.digest}:${file.digest}`;
  const stored = async () => {
    const { keys } = await app.graft.kv.list({ prefix: 'blob:', cursor: null });
    return keys.map(({ name }) => name);
  };
  const repair = () => post('/admin/repair', { blobs: true });
  beforeEach(async () => {
    const { key } = await makeKey('acme', 'admin');
    const path = `/admin/blobs/${file.digest}`;
    await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(file.bytes) });
    const parts = [{ bytes: file.bytes.length, sha256: file.digest }];
    await post(path, { bytes: file.bytes.length, parts }, key);
    await post('/admin/versions', { name: 'acme', digest: file.digest }, key);
    app.graft.clock.advance(MINUTE_MS);
  });

  it.each(['before an origin gives a lost part', 'when it has given it'])(
    '%s brings nothing back',
    async (when) => {
      app.graft.kv.tamper(part, () => null);
      const { answer } = app.graft.origin;
      app.graft.origin.answer = async (method, path, init, url) => {
        if (!path.endsWith('/file')) return answer(method, path, init, url);
        if (when.startsWith('before')) await erase('acme');
        return new Response(new Uint8Array(file.bytes));
      };
      const put = app.graft.kv.put.bind(app.graft.kv);
      vi.spyOn(app.graft.kv, 'put').mockImplementation(async (key, ...given) => {
        if (key === part && !when.startsWith('before')) await erase('acme');
        return put(key, ...given);
      });
      expect(await repair()).toMatchObject({ mended: [] });
      await app.graft.schedule((work) => void work.catch(() => undefined));
      expect(await stored()).toEqual([]);
      for (const table of ['blobs', 'stored_parts', 'stored_files'])
        expect([table, await rows(`SELECT digest FROM ${table}`)]).toEqual([table, []]);
    },
  );

  it('between its reading and writing a lost record writes none', async () => {
    app.graft.kv.tamper(`blob:${file.digest}`, () => null);
    const put = app.graft.kv.put.bind(app.graft.kv);
    vi.spyOn(app.graft.kv, 'put').mockImplementation(async (key, ...given) => {
      if (key === `blob:${file.digest}`) await erase('acme');
      return put(key, ...given);
    });
    expect(await repair()).toMatchObject({ mended: [] });
    expect(await stored()).toEqual([]);
  });
});

it('an upload that is being closed leaves no record in KV, and nobody who holds it', async () => {
  const file = tinyAdapter({ seed: 1 });
  const { key } = await makeKey('acme', 'admin');
  const path = `/admin/blobs/${file.digest}`;
  await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(file.bytes) });
  const put = app.graft.kv.put.bind(app.graft.kv);
  vi.spyOn(app.graft.kv, 'put').mockImplementation(async (name, ...given) => {
    if (name === `blob:${file.digest}`) await erase('acme');
    return put(name, ...given);
  });
  const parts = [{ bytes: file.bytes.length, sha256: file.digest }];
  const closed = await app.graft.request(path, { key, body: { bytes: file.bytes.length, parts } });
  expect(closed.status).toBe(503);
  expect((await app.graft.kv.list({ prefix: 'blob:', cursor: null })).keys).toEqual([]);
  expect(await rows('SELECT * FROM blob_holders')).toEqual([]);
});
