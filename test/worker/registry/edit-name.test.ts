/** Descriptions of names through the admin API, with fakes. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { AppHarness } from '../app-harness.ts';
import { createLifeCycleRig, file, type LifeCycleRig } from './life-cycle-rig.ts';

let graft: AppHarness;
let post: LifeCycleRig['post'];
let newKey: LifeCycleRig['newKey'];
let history: LifeCycleRig['history'];

const edit = (body: object, key?: string) => post('/admin/edit', { name: 'notes', ...body }, key);
const listed = async () => {
  const { names } = (await (await graft.request('/admin/names')).json()) as { names: object[] };
  return names;
};

beforeEach(async () => {
  ({ graft, post, newKey, history } = await createLifeCycleRig());
});

describe('edit', () => {
  it('sets a name’s description, keeps fields that are not given, and removes them', async () => {
    expect(await edit({ description: ' For the clinic ', tags: ['b', 'a', 'b'], why: 'asked for' })).toEqual({
      status: 200,
      body: {
        ...{ name: 'notes', description: 'For the clinic', tags: ['a', 'b'] },
        from: { description: null, tags: [] },
      },
    });
    expect(await edit({ tags: ['c'] })).toMatchObject({
      body: { description: 'For the clinic', tags: ['c'] },
    });
    expect((await graft.publish('notes', file(2))).status).toBe(201);
    expect(await listed()).toEqual([
      expect.objectContaining({ version: 2, description: 'For the clinic', tags: ['c'] }),
    ]);
    expect(await edit({ description: null })).toMatchObject({ body: { description: null, tags: ['c'] } });
    expect(await edit({ tags: [] })).toMatchObject({ body: { description: null, tags: [] } });
    const { changes } = await history();
    expect(changes.filter(({ action }) => action === 'edit')).toHaveLength(4);
    expect(changes.at(-2)).toMatchObject({ action: 'edit', from: 1, to: null, why: 'asked for' });
  });

  it('changes nothing in a dry run, or if nothing differs', async () => {
    expect(await edit({ tags: ['a'], dry_run: true })).toMatchObject({ status: 200, body: { tags: ['a'] } });
    expect(await edit({ tags: [] })).toMatchObject({ status: 200 });
    expect((await history()).changes.filter(({ action }) => action === 'edit')).toEqual([]);
  });

  it('is only for the owner', async () => {
    const other = await newKey({ kind: 'admin', tenant: 'other' });
    expect(await edit({ tags: ['a'] }, other)).toMatchObject({ status: 404 });
    expect(await post('/admin/edit', { name: 'missing', tags: [] })).toMatchObject({ status: 404 });
  });

  it.each<[object, string]>([
    [{ description: '' }, 'description'],
    [{ description: 'a\nb' }, 'description'],
    [{ description: 'x'.repeat(501) }, 'description'],
    [{ tags: ['Upper'] }, 'tags.0'],
    [{ tags: [''] }, 'tags.0'],
    [{ tags: Array.from({ length: 17 }, (_, i) => `t${i}`) }, 'tags'],
    [{ colour: 'red' }, 'colour'],
  ])('refuses %j', async (body, param) =>
    expect(await edit(body)).toMatchObject({ status: 400, body: { error: { param } } }),
  );
});
