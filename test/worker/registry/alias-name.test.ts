/** Aliases through the admin API, with fakes. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { AppHarness } from '../app-harness.ts';
import { createLifeCycleRig, file, type LifeCycleRig } from './life-cycle-rig.ts';

let graft: AppHarness;
let post: LifeCycleRig['post'];
let served: LifeCycleRig['served'];
let history: LifeCycleRig['history'];

const publish = async (n: number) => expect((await graft.publish('notes', file(n))).status).toBe(201);

beforeEach(async () => {
  ({ graft, post, served, history } = await createLifeCycleRig());
});

describe('alias', () => {
  it('makes a name an alias, changes its target, and ends it', async () => {
    await graft.publish('papers', file(2));
    const made = await post('/admin/alias', { name: 'best', target: 'notes', why: 'stable' });
    expect(made).toEqual({ status: 200, body: { name: 'best', target: 'notes', from: null } });
    expect(await served('best')).toBe('notes@1');
    await publish(3);
    expect(await served('best')).toBe('notes@2');
    expect(await post('/admin/alias', { name: 'best', target: 'papers' })).toMatchObject({
      body: { from: 'notes' },
    });
    expect(await served('best')).toBe('papers@1');
    expect(await post('/admin/alias', { name: 'best', target: 'papers' })).toMatchObject({ status: 200 });
    expect(await post('/admin/alias', { name: 'best', target: null })).toMatchObject({ status: 200 });
    expect(await served('best')).toBe(404);
    expect(await post('/admin/alias', { name: 'best', target: null })).toMatchObject({ status: 200 });
    const { changes } = await history('name=best');
    expect(changes.map(({ action, target, why }) => [action, target, why])).toEqual([
      ['unalias', 'papers', null],
      ['alias', 'papers', null],
      ['alias', 'notes', 'stable'],
    ]);
    expect((await graft.publish('best', file(4))).status).toBe(201);
    expect(await served('best')).toBe('best@1');
  });

  it('is listed with the names', async () => {
    await post('/admin/alias', { name: 'best', target: 'notes' });
    const { names } = (await (await graft.request('/admin/names')).json()) as { names: unknown[] };
    expect(names).toEqual([
      {
        name: 'best',
        owner: 'default',
        version: null,
        latest: 0,
        alias: 'notes',
        strict: false,
        description: null,
        tags: [],
      },
      {
        name: 'notes',
        owner: 'default',
        version: 1,
        latest: 1,
        alias: null,
        strict: false,
        description: null,
        tags: [],
      },
    ]);
  });

  it.each([
    ['itself', { name: 'best', target: 'best' }, 422],
    ['a name that does not exist', { name: 'best', target: 'absent' }, 404],
    ['another alias', { name: 'best', target: 'other' }, 404],
    ['a name without a live version', { name: 'best', target: 'staged' }, 404],
    ['anything, when it has versions', { name: 'notes', target: 'staged' }, 409],
    ['anything, when it is the base', { name: 'tiny-base', target: 'notes' }, 422],
    ['nothing, when it has versions', { name: 'notes', target: null }, 409],
    ['nothing, when it does not exist', { name: 'absent', target: null }, 404],
    ['an illegal name', { name: 'best', target: '../x' }, 400],
  ])('cannot stand for %s', async (_, body, status) => {
    await post('/admin/alias', { name: 'other', target: 'notes' });
    await graft.publish('staged', file(2), { stage: true });
    expect((await post('/admin/alias', body)).status).toBe(status);
  });

  it('is not overwritten by publishing', async () => {
    await post('/admin/alias', { name: 'best', target: 'notes' });
    const refused = await graft.publish('best', file(2));
    expect(refused.status).toBe(422);
    expect(await refused.json()).toMatchObject({ error: { reason: 'name_is_alias' } });
    expect(await served('best')).toBe('notes@1');
  });
});
