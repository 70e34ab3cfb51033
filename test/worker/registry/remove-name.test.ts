/** Removing and restoring names and versions through the admin API, with fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { REMOVAL_GRACE_MS, RemoveAnswer } from '../../../protocol/admin-api/names.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { createLifeCycleRig, file, type LifeCycleRig } from './life-cycle-rig.ts';

let graft: AppHarness;
let post: LifeCycleRig['post'];
let newKey: LifeCycleRig['newKey'];
let served: LifeCycleRig['served'];
let history: LifeCycleRig['history'];

/** The name's chain id, and a child of its live version. */
async function publishChild(name: string, parent: string, seed: number, key?: string): Promise<void> {
  const listed = await graft.request(`/admin/versions?name=${parent}`);
  const { versions } = (await listed.json()) as { versions: { chain_id: string; live: boolean }[] };
  const on = versions.find(({ live }) => live)?.chain_id ?? '';
  const adapter = tinyAdapter({ seed, parent: on });
  const sent = { ...(key === undefined ? {} : { key }) };
  const path = `/admin/blobs/${adapter.digest}`;
  await graft.request(`${path}/parts/0`, { ...sent, method: 'PUT', body: new Uint8Array(adapter.bytes) });
  const record = {
    bytes: adapter.bytes.length,
    parts: [{ bytes: adapter.bytes.length, sha256: adapter.digest }],
  };
  await graft.request(path, { ...sent, body: record });
  const body = { name, digest: adapter.digest, parent };
  const published = await graft.request('/admin/versions', { ...sent, body });
  expect([published.status, await published.clone().text()]).toEqual([201, expect.any(String)]);
}
const remove = (body: object, key?: string) => post('/admin/remove', body, key);
const restore = (body: object, key?: string) => post('/admin/restore', body, key);
const refusal = async (body: object) => {
  const refused = await remove(body);
  expect(refused.status).toBe(409);
  return refused.body.error?.message;
};

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  ({ graft, post, newKey, served, history } = await createLifeCycleRig());
});

describe('an unused name', () => {
  it('is gone at once, is restored as it was, and history has both', async () => {
    expect((await graft.publish('notes', file(2))).status).toBe(201);
    expect(await served('notes')).toBe('notes@2');
    const removed = await remove({ name: 'notes', why: 'a mistake' });
    expect(removed.status).toBe(200);
    const at = graft.clock.now();
    expect(RemoveAnswer.parse(removed.body)).toEqual({
      removed: [{ name: 'notes', whole: true, versions: [1, 2], live: 2, alias: null }],
      ...{ unpinned: [], stops: { versions: 0, experiments: 0 } },
      ...{ removed_at: at, restorable_until: at + REMOVAL_GRACE_MS },
    });
    expect(await served('notes')).toBe(404);
    expect(await served('notes@1')).toBe(404);
    expect((await graft.request('/admin/versions?name=notes')).status).toBe(404);
    expect(await (await graft.request('/admin/names')).json()).toMatchObject({ names: [] });
    for (const [path, body] of [
      ['promote', { name: 'notes', version: 1 }],
      ['rollback', { name: 'notes', to: 1 }],
      ['retire', { name: 'notes', version: 1 }],
      ['strict', { name: 'notes', strict: true }],
      ['alias', { name: 'n', target: 'notes' }],
      ['pins', { name: 'notes' }],
      ['verify', { name: 'notes' }],
      ['remove', { name: 'notes' }],
    ] as const)
      expect([path, (await post(`/admin/${path}`, body)).status]).toEqual([path, 404]);
    expect((await restore({ name: 'notes' })).body).toEqual({
      restored: [{ name: 'notes', whole: true, versions: [1, 2], live: 2, alias: null }],
    });
    expect(await served('notes')).toBe('notes@2');
    expect(await served('notes@1')).toBe('notes@1');
    const { changes } = await history();
    expect(changes.slice(0, 2).map(({ action, from, to, why }) => [action, from, to, why])).toEqual([
      ['restore', null, 2, null],
      ['remove', 2, null, 'a mistake'],
    ]);
  });

  it('changes nothing in a dry run', async () => {
    const tried = await remove({ name: 'notes', dry_run: true });
    expect(tried.body).toMatchObject({ removed: [{ name: 'notes' }] });
    expect(await served('notes')).toBe('notes@1');
    await remove({ name: 'notes' });
    expect((await restore({ name: 'notes', dry_run: true })).status).toBe(200);
    expect(await served('notes')).toBe(404);
  });

  it('is not served from an isolate’s cache while KV or D1 fails', async () => {
    const other = await createAppHarness({ beside: graft });
    const key = await newKey({ tenant: 'default' });
    const ask = async (model: string) => {
      const body = { model, messages: [{ role: 'user', content: 'hi' }] };
      return (await other.request('/v1/chat/completions', { key, body })).status;
    };
    expect([await ask('notes'), await ask('notes@1')]).toEqual([200, 200]);
    await remove({ name: 'notes' });
    // Longer than KV's cache.
    graft.clock.advance(61_000);
    expect([await ask('notes'), await ask('notes@1')]).toEqual([404, 404]);
    vi.spyOn(graft.stores.registry, 'version').mockResolvedValue(null);
    expect([await ask('notes'), await ask('notes@1')]).toEqual([404, 404]);
  });

  it('inherits from its parent afterwards, if it has one', async () => {
    expect((await graft.publish('notes/deep', file(2))).status).toBe(201);
    await remove({ name: 'notes/deep' });
    graft.clock.advance(61_000);
    const key = await newKey({ tenant: 'default' });
    const body = { model: 'notes/deep', messages: [{ role: 'user', content: 'hi' }] };
    const answer = await graft.request('/v1/chat/completions', { key, body });
    expect([answer.headers.get('x-graft-adapter'), answer.headers.get('x-graft-inherited')]).toEqual([
      'notes@1',
      'true',
    ]);
  });

  it('can be published again: numbers continue, and the old versions can be restored beside the new ones', async () => {
    await remove({ name: 'notes' });
    const published = await graft.publish('notes', file(2));
    expect(await published.json()).toMatchObject({
      version: 2,
      live: true,
      notice: expect.stringMatching(
        /^'notes' was removed earlier; .* restored until \d{4}-\d\d-\d\d\.$/,
      ) as string,
    });
    expect(await served('notes@1')).toBe(404);
    expect((await restore({ name: 'notes' })).body).toMatchObject({
      restored: [{ whole: false, versions: [1], live: null }],
    });
    expect([await served('notes'), await served('notes@1')]).toEqual(['notes@2', 'notes@1']);
  });

  it('is forgotten after seven days, and still belongs to its owner', async () => {
    await remove({ name: 'notes' });
    graft.clock.advance(REMOVAL_GRACE_MS + 1);
    await graft.schedule(() => undefined);
    const late = await restore({ name: 'notes' });
    expect([late.status, late.body.error?.message]).toEqual([
      404,
      "Nothing of 'notes' can be restored: it was not removed, or more than 7 days ago.",
    ]);
    const key = await newKey({ kind: 'admin', tenant: 'other' });
    const taken = await post('/admin/versions', { name: 'notes', digest: file(1).digest }, key);
    expect(taken.status).toBe(403);
    expect(await graft.stores.registry.removedVersions({ name: 'notes' }, 0)).toEqual([]);
  });
});

