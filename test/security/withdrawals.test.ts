/** A version can be taken out of use whatever others have made with it; what they have made is no longer served. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { syncStalePointers } from '../../worker/registry/write-pointer.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const LATER_MS = 61_000;
let graft: AppHarness;
const keys: Record<string, string> = {};
const admins: Record<string, string> = {};
let chain = '';
let seed = 0;

interface Answer {
  status: number;
  body: Record<string, unknown> & { error?: { code: string; message: string } };
}
const post = async (path: string, body: object, key?: string): Promise<Answer> => {
  const response = await graft.request(path, { body, ...(key === undefined ? {} : { key }) });
  return { status: response.status, body: (await response.json()) as Answer['body'] };
};
const must = async (path: string, body: object, key?: string) => {
  const answer = await post(path, body, key);
  if (answer.status >= 300) throw new Error(JSON.stringify(answer.body));
  return answer.body;
};
const publish = async (name: string, owner: string, parent?: string) => {
  const adapter = tinyAdapter({ seed: (seed += 1), ...(parent === undefined ? {} : { parent: chain }) });
  const made = await graft.publish(name, adapter, { owner, ...(parent === undefined ? {} : { parent }) });
  const text = await made.text();
  if (made.status !== 201) throw new Error(text);
  graft.clock.advance(LATER_MS);
  return (JSON.parse(text) as { chain_id: string }).chain_id;
};
const ask = async (model: string, tenant: string, more: object = {}) => {
  graft.clock.advance(LATER_MS);
  const body = { model, messages: [{ role: 'user', content: 'hi' }], ...more };
  const response = await graft.request('/v1/chat/completions', { key: keys[tenant] as string, body });
  if (response.status === 200) return response.headers.get('x-graft-adapter');
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect(error.message).not.toMatch(/shared|alice/);
  return `${response.status} ${error.code}`;
};
const retire = (more: object = {}) =>
  post('/admin/retire', { name: 'shared', version: 1, ...more }, admins['alice']);

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  for (const tenant of ['alice', 'bob', 'carol']) {
    keys[tenant] = (await must('/admin/keys', { tenant }))['key'] as string;
    admins[tenant] = (await must('/admin/keys', { tenant, kind: 'admin' }))['key'] as string;
  }
  chain = await publish('shared', 'alice');
  await must('/admin/grants', { scope: 'shared', tenant: '*' }, admins['alice']);
});

describe('a version that others have made something with', () => {
  beforeEach(async () => {
    await publish('bob', 'bob');
    await publish('bob/merger', 'bob', 'shared');
    await must('/admin/grants', { scope: 'bob/merger', tenant: 'carol' }, admins['bob']);
    await must('/admin/alias', { name: 'bob/latest', target: 'bob/merger' }, admins['bob']);
    const variants = ['bob@1', 'shared@1'].map((adapter, i) => ({ key: `v${i}`, adapter, weight: 0.5 }));
    const experiment = await must('/admin/experiments', { name: 'bob', variants }, admins['bob']);
    await must(`/admin/experiments/${String(experiment['id'])}/start`, {}, admins['bob']);
    await publish('shared', 'alice');
  });

  it('is retired, the others’ counted and not named', async () => {
    const foreseen = await retire({ dry_run: true });
    expect(foreseen).toMatchObject({ status: 200, body: { stops: { versions: 1, experiments: 1 } } });
    expect(await ask('bob/merger', 'bob')).toBe('bob/merger@1');
    const retired = await retire();
    expect(retired).toMatchObject({ status: 200, body: { stops: { versions: 1, experiments: 1 } } });
    expect(JSON.stringify([foreseen, retired])).not.toMatch(/bob|merger|exp_/);
    expect(await retire()).toMatchObject({ status: 200 });
  });

  it('is retired also by who has taken the grant back, which nobody can put off', async () => {
    const query = new URLSearchParams({ scope: 'shared', tenant: '*' });
    await graft.request(`/admin/grants?${query}`, { method: 'DELETE', key: admins['alice'] as string });
    expect(await retire()).toMatchObject({ status: 200, body: { stops: { versions: 1, experiments: 1 } } });
    expect(await ask('bob/merger', 'carol')).toBe('404 model_not_found');
  });

  it('takes with it what stands on it: by its name, a version, an alias, or added to a request', async () => {
    await retire();
    for (const tenant of ['bob', 'carol'])
      for (const model of ['bob/merger', 'bob/merger@1', 'bob/latest'])
        expect([tenant, model, await ask(model, tenant)]).toEqual([tenant, model, '410 model_withdrawn']);
    expect(await ask('base', 'bob', { adapters: [{ name: 'bob/merger' }] })).toBe('410 model_withdrawn');
    // As an ancestor it is passed over; and to who may not use it, it does not exist.
    expect(await ask('bob/merger/none', 'bob')).toBe('bob@1');
    expect(await ask('bob/merger', 'alice')).toBe('404 model_not_found');
    const isolate = await createAppHarness({ beside: graft });
    const listed = await isolate.request('/v1/models', { key: keys['bob'] as string });
    expect(await listed.text()).not.toContain('merger');
  });

  it('leaves its place in an experiment to the live version', async () => {
    // The seed is made by chance: of 24 users one in eight million times all are on one side.
    const users = Array.from({ length: 24 }, (_, i) => `user-${i}`);
    const asked = await Promise.all(users.map((user) => ask('bob', 'bob', { user })));
    expect(new Set(asked)).toEqual(new Set(['bob@1', 'shared@1']));
    await retire();
    for (const user of users) expect(await ask('bob', 'bob', { user })).toBe('bob@1');
  });

  it('is not built upon, and what is withdrawn neither goes live nor into an experiment', async () => {
    await publish('bob/merger', 'bob');
    await retire();
    expect(await ask('bob/merger', 'bob')).toBe('bob/merger@2');
    const flip = await post('/admin/promote', { name: 'bob/merger', version: 1 }, admins['bob']);
    expect(flip).toMatchObject({ status: 409, body: { error: { code: 'version_conflict' } } });
    expect(await post('/admin/rollback', { name: 'bob/merger' }, admins['bob'])).toMatchObject({
      status: 409,
    });
    const variants = ['bob/merger@2', 'bob/merger@1'].map((adapter, i) => ({
      key: `v${i}`,
      adapter,
      weight: 0.5,
    }));
    const made = await post('/admin/experiments', { name: 'bob/merger', variants }, admins['bob']);
    expect(made).toMatchObject({ status: 409, body: { error: { param: 'variants.1.adapter' } } });
  });

  it('comes back for who publishes anew on what is live', async () => {
    await retire();
    chain = (await graft.services.registry.live('shared'))?.chainId ?? '';
    await publish('bob/merger', 'bob', 'shared');
    expect(await ask('bob/merger', 'bob')).toBe('bob/merger@2');
  });
});

it('what its owner has on top of it, or tests it in, stands in the way as ever', async () => {
  await publish('own', 'alice', 'shared');
  await publish('shared', 'alice');
  const { status, body } = await retire();
  expect([status, body.error?.message]).toEqual([
    409,
    "'shared@1' cannot be retired: own@1 was built on it. Retire what depends on it first.",
  ]);
});

it('pointers that one request does not write are the schedule’s and the repair’s', async () => {
  const names = Array.from({ length: 19 }, (_, i) => `bob/n${i}`);
  for (const name of names) await publish(name, 'bob', 'shared');
  await publish('shared', 'alice');
  expect(await retire()).toMatchObject({ body: { stops: { versions: 19, experiments: 0 } } });
  const served = async () => {
    const isolate = await createAppHarness({ beside: graft });
    graft.clock.advance(LATER_MS);
    const seen = await Promise.all(names.map((name) => isolate.services.nameIndex.get(name)));
    return seen.filter(
      (one) => one.state === 'found' && !('alias' in one.value) && one.value.withdrawn !== true,
    ).length;
  };
  expect(await served()).toBe(3);
  await syncStalePointers(graft.services, { limit: 2, newest: false });
  expect(await served()).toBe(1);
  for (let cursor: unknown = null; ;) {
    const page = await must('/admin/repair', { cursor });
    cursor = page['cursor'];
    if (cursor === null) break;
  }
  expect(await served()).toBe(0);
});
