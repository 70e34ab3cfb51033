import { beforeEach, describe, expect, it, vi } from 'vitest';
import { chainId } from '../../../protocol/identity.ts';
import { MAX_COMPOSED } from '../../../protocol/limits.ts';
import { TINY_BASE, tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Longer than KV can be stale. */
const LATER_MS = 61_000;

const adapters = {
  medicine: tinyAdapter({ seed: 1 }),
  second: tinyAdapter({ seed: 2 }),
  style: tinyAdapter({ seed: 3 }),
  rival: tinyAdapter({ seed: 4 }),
};
let cardiology: TinyAdapter;
let graft: AppHarness;
let key: string;

const makeKey = async (body: object): Promise<string> => {
  const made = await graft.request('/admin/keys', { body });
  return ((await made.json()) as { key: string }).key;
};

const ask = (model: string, more: object = {}, withKey = key) =>
  graft.request('/v1/chat/completions', {
    key: withKey,
    body: { model, messages: [{ role: 'user', content: 'hi' }], ...more },
  });

/** The status, and what the headers say about what served it. */
async function served(response: Response) {
  await response.arrayBuffer();
  const labels = Object.fromEntries(
    ['adapter', 'alias', 'composed', 'degraded', 'inherited'].flatMap((label) => {
      const value = response.headers.get(`x-graft-${label}`);
      return value === null ? [] : [[label, value]];
    }),
  );
  return { status: response.status, ...labels };
}

const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; message: string; param?: string } }).error;

/** Digests and scales of the origin's last request. */
let ran: { digest: string; scale: number }[];

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init) => {
    if (path.startsWith('/v1/'))
      ran = (JSON.parse(init.body as string) as { graft: { chain: typeof ran } }).graft.chain;
    return answer(method, path, init);
  };
  key = await makeKey({ tenant: 'clinic' });
  const owner = 'clinic';
  const root = await graft.publish('medicine', adapters.medicine, { owner });
  expect(root.status).toBe(201);
  const { chain_id: parent } = (await root.json()) as { chain_id: string };
  cardiology = tinyAdapter({ seed: 5, parent });
  const child = await graft.publish('medicine/cardiology', cardiology, { owner, parent: 'medicine' });
  expect(child.status).toBe(201);
  expect((await graft.publish('style', adapters.style, { owner })).status).toBe(201);
  expect((await graft.publish('rival', adapters.rival, { owner: 'rival' })).status).toBe(201);
  graft.clock.advance(LATER_MS);
});

describe('a missing name', () => {
  it('is served by its nearest ancestor, and the headers say so', async () => {
    expect(await served(await ask('medicine/cardiology/dr-lee/night'))).toEqual({
      status: 200,
      adapter: 'medicine/cardiology@1',
      inherited: 'true',
    });
    expect(ran.map(({ digest }) => digest)).toEqual([adapters.medicine.digest, cardiology.digest]);
    expect(await served(await ask('medicine/lungs'))).toEqual({
      status: 200,
      adapter: 'medicine@1',
      inherited: 'true',
    });
    expect(await served(await ask('medicine/cardiology'))).toEqual({
      status: 200,
      adapter: 'medicine/cardiology@1',
    });
  });

  it('costs two reads of its own and two for all of its ancestors', async () => {
    await ask('medicine');
    graft.clock.advance(LATER_MS);
    graft.kv.reads = 0;
    await ask('medicine/a/b/c/d/e/f');
    // Key and name, grants of the tenant and of everybody, the ancestors, and what is behind all of these.
    expect(graft.kv.reads).toBe(7);
    graft.clock.advance(LATER_MS);
    graft.kv.reads = 0;
    await ask('medicine');
    expect(graft.kv.reads).toBe(2);
  });

  it('does not inherit if the request or the key is strict, or a version is given', async () => {
    expect((await ask('medicine/lungs', { strict: true })).status).toBe(404);
    expect((await ask('medicine/lungs@1')).status).toBe(404);
    const strict = await makeKey({ tenant: 'clinic', strict: true });
    expect((await ask('medicine/lungs', {}, strict)).status).toBe(404);
    expect((await ask('medicine/lungs', { strict: false }, strict)).status).toBe(404);
    expect((await ask('medicine', { strict: true }, strict)).status).toBe(200);
  });

  it('is 404 without an ancestor, with names that the key may use', async () => {
    const { code, message } = await errorOf(await ask('medicin'));
    expect(code).toBe('model_not_found');
    expect(message).toContain("'medicine'");
    const { message: other } = await errorOf(await ask('riva'));
    expect(other).not.toContain('rival');
  });

  it('is found as soon as it is published here, whatever KV remembers', async () => {
    expect((await ask('medicine/lungs')).headers.get('x-graft-inherited')).toBe('true');
    await graft.publish('medicine/lungs', adapters.second, { owner: 'clinic' });
    expect(await served(await ask('medicine/lungs'))).toEqual({ status: 200, adapter: 'medicine/lungs@1' });
  });

  it('asks the database once in half a minute', async () => {
    const pointer = vi.spyOn(graft.services.registry, 'pointer');
    for (let i = 0; i < 3; i += 1) await ask('medicine/lungs');
    expect(pointer).toHaveBeenCalledTimes(1);
  });
});

