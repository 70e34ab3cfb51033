/** Changes that began before an erasure and end behind it, on D1's real statements: nothing comes back with them. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createD1Erasures } from '../../../worker/erasure/d1-erasures.ts';
import { chainId, hashApiKey } from '../../../protocol/identity.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { useD1App } from '../d1-app.ts';
import { erasedIn, erasePages } from './erase-pages.ts';

const MINUTE_MS = 60_000;
const [first, second] = [tinyAdapter({ seed: 1 }), tinyAdapter({ seed: 2 })];

/** What happens before the next call of `<port>.<method>` begins. */
let before: Map<string, () => Promise<unknown>>;

const waylay = <T extends object>(port: T, name: string): T =>
  new Proxy(port, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== 'function') return value;
      return async (...given: unknown[]) => {
        const call = `${name}.${String(property)}`;
        const meanwhile = before.get(call);
        before.delete(call);
        await meanwhile?.();
        return Reflect.apply(value, target, given) as unknown;
      };
    },
  });

beforeEach(() => {
  before = new Map();
});
const app = useD1App(({ experimentLedger }) => ({
  experimentLedger: waylay(experimentLedger, 'experimentLedger'),
  wrap: waylay,
}));
const { ask } = app;
const done = async (path: string, body: object, key?: string) => {
  const answer = await ask(path, body, key);
  if (answer.status > 299) throw new Error(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
};
/** To its end. */
const erase = (target: object, begun: string | null = null) =>
  erasePages((cursor) => done('/admin/erase', { ...target, cursor }), begun);
const rows = async (sql: string) => (await app.db.prepare(sql).all()).results;
/** What the registry has of names, but for who erased what. */
const left = async () => ({
  names: await rows('SELECT name, about FROM names'),
  history: await rows("SELECT name, action FROM history WHERE action <> 'erase' AND sequence > 0"),
  stale: await rows('SELECT name FROM stale_pointers UNION ALL SELECT record FROM stale_rights'),
});
const NOTHING = { names: [], history: [], stale: [] };

describe('a change that an erasure of its name overtakes', () => {
  beforeEach(async () => {
    expect((await app.graft.publish('notes', first)).status).toBe(201);
    expect((await app.graft.publish('notes', second)).status).toBe(201);
    await done('/admin/edit', { name: 'notes', description: 'a secret', tags: ['secret'] });
    expect((await app.graft.upload(tinyAdapter({ seed: 3 }))).status).toBeLessThan(300);
    app.graft.clock.advance(MINUTE_MS);
  });

  it.each([
    ['registry.publish', '/admin/versions', { digest: tinyAdapter({ seed: 3 }).digest }],
    ['registry.publish', '/admin/versions', { digest: tinyAdapter({ seed: 3 }).digest, stage: true }],
    ['registry.flip', '/admin/rollback', {}],
    ['registry.retire', '/admin/retire', { version: 1 }],
    ['registry.setStrict', '/admin/strict', { strict: true }],
    ['registry.setAbout', '/admin/edit', { tags: ['other'] }],
    ['registry.remove', '/admin/remove', {}],
    ['registry.remove', '/admin/remove', { version: 1 }],
  ])('%s of %s %j brings nothing of it back', async (call, path, body) => {
    before.set(call, () => erase({ name: 'notes' }));
    const answer = await ask(path, { name: 'notes', ...body });
    expect(before.size).toBe(0);
    expect(await left()).toEqual(NOTHING);
    // What minds no other change has been tried again.
    expect(answer.status).toBe(call === 'registry.setAbout' ? 404 : 409);
  });

  it('a restoration brings nothing of it back', async () => {
    await done('/admin/remove', { name: 'notes' });
    before.set('registry.restore', () => erase({ name: 'notes' }));
    const answer = await ask('/admin/restore', { name: 'notes' });
    expect(await left()).toEqual(NOTHING);
    expect(answer.status).toBe(409);
  });

  it('a removed alias of it is erased with it, and cannot be restored', async () => {
    await done('/admin/alias', { name: 'latest', target: 'notes' });
    await done('/admin/remove', { name: 'latest' });
    await erase({ name: 'notes' });
    expect(await left()).toEqual(NOTHING);
    expect((await ask('/admin/restore', { name: 'latest' })).status).toBe(404);
  });

  it('a repair brings nothing of it back', async () => {
    app.graft.kv.tamper('name:notes', () => null);
    before.set('registry.repaired', () => erase({ name: 'notes' }));
    await done('/admin/repair', {});
    expect(before.size).toBe(0);
    expect(await left()).toEqual(NOTHING);
  });

  it('a repair beside it leaves no row of history, though it is the newest', async () => {
    before.set('registry.pointerToWrite', () => Promise.reject(new Error('cut off')));
    await ask('/admin/erase', { name: 'notes' });
    app.graft.kv.tamper('name:notes', () => 'damaged');
    await done('/admin/repair', {});
    expect(await rows('SELECT action FROM history ORDER BY id DESC LIMIT 1')).toEqual([{ action: 'repair' }]);
    const [{ id } = { id: 0 }] = (await rows('SELECT id FROM erasures')) as { id: number }[];
    await done('/admin/erase', { name: 'notes', cursor: String(id) });
    expect(before.size).toBe(0);
    expect(await left()).toEqual(NOTHING);
  });

  it('an experiment that is being made is not made', async () => {
    before.set('experimentLedger.create', () => erase({ name: 'notes' }));
    const variants = [1, 2].map((version) => ({
      ...{ key: version === 1 ? 'control' : 'treatment', adapter: `notes@${version}`, weight: 0.5 },
    }));
    const answer = await ask('/admin/experiments', { name: 'notes', variants });
    expect(before.size).toBe(0);
    expect(await rows('SELECT id FROM experiments')).toEqual([]);
    expect(await rows('SELECT experiment FROM experiment_versions')).toEqual([]);
    expect(answer.status).toBe(409);
  });

  it('the record of an experiment that is being written is no longer in KV', async () => {
    const variants = [2, 1].map((version) => ({
      ...{ key: version === 2 ? 'control' : 'treatment', adapter: `notes@${version}`, weight: 0.5 },
    }));
    const { id } = (await done('/admin/experiments', { name: 'notes', variants })) as { id: string };
    await done(`/admin/experiments/${id}/start`, {});
    let erasing: Promise<unknown> | undefined;
    before.set('kv.put', async () => {
      erasing = erase({ name: 'notes' });
      for (let turns = 0; turns < 500; turns += 1) await new Promise(setImmediate);
    });
    await ask(`/admin/experiments/${id}/stop`, {});
    expect(before.size).toBe(0);
    await erasing;
    const record = await app.graft.kv.get(`experiment:${id}`, { type: 'text', cacheTtl: 30 });
    expect(String(record)).not.toContain('notes');
  });

  it('nor when the name could not be written then, and the erasure went on later', async () => {
    const variants = [2, 1].map((version) => ({
      ...{ key: version === 2 ? 'control' : 'treatment', adapter: `notes@${version}`, weight: 0.5 },
    }));
    const { id } = (await done('/admin/experiments', { name: 'notes', variants })) as { id: string };
    await done(`/admin/experiments/${id}/start`, {});
    let erasing: Promise<{ status: number }> | undefined;
    before.set('kv.put', async () => {
      erasing = ask('/admin/erase', { name: 'notes' });
      for (let turns = 0; turns < 500; turns += 1) await new Promise(setImmediate);
      before.set('registry.pointerToWrite', () => Promise.reject(new Error('cut off')));
    });
    await ask(`/admin/experiments/${id}/stop`, {});
    expect((await erasing)?.status).toBeGreaterThan(499);
    expect(before.size).toBe(0);
    const [erasure] = (await rows('SELECT id FROM erasures')) as { id: number }[];
    await done('/admin/erase', { name: 'notes', cursor: String(erasure?.id) });
    expect(await rows('SELECT id FROM experiments')).toEqual([]);
    const record = await app.graft.kv.get(`experiment:${id}`, { type: 'text', cacheTtl: 30 });
    expect(String(record)).not.toContain('notes');
  });

  it('an evaluation of an experiment notes nothing of it', async () => {
    const variants = [2, 1].map((version) => ({
      ...{ key: version === 2 ? 'control' : 'treatment', adapter: `notes@${version}`, weight: 0.5 },
    }));
    const { id } = (await done('/admin/experiments', { name: 'notes', variants })) as { id: string };
    await done(`/admin/experiments/${id}/start`, {});
    app.graft.clock.advance(MINUTE_MS);
    before.set('experimentLedger.look', () => erase({ name: 'notes' }));
    await ask(`/admin/experiments/${id}/evaluate`, {});
    expect(before.size).toBe(0);
    expect(await rows('SELECT experiment FROM experiment_looks')).toEqual([]);
    // What was seen is to be told behind that.
    const message = { id: 'm', source: id, url: 'https://example.com/', body: '{}' };
    await app.graft.services.outbox.add(message, app.graft.clock.now());
    expect(await rows('SELECT id FROM webhook_messages')).toEqual([]);
  });
});

it('a name that is published anew while its erasure is cut off keeps nothing of before', async () => {
  await app.graft.publish('notes', first, { why: 'a secret' });
  await done('/admin/edit', { name: 'notes', description: 'a secret' });
  app.graft.clock.advance(MINUTE_MS);
  const put = app.graft.kv.put.bind(app.graft.kv);
  const failing = vi
    .spyOn(app.graft.kv, 'put')
    .mockImplementation((key, ...given) =>
      key === 'name:notes' ? Promise.reject(new Error('away')) : put(key, ...given),
    );
  expect((await ask('/admin/erase', { name: 'notes' })).status).toBe(503);
  failing.mockRestore();
  app.graft.clock.advance(MINUTE_MS);
  expect((await app.graft.publish('notes', second, { why: 'anew' })).status).toBe(201);
  for (let runs = 0; runs < 5; runs += 1) {
    app.graft.clock.advance(6 * MINUTE_MS);
    await app.graft.schedule((work) => void work.catch(() => undefined));
  }
  const late = "step LIKE 'late%' OR step IN ('settling', 'waiting')";
  expect(await rows(`SELECT step FROM erasures WHERE NOT (${late})`)).toEqual([]);
  const history = (await rows("SELECT action, why FROM history WHERE action <> 'erase'")) as object[];
  expect(history).toEqual([{ action: 'publish', why: 'anew' }]);
  expect(await rows('SELECT name, version, about FROM names')).toMatchObject([
    { name: 'notes', about: null },
  ]);
  expect(await rows('SELECT digest FROM versions')).toEqual([{ digest: second.digest }]);
  // Its next change goes on from there.
  await done('/admin/edit', { name: 'notes', description: 'anew' });
});

it('a version that was made anew since an earlier erasure does not name what goes now', async () => {
  const stack = async () => {
    expect((await app.graft.publish('notes', first)).status).toBe(201);
    const [live] = (await rows("SELECT chain_id FROM versions WHERE name = 'notes'")) as {
      chain_id: string;
    }[];
    const top = tinyAdapter({ seed: 9, parent: live!.chain_id });
    expect((await app.graft.upload(top)).status).toBeLessThan(300);
    await done('/admin/versions', { name: 'top', digest: top.digest, parent: 'notes' });
  };
  await stack();
  await erase({ name: 'notes', cascade: true });
  await stack();
  await done('/admin/remove', { name: 'notes', cascade: true });
  // It takes over the first one, which erased both.
  await erase({ name: 'notes' });
  const left = await rows('SELECT name, chain, parent FROM versions');
  expect(left).toMatchObject([{ name: 'top' }]);
  expect(JSON.stringify(left)).not.toContain('notes');
});

it('an erasure does not begin when a name was published since it was planned', async () => {
  await app.graft.publish('notes', first);
  const [{ owner } = { owner: '' }] = (await rows('SELECT owner FROM names')) as { owner: string }[];
  const ledger = createD1Erasures(app.db);
  const target = { kind: 'below', target: 'notes', owner, cascade: false, usage: false, at: 1 } as const;
  const { id } = await ledger.plan(target);
  await app.graft.publish('notes/new', second);
  const note = { actor: 'bootstrap', at: 2, why: null };
  expect(await ledger.begin({ id, cascade: false, record: true, ...note })).toBe(false);
  await ledger.discard(id);
  expect(await rows('SELECT name FROM names WHERE version IS NOT NULL')).toHaveLength(2);
  await erase({ name: 'notes/**' });
  expect(await left()).toEqual(NOTHING);
});

it('an erasure whose name another tenant has taken meanwhile is gone on with', async () => {
  const { key } = (await done('/admin/keys', { tenant: 'bob', kind: 'admin' })) as { key: string };
  await app.graft.publish('notes', first);
  app.graft.clock.advance(MINUTE_MS);
  const remove = app.graft.kv.delete.bind(app.graft.kv);
  const failing = vi
    .spyOn(app.graft.kv, 'delete')
    .mockImplementation((of) => (of.startsWith('blob:') ? Promise.reject(new Error('away')) : remove(of)));
  expect((await ask('/admin/erase', { name: 'notes' })).status).toBe(503);
  failing.mockRestore();
  const path = `/admin/blobs/${second.digest}`;
  await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(second.bytes) });
  const parts = [{ bytes: second.bytes.length, sha256: second.digest }];
  await done(path, { bytes: second.bytes.length, parts }, key);
  await done('/admin/versions', { name: 'notes', digest: second.digest }, key);
  const [{ id } = { id: 0 }] = (await rows('SELECT id FROM erasures')) as { id: number }[];
  const pages = await erase({ name: 'notes' }, String(id));
  expect([pages[0]!.owner, erasedIn(pages, 'files')]).toEqual(['default', 1]);
  expect(pages.at(-1)!.settles_at).not.toBeNull();
  expect((await left()).names).toMatchObject([{ name: 'notes' }]);
  // Nor by who has the name now.
  expect((await ask('/admin/erase', { name: 'notes', cursor: String(id) }, key)).body).toMatchObject({
    owner: 'bob',
    settles_at: null,
  });
});

