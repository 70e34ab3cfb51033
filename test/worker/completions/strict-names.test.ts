/** What names below a strict name do not inherit. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Longer than KV can be stale. */
const LATER_MS = 61_000;
const owner = 'clinic';
const medicine = tinyAdapter({ seed: 1 });
let files: Record<'cardiology' | 'lee', TinyAdapter>;
let graft: AppHarness;
let key: string;

const makeKey = async (body: object): Promise<string> => {
  const made = await graft.request('/admin/keys', { body: { tenant: owner, ...body } });
  return ((await made.json()) as { key: string }).key;
};

const ask = (model: string, more: object = {}, withKey = key) =>
  graft.request('/v1/chat/completions', {
    key: withKey,
    body: { model, messages: [{ role: 'user', content: 'hi' }], ...more },
  });

/** `name@version` with `^` if inherited and `!<why>` for a fallback, or the status. */
async function served(model: string, more: object = {}, withKey = key): Promise<string | number> {
  const { status, headers } = await ask(model, more, withKey);
  if (status !== 200) return status;
  const inherited = headers.get('x-graft-inherited') === 'true' ? '^' : '';
  const degraded = headers.get('x-graft-degraded');
  return `${headers.get('x-graft-adapter') ?? ''}${inherited}${degraded === null ? '' : `!${degraded}`}`;
}

const mark = async (name: string, strict = true) => {
  expect((await graft.request('/admin/strict', { body: { name, strict } })).status).toBe(200);
  graft.clock.advance(LATER_MS);
};

const alias = async (name: string, target: string) => {
  expect((await graft.request('/admin/alias', { body: { name, target } })).status).toBe(200);
  graft.clock.advance(LATER_MS);
};

/** The origin cannot run any chain with the file. */
const breakAt = ({ digest }: TinyAdapter) => {
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init) =>
    path.startsWith('/v1/') && String(init.body).includes(digest)
      ? Response.json(
          { error: { message: 'x', type: 'x', param: null, code: 'adapter_unavailable' } },
          { status: 503, headers: { 'retry-after': '1' } },
        )
      : answer(method, path, init);
};

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  key = await makeKey({});
  const publish = async (name: string, adapter: TinyAdapter, parent?: string) => {
    const made = await graft.publish(name, adapter, { owner, ...(parent === undefined ? {} : { parent }) });
    expect(made.status).toBe(201);
    return ((await made.json()) as { chain_id: string }).chain_id;
  };
  const root = await publish('medicine', medicine);
  const cardiology = tinyAdapter({ seed: 2, parent: root });
  const middle = await publish('medicine/cardiology', cardiology, 'medicine');
  const lee = tinyAdapter({ seed: 3, parent: middle });
  await publish('medicine/cardiology/lee', lee, 'medicine/cardiology');
  files = { cardiology, lee };
  graft.clock.advance(LATER_MS);
});