describe('a name of another tenant', () => {
  it('is skipped by inheritance, like a missing one', async () => {
    await graft.publish('medicine/cardiology', adapters.second, { owner: 'clinic' });
    const guest = await makeKey({ tenant: 'guest', scopes: ['medicine'] });
    const expected = { status: 200, adapter: 'medicine@1', inherited: 'true' };
    expect(await served(await ask('medicine/cardiology', {}, guest))).toEqual(expected);
    expect(await served(await ask('medicine/nowhere', {}, guest))).toEqual(expected);
  });

  it('gets the same answer as a missing one, word for word except for the name', async () => {
    for (const [theirs, nobodys] of [
      ['rival', 'rivax'],
      ['rival@1', 'rivax@1'],
    ] as const)
      for (const more of [{}, { strict: true }]) {
        const forbidden = await ask(theirs, more);
        const absent = await ask(nobodys, more);
        expect(forbidden.status).toBe(404);
        expect((await forbidden.text()).replaceAll(theirs, nobodys)).toBe(await absent.text());
        const headers = ({ headers }: Response) =>
          [...headers].filter(([name]) => name !== 'x-request-id' && name !== 'content-length');
        expect(headers(forbidden)).toEqual(headers(absent));
      }
  });
});

describe('an alias', () => {
  const alias = async (name: string, target: string | null) =>
    graft.request('/admin/alias', {
      key: await makeKey({ kind: 'admin', tenant: 'clinic' }),
      body: { name, target },
    });

  it('is followed once, and the headers say so', async () => {
    expect((await alias('best', 'medicine/cardiology')).status).toBe(200);
    graft.clock.advance(LATER_MS);
    expect(await served(await ask('best'))).toEqual({
      status: 200,
      adapter: 'medicine/cardiology@1',
      alias: 'best',
    });
    expect(await served(await ask('medicine', { adapters: [{ name: 'best' }] }))).toMatchObject({
      status: 200,
      composed: 'medicine/cardiology@1=1',
    });
  });

  it('gives no right to its target', async () => {
    const { registry, pointers } = graft.services;
    const note = { actor: 'x', at: graft.clock.now() };
    await registry.alias({ ...note, before: null, name: 'qqqq', owner: 'clinic', target: 'rival' });
    await pointers.sync('qqqq');
    graft.clock.advance(LATER_MS);
    const forbidden = await ask('qqqq');
    expect(forbidden.status).toBe(404);
    expect((await forbidden.text()).replaceAll('qqqq', 'qqqx')).toBe(await (await ask('qqqx')).text());
  });

  it('of an alias is not followed', async () => {
    const { registry, pointers } = graft.services;
    const note = { actor: 'x', at: graft.clock.now(), owner: 'clinic' };
    await registry.alias({ ...note, before: null, name: 'one', target: 'two' });
    await registry.alias({ ...note, before: null, name: 'two', target: 'medicine' });
    for (const name of ['one', 'two']) await pointers.sync(name);
    graft.clock.advance(LATER_MS);
    expect((await ask('two')).status).toBe(200);
    expect((await ask('one')).status).toBe(404);
  });

  it('that has ended is missing', async () => {
    await alias('medicine/best', 'style');
    graft.clock.advance(LATER_MS);
    expect((await ask('medicine/best')).headers.get('x-graft-adapter')).toBe('style@1');
    expect((await alias('medicine/best', null)).status).toBe(200);
    graft.clock.advance(LATER_MS);
    expect(await served(await ask('medicine/best'))).toEqual({
      status: 200,
      adapter: 'medicine@1',
      inherited: 'true',
    });
  });
});