it('an erasure that is begun once more leaves what was made anew since, and no longer goes with it', async () => {
  await app.graft.publish('notes/deep', first);
  const onTop = tinyAdapter({ seed: 4, parent: await chainId([{ digest: first.digest, scale: 1 }]) });
  expect((await app.graft.publish('notes', onTop, { parent: 'notes/deep' })).status).toBe(201);
  app.graft.clock.advance(MINUTE_MS);
  before.set('registry.pointerToWrite', () => Promise.reject(new Error('cut off')));
  expect((await ask('/admin/erase', { name: 'notes/deep', cascade: true })).status).toBe(503);
  expect((await app.graft.publish('notes', second)).status).toBe(201);
  await done('/admin/alias', { name: 'latest', target: 'notes' });
  await erase({ name: 'notes/deep', cascade: true });
  expect(await rows('SELECT name, version, alias FROM names ORDER BY name')).toEqual([
    { name: 'latest', version: null, alias: 'notes' },
    { name: 'notes', version: 2, alias: null },
  ]);
  expect(await rows('SELECT name, version FROM versions')).toEqual([{ name: 'notes', version: 2 }]);
});

it('an erasure that goes on later leaves the experiment of who has the name by then', async () => {
  const { key } = (await done('/admin/keys', { tenant: 'bob', kind: 'admin' })) as { key: string };
  await app.graft.publish('notes', first);
  app.graft.clock.advance(MINUTE_MS);
  before.set('registry.stalePointers', () => Promise.reject(new Error('cut off')));
  await ask('/admin/erase', { name: 'notes' });
  expect(before.size).toBe(0);
  expect(await left()).toEqual(NOTHING);
  for (const adapter of [first, second]) await app.graft.publish('notes', adapter, { owner: 'bob' });
  const variants = [2, 1].map((version) => ({
    ...{ key: version === 2 ? 'control' : 'treatment', adapter: `notes@${version}`, weight: 0.5 },
  }));
  const { id } = (await done('/admin/experiments', { name: 'notes', variants }, key)) as { id: string };
  await done(`/admin/experiments/${id}/start`, {}, key);
  const [{ erasure } = { erasure: 0 }] = (await rows('SELECT id AS erasure FROM erasures')) as {
    erasure: number;
  }[];
  await done('/admin/erase', { name: 'notes', cursor: String(erasure) });
  const record = await app.graft.kv.get(`experiment:${id}`, { type: 'text', cacheTtl: 30 });
  expect(String(record)).toContain('notes@2');
});

