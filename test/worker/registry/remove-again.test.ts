/** Removals and restorations recorded while KV rejects writes, through the admin API, with fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { AppHarness } from '../app-harness.ts';
import { createLifeCycleRig, file, type LifeCycleRig } from './life-cycle-rig.ts';

let graft: AppHarness;
let post: LifeCycleRig['post'];
let served: LifeCycleRig['served'];
const remove = (body: object) => post('/admin/remove', body);
const restore = (body: object) => post('/admin/restore', body);

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  ({ graft, post, served } = await createLifeCycleRig());
});

describe('a change recorded while KV rejects writes', () => {
  const cutOff = async (path: string, body: object) => {
    const put = vi.spyOn(graft.kv, 'put').mockRejectedValue(new Error('KV PUT failed: 500'));
    expect((await post(path, body)).status).toBe(503);
    put.mockRestore();
  };

  it('is completed by retrying the removal or restoration, with everything that belongs to it', async () => {
    await graft.publish('notes', file(2));
    await post('/admin/alias', { name: 'n', target: 'notes' });
    const wish = { name: 'notes', cascade: true };
    const planned = (await remove({ ...wish, dry_run: true })).body;
    await cutOff('/admin/remove', wish);
    expect(await served('notes')).toBe('notes@2');
    const again = await remove({ ...wish, dry_run: true });
    expect(again).toMatchObject({ status: 200, body: { removed: expect.any(Array) } });
    const removed = again.body['removed'] as { name: string }[];
    const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
    expect(removed[0]).toMatchObject({ name: 'notes', whole: true, versions: [1, 2], live: 2 });
    expect([...removed].sort(byName)).toEqual([...(planned['removed'] as typeof removed)].sort(byName));
    expect((await remove(wish)).status).toBe(200);
    expect(await served('notes')).toBe(404);
    expect((await remove(wish)).status).toBe(404);

    const back = (await restore({ ...wish, dry_run: true })).body['restored'] as typeof removed;
    await cutOff('/admin/restore', wish);
    expect((await restore({ ...wish, dry_run: true })).status).toBe(404);
    const restored = await restore(wish);
    expect(restored.status).toBe(200);
    expect([...(restored.body['restored'] as typeof removed)].sort(byName)).toEqual([...back].sort(byName));
    for (const [name, live] of [
      ['notes', 'notes@2'],
      ['n', 'notes@2'],
    ] as const)
      expect(await served(name)).toBe(live);
    expect((await restore(wish)).status).toBe(404);
  });

  it('ends what a removed name serves, though a version was staged before KV was told', async () => {
    await graft.publish('notes', file(2));
    await cutOff('/admin/remove', { name: 'notes' });
    await graft.publish('notes', file(3), { stage: true });
    expect(await served('notes')).toBe('notes@2');
    await graft.schedule(() => undefined);
    expect(await served('notes')).toBe(404);
    expect(await served('notes@3')).toBe('notes@3');
    expect((await post('/admin/promote', { name: 'notes', version: 3 })).status).toBe(200);
    expect(await served('notes')).toBe('notes@3');
  });

  it('restores single versions, which have no pointer', async () => {
    await graft.publish('notes', file(2));
    await remove({ name: 'notes', version: 1 });
    vi.spyOn(graft.kv, 'put').mockRejectedValue(new Error('KV PUT failed: 500'));
    expect((await restore({ name: 'notes', version: 1 })).status).toBe(200);
    expect(await served('notes@1')).toBe('notes@1');
  });
});