describe('a strict name', () => {
  it('serves no missing name below it, nor does anything above it', async () => {
    expect(await served('medicine/cardiology/none')).toBe('medicine/cardiology@1^');
    await mark('medicine/cardiology');
    expect(await served('medicine/cardiology/none')).toBe(404);
    expect(await served('medicine/cardiology/none/at/all')).toBe(404);
    expect(await served('medicine/none')).toBe('medicine@1^');
    expect(await served('medicine/cardiology/lee/none')).toBe('medicine/cardiology/lee@1^');
    await mark('medicine/cardiology', false);
    expect(await served('medicine/cardiology/none')).toBe('medicine/cardiology@1^');
  });

  it('is like a strict request, word for word', async () => {
    const strictly = await ask('medicine/cardiology/none', { strict: true });
    await mark('medicine/cardiology');
    const fenced = await ask('medicine/cardiology/none');
    expect(fenced.status).toBe(404);
    expect(await fenced.text()).toBe(await strictly.text());
  });

  it('otherwise works as before: itself, pinned, by an alias, as a parent, as an adapter of the request', async () => {
    await mark('medicine/cardiology');
    await alias('best', 'medicine/cardiology');
    expect(await served('best')).toBe('medicine/cardiology@1');
    expect(await served('medicine/cardiology')).toBe('medicine/cardiology@1');
    expect(await served('medicine/cardiology@1')).toBe('medicine/cardiology@1');
    expect(await served('medicine/cardiology/lee')).toBe('medicine/cardiology/lee@1');
    expect(await served('medicine', { adapters: [{ name: 'medicine/cardiology' }] })).toBe('medicine@1');
    const child = tinyAdapter({ seed: 4, parent: await chainIdOf('medicine/cardiology') });
    const published = await graft.publish('medicine/cardiology/new', child, {
      owner,
      parent: 'medicine/cardiology',
    });
    expect(published.status).toBe(201);
  });

  it('that the caller may not use is like a missing one', async () => {
    const guest = await makeKey({ tenant: 'guest', scopes: ['medicine'] });
    await mark('medicine/cardiology');
    expect(await served('medicine/cardiology/none', {}, guest)).toBe('medicine@1^');
    expect(await served('medicine/nowhere/none', {}, guest)).toBe('medicine@1^');
    const friend = await makeKey({ tenant: 'guest', scopes: ['medicine/**'] });
    expect(await served('medicine/cardiology/none', {}, friend)).toBe(404);
  });

  it('makes its aliases equally strict for names below them', async () => {
    await alias('best', 'medicine/cardiology');
    expect(await served('best/none')).toBe('medicine/cardiology@1^');
    await mark('medicine/cardiology');
    expect(await served('best')).toBe('medicine/cardiology@1');
    expect(await served('best/none')).toBe(404);
  });
});

describe('an unavailable adapter of a key that falls back to ancestors', () => {
  let taker: string;
  beforeEach(async () => {
    taker = await makeKey({ degrade: 'ancestor' });
  });

  it('has neither a strict name nor anything above it as a fallback', async () => {
    breakAt(files.lee);
    expect(await served('medicine/cardiology/lee', {}, taker)).toBe('medicine/cardiology@1^!ancestor');
    await mark('medicine/cardiology');
    expect(await served('medicine/cardiology/lee', {}, taker)).toBe(503);
  });

  it('has only those below a strict name as fallbacks', async () => {
    breakAt(files.lee);
    breakAt(files.cardiology);
    expect(await served('medicine/cardiology/lee', {}, taker)).toBe('medicine@1^!ancestor');
    await mark('medicine');
    expect(await served('medicine/cardiology/lee', {}, taker)).toBe(503);
  });

  it('of a strict name itself has fallbacks as before', async () => {
    await mark('medicine/cardiology');
    breakAt(files.cardiology);
    expect(await served('medicine/cardiology', {}, taker)).toBe('medicine@1^!ancestor');
  });

  it('has no fallback above a name that is unreadable and may be strict', async () => {
    graft.kv.tamper('name:medicine/cardiology/lee', () => 'odd');
    expect(await served('medicine/cardiology/lee', {}, taker)).toBe('medicine/cardiology@1^!ancestor');
    // Another isolate, with empty caches.
    graft = await createAppHarness({ beside: graft });
    graft.kv.tamper('name:medicine/cardiology', () => 'odd');
    graft.clock.advance(LATER_MS);
    expect(await served('medicine/cardiology/lee', {}, taker)).toBe(503);
    expect(await served('medicine/cardiology/none', {}, taker)).toBe(503);
  });

  it('has a readable fallback even if another one might be nearer', async () => {
    const guest = await makeKey({ tenant: 'guest', scopes: ['medicine'], degrade: 'ancestor' });
    await served('medicine', {}, guest);
    graft.clock.advance(LATER_MS);
    for (const grants of ['grant:guest', 'grant:*']) graft.kv.tamper(grants, () => 'odd');
    graft.kv.tamper('name:medicine/cardiology/lee', () => 'odd');
    expect(await served('medicine/cardiology/lee', {}, guest)).toBe('medicine@1^!ancestor');
    await mark('medicine/cardiology');
    expect(await served('medicine/cardiology/lee', {}, guest)).toBe(503);
  });
});

async function chainIdOf(name: string): Promise<string> {
  const read = await graft.request(`/admin/versions?name=${encodeURIComponent(name)}`);
  return ((await read.json()) as { versions: { chain_id: string }[] }).versions[0]?.chain_id ?? '';
}