describe('an erasure that another request for the same tenant takes over', () => {
  const begun = async (): Promise<string> => {
    const [{ id } = { id: 0 }] = (await rows('SELECT id FROM erasures')) as { id: number }[];
    return String(id);
  };
  /** Another request begins it anew, and is cut off at once. */
  const takeOver = async (): Promise<void> => {
    before.set('rights.syncKey', () => Promise.reject(new Error('cut off')));
    await ask('/admin/erase', { tenant: 'acme' });
    before.delete('rights.syncKey');
  };
  beforeEach(async () => {
    await done('/admin/keys', { tenant: 'acme' });
    await app.graft.publish('acme', first, { owner: 'acme' });
    app.graft.clock.advance(MINUTE_MS);
  });

  it('goes on with that one before it answers that nothing is left', async () => {
    before.set('rights.syncKey', takeOver);
    await erase({ tenant: 'acme' });
    expect(before.size).toBe(0);
    expect((await left()).names).toEqual([]);
    expect(await rows("SELECT id FROM keys WHERE tenant = 'acme'")).toEqual([]);
    expect(await rows('SELECT step FROM erasures')).toEqual([{ step: 'settling' }]);
  });

  it('goes on with that one between two pages', async () => {
    await takeOver();
    const cursor = await begun();
    await takeOver();
    expect(await begun()).not.toBe(cursor);
    const pages = await erase({ tenant: 'acme' }, cursor);
    expect([erasedIn(pages, 'names'), erasedIn(pages, 'keys')]).toEqual([1, 1]);
  });
});