describe('a pinned version', () => {
  beforeEach(async () => {
    await graft.publish('style', adapters.second, { owner: 'clinic' });
    graft.clock.advance(LATER_MS);
  });

  it('is served whatever version is live', async () => {
    expect(await served(await ask('style'))).toEqual({ status: 200, adapter: 'style@2' });
    expect(await served(await ask('style@1'))).toEqual({ status: 200, adapter: 'style@1' });
    expect(ran.map(({ digest }) => digest)).toEqual([adapters.style.digest]);
    expect((await ask('style@3')).status).toBe(404);
  });

  it('is refused once it is retired', async () => {
    await ask('style@1');
    const retired = await graft.request('/admin/retire', { body: { name: 'style', version: 1 } });
    expect(retired.status).toBe(200);
    expect((await ask('style@1')).status).toBe(404);
    expect((await ask('medicine', { adapters: [{ name: 'style@1' }] })).status).toBe(404);
  });

  it('that was read before is served while the database is down', async () => {
    await ask('style@1');
    vi.spyOn(graft.services.registry, 'version').mockRejectedValue(new Error('D1 down'));
    expect(await served(await ask('style@1'))).toEqual({
      status: 200,
      adapter: 'style@1',
      degraded: 'stale',
    });
    expect((await ask('style@2')).status).toBe(503);
  });
});

describe('adapters of the request', () => {
  it('are appended to the chain, along with everything that they are built on', async () => {
    const response = await ask('style', {
      adapters: [{ name: 'medicine/cardiology', scale: 0.5 }],
    });
    expect(response.headers.get('x-graft-chain')).toBe(await chainId(ran));
    expect(await served(response)).toEqual({
      status: 200,
      adapter: 'style@1',
      composed: 'medicine/cardiology@1=0.5',
    });
    expect(ran).toEqual([
      { digest: adapters.style.digest, scale: 1 },
      { digest: adapters.medicine.digest, scale: 0.5 },
      { digest: cardiology.digest, scale: 0.5 },
    ]);
  });

  it('work with the base, and share parents', async () => {
    expect(await served(await ask('base', { adapters: [{ name: 'style@1', scale: -1 }] }))).toEqual({
      status: 200,
      adapter: 'base',
      composed: 'style@1=-1',
    });
    expect(ran).toEqual([{ digest: adapters.style.digest, scale: -1 }]);
    await ask('medicine', { adapters: [{ name: 'medicine/cardiology', scale: 2 }] });
    expect(ran.map(({ scale }) => scale)).toEqual([1, 2]);
  });

  it('never reach the origin as fields', async () => {
    let sent: Record<string, unknown> = {};
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init) => {
      if (path.startsWith('/v1/'))
        sent = (JSON.parse(init.body as string) as { request: Record<string, unknown> }).request;
      return answer(method, path, init);
    };
    await ask('style', { strict: true, adapters: [{ name: 'medicine' }] });
    expect(Object.keys(sent).sort()).toEqual(['messages', 'model']);
  });

  it('are exactly those named: no ancestor’s, no other tenant’s', async () => {
    for (const name of ['medicine/lungs', 'rival', 'rival@1', 'nobody', 'UPPER', 'base', TINY_BASE.id]) {
      const response = await ask('style', { adapters: [{ name }] });
      expect([name, response.status]).toEqual([name, 404]);
      expect((await errorOf(response)).code).toBe('model_not_found');
    }
    const rival = await ask('style', { adapters: [{ name: 'rival' }] });
    const nobody = await ask('style', { adapters: [{ name: 'rivax' }] });
    expect((await rival.text()).replaceAll("'rival'", "'rivax'")).toBe(await nobody.text());
  });

  it('are limited by the base', async () => {
    const wide = tinyAdapter({ seed: 6, rank: 253 });
    expect((await graft.publish('wide', wide, { owner: 'clinic' })).status).toBe(201);
    graft.clock.advance(LATER_MS);
    expect((await ask('wide', { adapters: [{ name: 'style' }] })).status).toBe(200);
    const refused = await ask('wide', { adapters: [{ name: 'style' }, { name: 'medicine' }] });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: 'invalid_request', param: 'adapters' });
    const many = Array.from({ length: MAX_COMPOSED + 1 }, (_, i) => ({ name: `n${i}` }));
    expect((await ask('style', { adapters: many })).status).toBe(400);
  });

  it('work for text completions and responses too', async () => {
    for (const [path, body] of [
      ['/v1/completions', { prompt: 'hi' }],
      ['/v1/responses', { input: 'hi' }],
    ] as const) {
      const response = await graft.request(path, {
        key,
        body: { model: 'style', adapters: [{ name: 'medicine' }], ...body },
      });
      expect(await served(response)).toMatchObject({ status: 200, composed: 'medicine@1=1' });
    }
  });
});