describe('a removed version’s file', () => {
  const { digest } = file(1);
  const run = () => graft.schedule(() => undefined);
  const stored = () => graft.stores.blobLedger.record(digest);
  const later = async (ms: number) => {
    graft.clock.advance(ms);
    await run();
  };
  const GARBAGE_MS = 30 * 86_400_000;
  const MINUTE_MS = 60_000;

  it('is kept while it can be restored, and then collected as garbage', async () => {
    await remove({ name: 'notes' });
    await later(REMOVAL_GRACE_MS - MINUTE_MS);
    expect(await stored()).not.toBeNull();
    expect((await restore({ name: 'notes', dry_run: true })).status).toBe(200);
    // Forgotten, and marked.
    await later(2 * MINUTE_MS);
    await later(GARBAGE_MS - MINUTE_MS);
    expect(await stored()).not.toBeNull();
    await later(2 * MINUTE_MS);
    expect(await stored()).toBeNull();
    expect(await graft.kv.get(`blob:${digest}`, { type: 'text', cacheTtl: 30 })).toBeNull();
    expect(await graft.kv.get(`blob:${digest}:${digest}`, { type: 'text', cacheTtl: 30 })).toBeNull();
  });

  it('stays while another name has it', async () => {
    expect((await graft.publish('copy', file(1))).status).toBe(201);
    await remove({ name: 'notes' });
    for (let i = 0; i < 3; i += 1) await later(GARBAGE_MS + 1);
    expect(await stored()).not.toBeNull();
    expect(await served('copy')).toBe('copy@1');
  });
});

describe('a version', () => {
  it('is removed unless it is live, and restored by number', async () => {
    expect((await graft.publish('notes', file(2))).status).toBe(201);
    expect(await refusal({ name: 'notes', version: 2 })).toBe(
      "'notes@2' is live. Promote another version before you remove it, or remove 'notes' as a whole.",
    );
    expect((await remove({ name: 'notes', version: 1 })).body).toMatchObject({
      removed: [{ name: 'notes', whole: false, versions: [1], live: null }],
    });
    expect([await served('notes@1'), await served('notes')]).toEqual([404, 'notes@2']);
    expect((await remove({ name: 'notes', version: 1 })).status).toBe(404);
    expect((await restore({ name: 'notes', version: 2 })).status).toBe(404);
    expect((await restore({ name: 'notes', version: 1 })).status).toBe(200);
    expect(await served('notes@1')).toBe('notes@1');
  });
});