describe('a name that is being published for a tenant', () => {
  it.each(['begins', 'ends'])('is not there when its erasure %s meanwhile', async (when) => {
    const { key } = (await done('/admin/keys', { tenant: 'acme', kind: 'admin' })) as { key: string };
    const path = `/admin/blobs/${first.digest}`;
    await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(first.bytes) });
    const parts = [{ bytes: first.bytes.length, sha256: first.digest }];
    await done(path, { bytes: first.bytes.length, parts }, key);
    before.set('registry.publish', async () => {
      if (when === 'ends') return void (await erase({ tenant: 'acme' }));
      before.set('rights.syncGrants', () => Promise.reject(new Error('cut off')));
      await ask('/admin/erase', { tenant: 'acme' });
    });
    const answer = await ask('/admin/versions', { name: 'acme/notes', digest: first.digest }, key);
    expect((await left()).names).toEqual([]);
    expect(answer.status).toBe(409);
  });
});

it.each(['blobLedger.storing', 'registry.publish'])(
  'a file that is erased before %s of its publication leaves no proof',
  async (call) => {
    const { key } = (await done('/admin/keys', { tenant: 'acme', kind: 'admin' })) as { key: string };
    const path = `/admin/blobs/${first.digest}`;
    await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(first.bytes) });
    const parts = [{ bytes: first.bytes.length, sha256: first.digest }];
    await done(path, { bytes: first.bytes.length, parts }, key);
    before.set(call, () => erase({ tenant: 'acme' }));
    const answer = await ask('/admin/versions', { name: 'acme/notes', digest: first.digest }, key);
    expect([before.size, answer.status]).toEqual([0, call === 'registry.publish' ? 409 : 503]);
    // What is left of it, the next collection deletes.
    await done('/admin/gc', {});
    expect((await app.graft.kv.list({ prefix: 'blob:', cursor: null })).keys).toEqual([]);
    expect(await rows('SELECT * FROM stored_parts')).toEqual([]);
  },
);

