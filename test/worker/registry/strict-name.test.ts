/** Strict names through the admin API, with fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import type { AppHarness } from '../app-harness.ts';
import { createLifeCycleRig, file, type LifeCycleRig } from './life-cycle-rig.ts';

let graft: AppHarness;
let post: LifeCycleRig['post'];
let newKey: LifeCycleRig['newKey'];
let history: LifeCycleRig['history'];

const mark = (more: object = {}, key?: string) =>
  post('/admin/strict', { name: 'notes', strict: true, ...more }, key);
/** The name's value in KV a minute later. */
const markInKv = async (name = 'notes') => {
  graft.clock.advance(61_000);
  const lookup = await graft.services.nameIndex.get(name);
  return lookup.state === 'found' ? lookup.value : lookup.state;
};

beforeEach(async () => {
  ({ graft, post, newKey, history } = await createLifeCycleRig());
});

describe('strict', () => {
  it('marks a name, reports it, and ends', async () => {
    expect(await mark({ why: 'must not be guessed' })).toEqual({
      status: 200,
      body: { name: 'notes', strict: true, from: false },
    });
    expect(await markInKv()).toMatchObject({ version: 1, strict: true });
    expect(await mark()).toMatchObject({ status: 200, body: { from: true } });
    expect(await mark({ strict: false })).toMatchObject({ status: 200, body: { from: true } });
    expect(await markInKv()).not.toHaveProperty('strict');
    const { changes } = await history();
    expect(changes.map(({ action, from, to, why }) => [action, from, to, why])).toEqual([
      ['unstrict', 1, null, null],
      ['strict', 1, null, 'must not be guessed'],
      ['publish', null, 1, null],
    ]);
  });

  it('is listed with the names', async () => {
    await mark();
    const { names } = (await (await graft.request('/admin/names')).json()) as { names: unknown[] };
    expect(names).toEqual([
      {
        name: 'notes',
        owner: 'default',
        version: 1,
        latest: 1,
        alias: null,
        strict: true,
        description: null,
        tags: [],
      },
    ]);
  });

  it('survives other versions going live, and does not affect a rollback', async () => {
    expect((await graft.publish('notes', file(2))).status).toBe(201);
    await mark();
    expect(await post('/admin/rollback', { name: 'notes' })).toMatchObject({ body: { version: 1 } });
    expect((await graft.publish('notes', file(3))).status).toBe(201);
    expect(await markInKv()).toMatchObject({ version: 3, strict: true });
  });

  it('waits for a version to go live', async () => {
    await graft.publish('waits', file(2), { stage: true });
    expect((await mark({ name: 'waits' })).status).toBe(200);
    expect(await markInKv('waits')).toBe('gone');
    expect((await post('/admin/promote', { name: 'waits' })).status).toBe(200);
    expect(await markInKv('waits')).toMatchObject({ version: 1, strict: true });
  });

  it('changes nothing in a dry run, or if nothing differs', async () => {
    expect(await mark({ dry_run: true })).toEqual({
      status: 200,
      body: { name: 'notes', strict: true, from: false },
    });
    expect(await markInKv()).not.toHaveProperty('strict');
    expect((await history()).changes).toHaveLength(1);
  });

  it("is for the name's owner and the bootstrap key", async () => {
    const [own, other] = await Promise.all(
      ['default', 'other'].map((tenant) => newKey({ kind: 'admin', tenant })),
    );
    const refused = await mark({}, other);
    expect(refused.status).toBe(404);
    expect(refused.body.error?.message).toBe(
      (await mark({ name: 'absent' }, other)).body.error?.message.replace('absent', 'notes'),
    );
    expect((await mark({}, own)).status).toBe(200);
    expect((await history()).changes).toHaveLength(2);
  });

  it('is refused for names without versions', async () => {
    await post('/admin/alias', { name: 'best', target: 'notes' });
    const alias = await mark({ name: 'best' });
    expect(alias).toMatchObject({ status: 409, body: { error: { code: 'version_conflict' } } });
    expect(alias.body.error?.message).toContain("'notes'");
    await post('/admin/alias', { name: 'best', target: null });
    expect((await mark({ name: 'best' })).status).toBe(409);
    expect((await mark({ name: 'absent' })).status).toBe(404);
  });

  it.each([
    ['no mark', { strict: undefined }],
    ['a mark that is none', { strict: 'yes' }],
    ['an illegal name', { name: '../x' }],
    ['what it does not know', { version: 1 }],
  ])('refuses %s', async (_, more) => {
    expect((await mark(more)).status).toBe(400);
  });

  it('loses entirely against a concurrent change', async () => {
    const { registry } = graft.services;
    const { name } = registry;
    const seen = await name('notes');
    await graft.publish('notes', file(2));
    vi.spyOn(registry, 'name').mockResolvedValueOnce(seen);
    expect(await mark()).toMatchObject({ status: 409, body: { error: { code: 'version_conflict' } } });
    expect(await name('notes')).toMatchObject({ version: 2, strict: false });
  });

  it('is recorded if KV cannot be written, and written on a retry', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const { pointers } = graft.services;
    vi.spyOn(pointers, 'sync').mockRejectedValueOnce(new StoreUnavailable('KV', new Error('down')));
    expect((await mark()).status).toBe(503);
    expect(await markInKv()).not.toHaveProperty('strict');
    expect(await mark()).toMatchObject({ status: 200, body: { from: true } });
    expect(await markInKv()).toMatchObject({ strict: true });
    expect((await history()).changes).toHaveLength(2);
  });

  it('is written again by a repair', async () => {
    const without = await markInKv();
    await mark();
    expect(await markInKv()).toMatchObject({ strict: true });
    await graft.services.nameIndex.put(without as never);
    expect(await markInKv()).not.toHaveProperty('strict');
    expect(await post('/admin/repair', {})).toMatchObject({
      body: { mended: [{ kind: 'name', id: 'notes', was: 'outdated', did: 'written' }] },
    });
    expect(await markInKv()).toMatchObject({ strict: true });
  });
});
