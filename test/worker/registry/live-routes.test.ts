/** An owner's changes of a name's versions through the admin API, with fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import type { AppHarness } from '../app-harness.ts';
import { createLifeCycleRig, file, type LifeCycleRig } from './life-cycle-rig.ts';

let graft: AppHarness;
let post: LifeCycleRig['post'];
let newKey: LifeCycleRig['newKey'];
let served: LifeCycleRig['served'];
let history: LifeCycleRig['history'];

const steps = async () =>
  (await history()).changes.map(({ action, from, to }) => `${action} ${from ?? '-'} ${to ?? '-'}`);
const publish = async (n: number, more: object = {}) =>
  expect((await graft.publish('notes', file(n), more)).status).toBe(201);

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  ({ graft, post, newKey, served, history } = await createLifeCycleRig());
});

describe('promote', () => {
  it('makes the newest staged version live, and may be repeated', async () => {
    await publish(2, { stage: true });
    await publish(3, { stage: true, why: 'candidate' });
    expect(await served('notes')).toBe('notes@1');
    const promoted = { status: 200, body: { name: 'notes', version: 3, from: 1 } };
    expect(await post('/admin/promote', { name: 'notes', why: 'looks good' })).toEqual(promoted);
    expect(await served('notes')).toBe('notes@3');
    expect(await post('/admin/promote', { name: 'notes' })).toMatchObject({ body: { version: 3, from: 3 } });
    expect(await steps()).toEqual(['promote 1 3', 'stage 1 3', 'stage 1 2', 'publish - 1']);
    expect((await history()).changes.map(({ why }) => why)).toEqual(['looks good', 'candidate', null, null]);
  });

  it('takes a version by number, even a skipped one', async () => {
    await publish(2, { stage: true });
    await publish(3);
    expect(await post('/admin/promote', { name: 'notes' })).toMatchObject({ body: { version: 3, from: 3 } });
    expect(await post('/admin/promote', { name: 'notes', version: 2 })).toMatchObject({
      body: { version: 2 },
    });
    expect(await served('notes')).toBe('notes@2');
    const nothing = await post('/admin/promote', { name: 'notes' });
    expect([nothing.status, nothing.body.error?.code]).toEqual([409, 'version_conflict']);
    expect((await post('/admin/promote', { name: 'notes', version: 9 })).status).toBe(404);
  });

  it('supports dry runs and expectations', async () => {
    await publish(2, { stage: true });
    const trial = await post('/admin/promote', { name: 'notes', dry_run: true });
    expect(trial.body).toEqual({ name: 'notes', version: 2, from: 1 });
    expect(await served('notes')).toBe('notes@1');
    expect((await post('/admin/promote', { name: 'notes', expect: 5 })).status).toBe(409);
    expect((await history()).changes).toHaveLength(2);
  });
});

describe('rollback', () => {
  it('goes back step by step, or to any given version', async () => {
    await publish(2);
    await publish(3);
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 2, from: 3 } });
    expect(await served('notes')).toBe('notes@2');
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1, from: 2 } });
    const end = await post('/admin/rollback', { name: 'notes' });
    expect([end.status, end.body.error?.code]).toEqual([409, 'version_conflict']);
    expect(await post('/admin/rollback', { name: 'notes', to: 3 })).toMatchObject({ body: { version: 3 } });
    expect(await served('notes')).toBe('notes@3');
    expect(await steps()).toEqual([
      'rollback 1 3',
      'rollback 2 1',
      'rollback 3 2',
      'publish 2 3',
      'publish 1 2',
      'publish - 1',
    ]);
  });

  it('undoes any flip, and skips retired versions', async () => {
    await publish(2);
    await publish(3);
    await post('/admin/promote', { name: 'notes', version: 1 });
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 3, from: 1 } });
    expect((await post('/admin/retire', { name: 'notes', version: 2 })).status).toBe(200);
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1, from: 3 } });
  });

  it('searches a history of more than a page', async () => {
    await publish(2);
    for (let i = 0; i < 60; i += 1)
      for (const to of [1, 2]) await post('/admin/rollback', { name: 'notes', to });
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1, from: 2 } });
  });

  it('of a version that only a rollback made live goes back to where that came from', async () => {
    await publish(2, { stage: true });
    await post('/admin/rollback', { name: 'notes', to: 2 });
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1, from: 2 } });
  });
});

describe('retire', () => {
  it('takes a version out of use for good: not served, not pinned, not made live, still in history', async () => {
    await publish(2);
    expect(await served('notes@1')).toBe('notes@1');
    const retired = await post('/admin/retire', { name: 'notes', version: 1, why: 'wrong data' });
    expect(retired).toEqual({
      status: 200,
      body: {
        name: 'notes',
        version: 1,
        retired_at: graft.clock.time,
        stops: { versions: 0, experiments: 0 },
      },
    });
    expect(await served('notes@1')).toBe(404);
    expect((await post('/admin/promote', { name: 'notes', version: 1 })).status).toBe(409);
    expect((await post('/admin/rollback', { name: 'notes' })).status).toBe(409);
    const again = await post('/admin/retire', { name: 'notes', version: 1 });
    expect(again.body['retired_at']).toBe(retired.body['retired_at']);
    expect(await steps()).toEqual(['retire 2 1', 'publish 1 2', 'publish - 1']);
    const listed = (await (await graft.request('/admin/versions?name=notes')).json()) as {
      versions: { retired_at: number | null }[];
    };
    expect(listed.versions.map((one) => one.retired_at === null)).toEqual([true, false]);
    // The file itself may be published again.
    await publish(1);
    expect(await served('notes')).toBe('notes@3');
  });

  it('refuses the live version, and one that another is built on', async () => {
    const live = await post('/admin/retire', { name: 'notes', version: 1 });
    expect([live.status, live.body.error?.message]).toEqual([409, expect.stringContaining('is live')]);
    const { chain_id } = (
      (await (await graft.request('/admin/versions?name=notes')).json()) as {
        versions: { chain_id: string }[];
      }
    ).versions[0] as { chain_id: string };
    const child = tinyAdapter({ seed: 7, parent: chain_id });
    expect((await graft.publish('notes/child', child, { parent: 'notes' })).status).toBe(201);
    await publish(2);
    const pinned = await post('/admin/retire', { name: 'notes', version: 1 });
    expect([pinned.status, pinned.body.error?.message]).toEqual([
      409,
      expect.stringContaining('notes/child@1 was built on it'),
    ]);
    expect(await served('notes/child')).toBe('notes/child@1');
  });

  it('supports dry runs', async () => {
    await publish(2);
    expect((await post('/admin/retire', { name: 'notes', version: 1, dry_run: true })).status).toBe(200);
    expect(await served('notes@1')).toBe('notes@1');
  });
});

describe('history', () => {
  it('returns who, when, from, to and why, in pages, newest first', async () => {
    await publish(2, { why: 'better' });
    const all = await history('');
    expect(all.before).toBeNull();
    expect(all.changes[0]).toEqual({
      id: 2,
      name: 'notes',
      owner: 'default',
      actor: 'bootstrap',
      at: expect.any(Number) as number,
      action: 'publish',
      from: 1,
      to: 2,
      target: null,
      why: 'better',
    });
    const first = await history('limit=1');
    expect(first.changes).toEqual(all.changes.slice(0, 1));
    const rest = await history(`limit=1&before=${first.before}`);
    expect(rest.changes).toEqual(all.changes.slice(1));
  });

  it('shows a tenant only its own changes', async () => {
    const other = await newKey({ kind: 'admin', tenant: 'other' });
    const mine = await graft.request('/admin/history', { key: other });
    expect(await mine.json()).toEqual({ changes: [], before: null });
    expect((await graft.request('/admin/history?name=notes', { key: other })).status).toBe(404);
    expect((await graft.request('/admin/history?name=none', { key: other })).status).toBe(404);
  });

  it('can be limited to one tenant', async () => {
    const other = await newKey({ kind: 'admin', tenant: 'other' });
    await graft.publish('theirs', file(3), { owner: 'other' });
    const namesOf = async (tenant: string, key?: string) => {
      const response = await graft.request(
        `/admin/history?tenant=${tenant}`,
        key === undefined ? {} : { key },
      );
      if (response.status !== 200) return response.status;
      const { changes } = (await response.json()) as { changes: { name: string; owner: string }[] };
      return [...new Set(changes.map(({ name, owner }) => `${owner} ${name}`))];
    };
    expect(await namesOf('other')).toEqual(['other theirs']);
    expect(await namesOf('other', other)).toEqual(['other theirs']);
    expect(await namesOf('default', other)).toBe(403);
    expect(await namesOf('nobody')).toEqual([]);
  });

  it.each(['limit=0', 'limit=1001', 'before=x', 'name=..', 'more=1'])('refuses ?%s', async (query) => {
    expect((await graft.request(`/admin/history?${query}`)).status).toBe(400);
  });

  it.each(['', 'x'.repeat(501), 'two\nlines', 'bell\u0007'])('refuses the reason %j', async (why) => {
    expect((await graft.publish('notes', file(2), { why })).status).toBe(400);
  });
});

describe('another tenant', () => {
  it('can change nothing, and cannot tell whether a name exists', async () => {
    await publish(2, { stage: true });
    const other = await newKey({ kind: 'admin', tenant: 'other', scopes: ['**'] });
    const attempts: [string, object][] = [
      ['/admin/promote', { version: 2 }],
      ['/admin/promote', {}],
      ['/admin/rollback', { to: 2 }],
      ['/admin/retire', { version: 2 }],
      ['/admin/alias', { target: null }],
    ];
    for (const [path, body] of attempts) {
      const existing = await post(path, { name: 'notes', ...body }, other);
      const absent = await post(path, { name: 'xotes', ...body }, other);
      expect([path, existing.status, absent.status]).toEqual([path, 404, 404]);
      expect(existing.body.error?.message.replaceAll('notes', 'xotes')).toBe(absent.body.error?.message);
    }
    expect((await post('/admin/alias', { name: 'notes/x', target: 'notes' }, other)).status).toBe(403);
    expect(await steps()).toEqual(['stage 1 2', 'publish - 1']);
  });
});

describe('a change recorded while KV rejects writes', () => {
  const cutOff = async (path: string, body: object) => {
    const put = vi.spyOn(graft.kv, 'put').mockRejectedValue(new Error('KV PUT failed: 500'));
    const cut = await post(path, body);
    expect([cut.status, cut.body.error?.code]).toEqual([503, 'registry_unavailable']);
    put.mockRestore();
  };

  it('says so, and a retry completes it', async () => {
    await publish(2, { stage: true });
    await cutOff('/admin/promote', { name: 'notes' });
    expect(await served('notes')).toBe('notes@1');
    expect((await post('/admin/promote', { name: 'notes' })).status).toBe(200);
    expect(await served('notes')).toBe('notes@2');
    expect(await steps()).toEqual(['promote 1 2', 'stage 1 2', 'publish - 1']);
  });

  it('is completed by a retry with the original expectation', async () => {
    await publish(2, { stage: true });
    const wish = { name: 'notes', version: 2, expect: 1 };
    await cutOff('/admin/promote', wish);
    expect(await post('/admin/promote', wish)).toMatchObject({ status: 200, body: { version: 2 } });
    expect(await served('notes')).toBe('notes@2');
    expect((await post('/admin/promote', wish)).status).toBe(409);
  });

  it('goes back only once, however often the rollback is retried', async () => {
    await publish(2);
    await publish(3);
    await cutOff('/admin/rollback', { name: 'notes' });
    await cutOff('/admin/rollback', { name: 'notes' });
    const planned = { status: 200, body: { version: 2, from: 2 } };
    expect(await post('/admin/rollback', { name: 'notes', dry_run: true })).toMatchObject(planned);
    expect(await post('/admin/rollback', { name: 'notes', expect: 3 })).toMatchObject(planned);
    expect(await served('notes')).toBe('notes@2');
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1, from: 2 } });
  });

  it('goes back only once with the version that it names, also when the pointer has been written since', async () => {
    await publish(2);
    await publish(3);
    const put = vi.spyOn(graft.kv, 'put').mockRejectedValue(new Error('KV PUT failed: 500'));
    const cut = await post('/admin/rollback', { name: 'notes' });
    put.mockRestore();
    expect([cut.status, cut.body.error?.message]).toEqual([503, expect.stringContaining('with `to: 2`')]);
    await graft.schedule((work) => void work.catch(() => undefined));
    expect(await served('notes')).toBe('notes@2');
    const again = await post('/admin/rollback', { name: 'notes', to: 2 });
    expect(again).toMatchObject({ status: 200, body: { version: 2, from: 2 } });
    expect(await steps()).toEqual(['rollback 3 2', 'publish 2 3', 'publish 1 2', 'publish - 1']);
    // Without it, it is another rollback.
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1, from: 2 } });
  });

  it('goes back further for a caller that knows the state, or has another key', async () => {
    for (const n of [2, 3, 4]) await publish(n);
    await cutOff('/admin/rollback', { name: 'notes' });
    await cutOff('/admin/rollback', { name: 'notes', expect: 3 });
    const other = await newKey({ kind: 'admin', tenant: 'default', scopes: [] });
    expect(await post('/admin/rollback', { name: 'notes' }, other)).toMatchObject({ body: { version: 1 } });
  });
});