it('a name of a tenant whose erasure has begun meanwhile gets no version by its revoked key', async () => {
  const { key } = (await done('/admin/keys', { tenant: 'acme', kind: 'admin' })) as { key: string };
  for (const { bytes, digest } of [first, second]) {
    const path = `/admin/blobs/${digest}`;
    await app.graft.request(`${path}/parts/0`, { key, method: 'PUT', body: new Uint8Array(bytes) });
    await done(path, { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] }, key);
  }
  await done('/admin/versions', { name: 'acme/notes', digest: first.digest }, key);
  await done('/admin/keys', { tenant: 'acme', scopes: ['**'] });
  before.set('registry.publish', async () => {
    before.set('rights.syncKey', () => Promise.reject(new Error('cut off')));
    await ask('/admin/erase', { tenant: 'acme' });
  });
  const answer = await ask('/admin/versions', { name: 'acme/notes', digest: second.digest }, key);
  expect(answer.status).toBe(409);
  expect(await rows('SELECT version FROM versions WHERE removed_at IS NULL')).toEqual([]);
});

describe('what a tenant makes while its erasure runs from its beginning to its end', () => {
  let key: string;
  beforeEach(async () => {
    ({ key } = (await done('/admin/keys', { tenant: 'acme', kind: 'admin', scopes: ['acme/**'] })) as {
      key: string;
    });
    await app.graft.publish('acme/notes', first, { owner: 'acme' });
    await done('/admin/rooms', { name: 'acme', tenant: 'acme' });
    app.graft.clock.advance(MINUTE_MS);
  });

  it.each([
    ['keyLedger.add', '/admin/keys', {}, 'keys'],
    ['grantLedger.add', '/admin/grants', { scope: 'acme/**', tenant: 'bob' }, 'grants'],
    ['grantLedger.refuse', '/admin/grants/refuse', { from: 'bob' }, 'grant_refusals'],
    ['registry.alias', '/admin/alias', { name: 'acme/latest', target: 'acme/notes' }, 'names'],
  ])('%s adds nothing, and says so', async (call, path, body, table) => {
    before.set(call, () => erase({ tenant: 'acme' }));
    const answer = await ask(path, body, key);
    expect(before.size).toBe(0);
    expect([answer.status, await rows(`SELECT * FROM ${table}`)]).toEqual([409, []]);
    expect((await left()).stale).toEqual([]);
  });
});