describe('an unavailable adapter', () => {
  /** The origin cannot run any chain with cardiology. */
  const breakCardiology = () => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init) =>
      path.startsWith('/v1/') && String(init.body).includes(cardiology.digest)
        ? Response.json(
            { error: { message: 'x', type: 'x', param: null, code: 'adapter_unavailable' } },
            { status: 503, headers: { 'retry-after': '1' } },
          )
        : answer(method, path, init);
  };
  const keyWith = (degrade: string) => makeKey({ tenant: 'clinic', degrade });

  it.each([
    ['stale', { status: 503 }],
    ['refuse', { status: 503 }],
    ['ancestor', { status: 200, adapter: 'medicine@1', inherited: 'true', degraded: 'ancestor' }],
    ['base', { status: 200, adapter: 'base', degraded: 'base' }],
  ])('at the origin, policy %s', async (degrade, expected) => {
    breakCardiology();
    expect(await served(await ask('medicine/cardiology', {}, await keyWith(degrade)))).toMatchObject(
      expected,
    );
  });

  it.each([
    ['stale', { status: 503 }],
    ['refuse', { status: 503 }],
    ['ancestor', { status: 200, adapter: 'medicine@1', inherited: 'true', degraded: 'ancestor' }],
    ['base', { status: 200, adapter: 'base', degraded: 'base' }],
  ])('because its name cannot be read, policy %s', async (degrade, expected) => {
    const policyKey = await keyWith(degrade);
    await ask('medicine', {}, policyKey);
    graft.clock.advance(LATER_MS);
    graft.kv.tamper('name:medicine/cardiology', () => 'odd');
    expect(await served(await ask('medicine/cardiology', {}, policyKey))).toMatchObject(expected);
  });

  it.each(['stale', 'ancestor', 'base'])('policy %s: the last known version comes first', async (degrade) => {
    const policyKey = await keyWith(degrade);
    await ask('medicine/cardiology', {}, policyKey);
    graft.clock.advance(LATER_MS);
    graft.kv.trouble = 'throw';
    expect(await served(await ask('medicine/cardiology', {}, policyKey))).toEqual({
      status: 200,
      adapter: 'medicine/cardiology@1',
      degraded: 'stale',
    });
  });

  it('policy refuse: only a version that is known now', async () => {
    const policyKey = await keyWith('refuse');
    await ask('medicine/cardiology', {}, policyKey);
    graft.clock.advance(LATER_MS);
    graft.kv.trouble = 'throw';
    const response = await ask('medicine/cardiology', {}, policyKey);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2']);
  });

  it('a strict, pinned or composed request has no fallback', async () => {
    breakCardiology();
    for (const degrade of ['ancestor', 'base']) {
      const policyKey = await keyWith(degrade);
      expect((await ask('medicine/cardiology', { strict: true }, policyKey)).status).toBe(503);
      expect((await ask('medicine/cardiology@1', {}, policyKey)).status).toBe(503);
      const composed = { adapters: [{ name: 'medicine/cardiology' }] };
      expect((await ask('style', composed, policyKey)).status).toBe(503);
    }
  });
});

describe('GET /v1/models', () => {
  it('finds exactly the name or nothing', async () => {
    const get = (path: string) => graft.request(`/v1/models${path}`, { key });
    expect((await get('/medicine/cardiology')).status).toBe(200);
    expect((await get('/medicine%2Fcardiology')).status).toBe(200);
    expect((await get('/medicine/lungs')).status).toBe(404);
    expect((await get('/rival')).status).toBe(404);
  });
});