describe('a name that is in use', () => {
  it('is refused with its users, and removed along with them by cascade', async () => {
    await publishChild('notes/a', 'notes', 11);
    await publishChild('notes/a/b', 'notes/a', 12);
    await post('/admin/alias', { name: 'short', target: 'notes' });
    await post('/admin/pins', { name: 'notes' });
    expect(await refusal({ name: 'notes' })).toBe(
      "'notes' is in use and was not removed. Built on it: notes/a@1, notes/a/b@1. Aliases of it: short. Pinned in the origins' memory: notes. " +
        'Remove those first, or everything at once with `--cascade` (`"cascade": true`); other tenants\' adapters that depend on it are then no longer served.',
    );
    const removed = await remove({ name: 'notes', cascade: true });
    expect(removed.body).toMatchObject({ unpinned: ['notes'] });
    expect((removed.body['removed'] as { name: string }[]).map(({ name }) => name)).toEqual([
      ...['notes', 'notes/a', 'notes/a/b', 'short'],
    ]);
    for (const model of ['notes', 'notes/a', 'notes/a/b', 'short']) expect(await served(model)).toBe(404);
    expect((await restore({ name: 'notes/a' })).body.error?.message).toMatch(/Restore 'notes' first/);
    const restored = await restore({ name: 'notes', cascade: true });
    expect(restored.body['restored']).toHaveLength(4);
    expect([await served('notes/a/b'), await served('short')]).toEqual(['notes/a/b@1', 'notes@1']);
  });

  it('is refused while an experiment tests it, in any case', async () => {
    expect((await graft.publish('notes', file(2))).status).toBe(201);
    const variants = [1, 2].map((version, i) => ({
      ...{ key: i === 0 ? 'control' : 'treatment', adapter: `notes@${version}`, weight: 0.5 },
    }));
    const made = await post('/admin/experiments', { name: 'notes', variants });
    const id = made.body['id'] as string;
    expect(await refusal({ name: 'notes', cascade: true })).toBe(
      `'notes' is in use and was not removed. Tested by ${id}. End it first: \`graft experiment stop ${id}\`, then \`graft experiment archive ${id}\`.`,
    );
    expect(await refusal({ name: 'notes', version: 1 })).toContain(`Tested by ${id}`);
    expect((await post(`/admin/experiments/${id}/archive`, {})).status).toBe(200);
    expect((await remove({ name: 'notes' })).status).toBe(200);
    expect((await restore({ name: 'notes' })).status).toBe(200);
    expect(await served('notes')).toBe('notes@2');
  });

  it('counts other tenants’ versions, never names them, and serves them again when restored', async () => {
    const theirs = await newKey({ kind: 'admin', tenant: 'other' });
    await post('/admin/grants', { scope: 'notes/**', tenant: 'other' });
    graft.clock.advance(61_000);
    await publishChild('other/child', 'notes', 13, theirs);
    expect(await refusal({ name: 'notes' })).toMatch(/Built on it: 1 version of other tenants\./);
    const removed = await remove({ name: 'notes', cascade: true });
    expect(removed.body).toMatchObject({ stops: { versions: 1 }, removed: [{ name: 'notes' }] });
    expect(JSON.stringify(removed.body)).not.toContain('other/child');
    const row = () => graft.stores.registry.version('other/child', 1);
    expect((await row())?.withdrawnAt).toBe(removed.body['removed_at']);
    await restore({ name: 'notes' });
    expect((await row())?.withdrawnAt).toBeNull();
  });

  it('never succeeds together with a change that would be built on the name', async () => {
    const listed = await graft.request('/admin/versions?name=notes');
    const { versions } = (await listed.json()) as { versions: { chain_id: string }[] };
    const child = tinyAdapter({ seed: 21, parent: versions[0]?.chain_id ?? '' });
    await graft.upload(child);
    let removal: Promise<unknown> | undefined;
    const { answer } = graft.origin;
    // The parent is removed while an origin tries the child.
    graft.origin.answer = async (method, path, init, url) => {
      if (path.endsWith('/verify')) await (removal ??= remove({ name: 'notes' }));
      return answer(method, path, init, url);
    };
    const published = await post('/admin/versions', {
      name: 'notes/child',
      digest: child.digest,
      parent: 'notes',
    });
    expect(published.status).toBe(409);
    expect(removal).toBeDefined();
    expect([await served('notes'), await served('notes/child')]).toEqual([404, 404]);
  });
});

describe('an alias removed with its name', () => {
  it('returns with it or after it', async () => {
    await post('/admin/alias', { name: 'n', target: 'notes' });
    await remove({ name: 'notes', cascade: true });
    const alone = await restore({ name: 'n' });
    expect([alone.status, alone.body.error?.message]).toEqual([
      409,
      "'n' is an alias of 'notes', which is removed. Restore 'notes' first, or use `--cascade` (`\"cascade\": true`) to restore everything that was removed with it.",
    ]);
    expect((await restore({ name: 'n', cascade: true, dry_run: true })).status).toBe(200);
    expect((await restore({ name: 'notes' })).status).toBe(200);
    expect((await restore({ name: 'n' })).status).toBe(200);
    expect(await served('n')).toBe('notes@1');
  });
});