it('a key that is revoked during the erasure of its tenant is revoked in KV, and leaves no note', async () => {
  const { key: admin } = (await done('/admin/keys', { tenant: 'acme', kind: 'admin' })) as { key: string };
  const path = `/admin/blobs/${first.digest}`;
  await app.graft.request(`${path}/parts/0`, {
    key: admin,
    method: 'PUT',
    body: new Uint8Array(first.bytes),
  });
  const parts = [{ bytes: first.bytes.length, sha256: first.digest }];
  await done(path, { bytes: first.bytes.length, parts }, admin);
  await done('/admin/versions', { name: 'acme/notes', digest: first.digest }, admin);
  await done('/admin/grants', { scope: 'acme/**', tenant: 'bob' }, admin);
  const keys: { key: string; id: string }[] = [];
  // Behind the step that revokes keys; the requests that revoke these end before they reach KV.
  before.set('registry.pointerToWrite', async () => {
    for (let i = 0; i < 3; i += 1) {
      const made = (await done('/admin/keys', { tenant: 'acme' })) as { key: string; id: string };
      keys.push(made);
      const revoked = { id: made.id, successors: true, made: false, at: app.graft.clock.now() };
      await app.graft.services.keyLedger.revoke(revoked);
    }
  });
  await erase({ tenant: 'acme' });
  expect(before.size).toBe(0);
  expect(await rows("SELECT id FROM keys WHERE tenant = 'acme'")).toEqual([]);
  // Others' notes are struck off behind the write.
  await vi.waitFor(async () => expect(await rows('SELECT record FROM stale_rights')).toEqual([]));
  app.graft.clock.advance(MINUTE_MS);
  expect(keys).toHaveLength(3);
  for (const { key } of keys)
    expect((await app.graft.services.keyIndex.get(await hashApiKey(key))).state).toBe('gone');
});

it('a key that is made during the erasure of its tenant does not keep the limits that the tenant had', async () => {
  await app.graft.publish('acme/notes', first, { owner: 'acme' });
  await done('/admin/tenants/limits', { tenant: 'acme', limits: { concurrent: 2 } });
  app.graft.clock.advance(MINUTE_MS);
  let key = '';
  before.set('registry.pointerToWrite', async () => {
    ({ key } = (await done('/admin/keys', { tenant: 'acme' })) as { key: string });
  });
  await erase({ tenant: 'acme' });
  expect(before.size).toBe(0);
  await app.graft.schedule((work) => void work.catch(() => undefined));
  app.graft.clock.advance(MINUTE_MS);
  const found = await app.graft.services.keyIndex.get(await hashApiKey(key));
  expect(found).toMatchObject({ state: 'found', value: { tenant: 'acme' } });
  expect(found).not.toHaveProperty('value.tenant_limits');
  expect(await rows('SELECT tenant FROM tenant_limits')).toEqual([]);
});

it('the erasure of a tenant resets the counters of its old keys, and none of a key that was made meanwhile', async () => {
  const { quotas, clock } = app.graft;
  const limits = { tokens_per_day: 5 };
  const made = async () =>
    (await done('/admin/keys', { tenant: 'acme', limits })) as { key: string; id: string };
  const use = async ({ id }: { id: string }) => {
    const call = { asked: [{ counter: id, limits }], lease: id, tokens: 5, again: false, at: clock.now() };
    await quotas.settle('acme', call);
  };
  const refuses = async ({ id }: { id: string }) => {
    const asked = [{ counter: id, limits }];
    return (
      (await quotas.admit('acme', { asked, lease: `${id} again`, at: clock.now() }))[0]?.refused !== null
    );
  };
  await app.graft.publish('acme/notes', first, { owner: 'acme' });
  const [old, tenant] = [await made(), { id: 'tenant:acme' }];
  await use(old);
  await use(tenant);
  clock.advance(MINUTE_MS);
  let since = { id: '' };
  before.set('registry.pointerToWrite', async () => {
    since = await made();
    await use(since);
  });
  await erase({ tenant: 'acme' });
  expect(before.size).toBe(0);
  expect([await refuses(since), await refuses(old), await refuses(tenant)]).toEqual([true, false, false]);
});

it('a key is not forgotten before KV has its revocation', async () => {
  const made = (await done('/admin/keys', { tenant: 'acme' })) as { key: string; id: string };
  const revoked = { id: made.id, successors: true, made: false, at: app.graft.clock.now() };
  await app.graft.services.keyLedger.revoke(revoked);
  const erasure = { id: 0, kind: 'tenant', target: 'acme', owner: 'acme', usage: false } as const;
  const at = { ...erasure, step: 'rest', place: '', touchedAt: 0, endedAt: null } as const;
  const { erasures } = app.graft.services;
  expect(await erasures.forgetTenant(at, [])).toMatchObject({ left: true, erased: { keys: 0 } });
  const written = (await erasures.unwrittenKeys(at, 9)).map(({ change }) => change);
  expect(await erasures.forgetTenant(at, written)).toMatchObject({ left: false, erased: { keys: 1 } });
});
