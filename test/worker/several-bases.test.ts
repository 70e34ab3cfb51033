/** Several bases behind one edge, on the fakes: which pool each request is asked of, and what is refused. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ExperimentView } from '../../protocol/admin-api/experiments.ts';
import type { ErrorBody } from '../../protocol/api-error.ts';
import type { ModelList } from '../../protocol/completion-answers.ts';
import { LOAD_HEADER, writeLoad } from '../../protocol/origin-wire.ts';
import { TINY_BASE, tinyAdapter, type TinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness } from './app-harness.ts';
import { createTwoPools, LARGE_BASE, type TwoPools } from './two-pools.ts';

const FULL = writeLoad({ rows: 16, slots: 16, draining: false });

let pools: TwoPools;
let key: string;

const tiny = (seed: number, parent: string | null = null) => tinyAdapter({ seed, parent });
const large = (seed: number, parent: string | null = null) =>
  tinyAdapter({ seed, parent, base: LARGE_BASE.id });

const publish = async (name: string, adapter: TinyAdapter, more: object = {}) => {
  const response = await pools.graft.publish(name, adapter, more);
  const body = (await response.json()) as { chain_id: string } & ErrorBody;
  return { status: response.status, chainId: body.chain_id, error: body.error };
};
const published = async (...args: Parameters<typeof publish>) => {
  const { status, chainId, error } = await publish(...args);
  expect({ status, error }).toEqual({ status: 201, error: undefined });
  return chainId;
};
const post = async (path: string, body: object, as = key) => pools.graft.request(path, { key: as, body });
const chat = (model: string, more: object = {}) =>
  post('/v1/chat/completions', { model, messages: [{ role: 'user', content: 'hi' }], ...more });
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;
const makeKey = async (more: object = {}) => {
  const made = await pools.graft.request('/admin/keys', {
    body: { tenant: 'default', scopes: ['**'], ...more },
  });
  return ((await made.json()) as { key: string }).key;
};
/** Origins that were asked by POST for this path, in order. */
const askedFor = (path: string) =>
  pools.asked.filter((line) => line.endsWith(`POST ${path}`)).map((line) => line.split(' ')[0]);
const served = ({ headers, status }: Response) => [
  status,
  headers.get('x-graft-adapter'),
  headers.get('x-graft-base'),
];

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  pools = await createTwoPools();
  key = await makeKey();
});

describe('a completion', () => {
  it('is asked of the pool of its name, of its base, or of the default one', async () => {
    await published('notes', tiny(1));
    await published('letters', large(2));
    pools.asked.length = 0;
    expect(served(await chat('notes'))).toEqual([200, 'notes@1', TINY_BASE.id]);
    expect(served(await chat('letters'))).toEqual([200, 'letters@1', LARGE_BASE.id]);
    expect(served(await chat('letters@1'))).toEqual([200, 'letters@1', LARGE_BASE.id]);
    expect(served(await chat(LARGE_BASE.id))).toEqual([200, 'base', LARGE_BASE.id]);
    expect(served(await chat(TINY_BASE.id))).toEqual([200, 'base', TINY_BASE.id]);
    expect(served(await chat('base'))).toEqual([200, 'base', TINY_BASE.id]);
    const origins = askedFor('/v1/chat/completions');
    expect(origins.map((id) => id?.charAt(0))).toEqual(['t', 'l', 'l', 'l', 't', 't']);
  });

  it('means the base that is configured where it says `base`', async () => {
    pools = await createTwoPools({ defaultBase: LARGE_BASE.id });
    key = await makeKey();
    expect(served(await chat('base'))).toEqual([200, 'base', LARGE_BASE.id]);
    expect(served(await chat(TINY_BASE.id))).toEqual([200, 'base', TINY_BASE.id]);
    const models = (await (await pools.graft.request('/v1/models', { key })).json()) as ModelList;
    expect(models.data.map(({ id }) => id)).toEqual([LARGE_BASE.id, TINY_BASE.id]);
  });

  it('is refused while no origin of its pool answers, and that of the other pool is not', async () => {
    await published('notes', tiny(1));
    await published('letters', large(2));
    pools.gone.add('l1').add('l2');
    for (const model of ['letters', LARGE_BASE.id]) {
      const refused = await chat(model);
      expect(refused.status).toBe(503);
      expect(refused.headers.get('retry-after')).not.toBeNull();
      expect((await errorOf(refused)).code).toBe('origin_unavailable');
    }
    expect(served(await chat('notes'))).toEqual([200, 'notes@1', TINY_BASE.id]);
    pools.gone.delete('l2');
    expect(served(await chat('letters'))).toEqual([200, 'letters@1', LARGE_BASE.id]);
  });

  it('is never run by an origin that turns out to serve another base', async () => {
    pools.serves.set('l1', TINY_BASE);
    for (let i = 0; i < 4; i += 1) {
      const response = await chat(LARGE_BASE.id);
      expect([response.status, response.headers.get('x-graft-origin')]).toEqual([200, 'l2']);
    }
    pools.serves.set('l2', TINY_BASE);
    expect((await chat(LARGE_BASE.id)).status).toBe(503);
  });

  it('is 503 by a name whose base was taken out of the configuration, and the reason says so', async () => {
    await published('letters', large(2));
    const { request } = await createAppHarness({
      beside: pools.graft,
      origins: [{ id: 't1', url: 'http://t1.test', base: TINY_BASE.id }],
    });
    const body = { model: 'letters', messages: [{ role: 'user', content: 'hi' }] };
    const refused = await request('/v1/chat/completions', { key, body });
    expect(refused.status).toBe(503);
    const error = await errorOf(refused);
    expect(error.code).toBe('origin_unavailable');
    expect(error.message).toContain(`'${LARGE_BASE.id}'`);
    for (const path of ['/admin/verify', '/admin/warm'])
      expect((await request(path, { body: { name: 'letters', version: 1 } })).status).toBe(503);
  });

  it('composes adapters of one base only', async () => {
    await published('notes', tiny(1));
    await published('letters', large(2));
    await published('style', large(3));
    const mixed = await chat('letters', { adapters: [{ name: 'notes', scale: 0.5 }] });
    expect(mixed.status).toBe(400);
    expect(await errorOf(mixed)).toMatchObject({ code: 'invalid_request', param: 'adapters' });
    expect((await chat('base', { adapters: [{ name: 'style', scale: 1 }] })).status).toBe(400);
    expect(served(await chat('letters', { adapters: [{ name: 'style', scale: 1 }] }))[2]).toBe(LARGE_BASE.id);
    expect(served(await chat(LARGE_BASE.id, { adapters: [{ name: 'style', scale: 1 }] }))[2]).toBe(
      LARGE_BASE.id,
    );
  });
});

describe('GET /v1/models', () => {
  const ids = async (query = '') => {
    const response = await pools.graft.request(`/v1/models${query}`, { key });
    return ((await response.json()) as ModelList).data.map(({ id }) => id);
  };

  it('lists the bases first, also while one does not answer, and goes on behind them', async () => {
    await published('notes', tiny(1));
    await published('letters', large(2));
    pools.gone.add('l1').add('l2');
    expect(await ids()).toEqual([TINY_BASE.id, LARGE_BASE.id, 'letters', 'notes']);
    expect(await ids(`?after=${TINY_BASE.id}`)).toEqual([LARGE_BASE.id, 'letters', 'notes']);
    expect(await ids(`?after=${LARGE_BASE.id}`)).toEqual(['letters', 'notes']);
    expect(await ids('?prefix=l')).toEqual([LARGE_BASE.id, 'letters']);
    const one = await pools.graft.request('/v1/models/letters', { key });
    expect(await one.json()).toMatchObject({ root: LARGE_BASE.id, parent: LARGE_BASE.id });
    const base = await pools.graft.request(`/v1/models/${LARGE_BASE.id}`, { key });
    expect(await base.json()).toMatchObject({ id: LARGE_BASE.id, root: LARGE_BASE.id });
  });
});

describe('publishing', () => {
  it('has an origin of the base try it, and says which bases there are when there is none', async () => {
    await published('letters', large(2));
    const trials = pools.asked.filter((line) => line.endsWith('/verify'));
    expect(trials).toHaveLength(1);
    expect(trials[0]).toMatch(/^l/);
    const foreign = await publish('other', tinyAdapter({ seed: 3, base: 'elsewhere-7b' }));
    expect(foreign).toMatchObject({
      status: 422,
      error: { code: 'adapter_invalid', reason: 'base_mismatch' },
    });
    expect(foreign.error.message).toContain(`${TINY_BASE.id}, ${LARGE_BASE.id}`);
    expect((await publish(LARGE_BASE.id, large(4))).error).toMatchObject({ reason: 'name_reserved' });
  });

  it('waits for an origin of its own base, and for no other', async () => {
    pools.gone.add('l1').add('l2');
    expect(await publish('letters', large(2))).toMatchObject({
      status: 503,
      error: { code: 'origin_unavailable' },
    });
    await published('notes', tiny(1));
  });

  it('refuses a child on another base than its parent', async () => {
    const parent = await published('notes', tiny(1));
    const child = await publish('notes/child', large(2, parent), { parent: 'notes' });
    expect(child).toMatchObject({
      status: 422,
      error: { code: 'adapter_invalid', reason: 'base_mismatch', param: 'parent' },
    });
    expect(child.error.message).toContain("'notes@1'");
    await published('notes/child', tiny(3, parent), { parent: 'notes' });
  });

  it('moves a name to another base and back', async () => {
    await published('notes', tiny(1));
    await published('notes', large(2));
    expect(served(await chat('notes'))).toEqual([200, 'notes@2', LARGE_BASE.id]);
    expect(served(await chat('notes@1'))).toEqual([200, 'notes@1', TINY_BASE.id]);
    expect((await pools.graft.request('/admin/rollback', { body: { name: 'notes' } })).status).toBe(200);
    // As long as a pointer may be remembered.
    pools.graft.clock.advance(120_000);
    expect(served(await chat('notes'))).toEqual([200, 'notes@1', TINY_BASE.id]);
    // What was elsewhere is loaded where the name is asked for now.
    await pools.graft.settled();
    expect(askedFor('/adapters/prefetch').map((id) => id?.charAt(0))).toEqual(['l', 't']);
  });
});

describe('an ancestor', () => {
  it('answers for a missing name on its own base, and never below one of another', async () => {
    await published('a', tiny(1));
    await published('a/b', large(2));
    expect(served(await chat('a/b/c'))).toEqual([200, 'a/b@1', LARGE_BASE.id]);
    expect(served(await chat('a/x'))).toEqual([200, 'a@1', TINY_BASE.id]);
  });

  it('of another base stands in for nothing', async () => {
    const root = await published('a', tiny(1));
    await published('a/tiny', tiny(2, root), { parent: 'a' });
    await published('a/large', large(3));
    const degrading = await makeKey({ degrade: 'ancestor' });
    const lost = { error: { code: 'adapter_unavailable', message: 'its file cannot be read' } };
    const answer = pools.graft.origin.answer;
    pools.graft.origin.answer = async (method, path, init, url) => {
      const normal = await answer(method, path, init, url);
      const leaf = pools.ran.at(-1)?.model;
      return path.startsWith('/v1/') && pools.ran.at(-1)?.chain.length !== 1 && leaf === 'a/tiny'
        ? Response.json(lost, { status: 503 })
        : path.startsWith('/v1/') && leaf === 'a/large'
          ? Response.json(lost, { status: 503 })
          : normal;
    };
    const ask = (model: string) =>
      post('/v1/chat/completions', { model, messages: [{ role: 'user', content: 'hi' }] }, degrading);
    expect(served(await ask('a/tiny'))).toEqual([200, 'a@1', TINY_BASE.id]);
    const refused = await ask('a/large');
    expect([refused.status, (await errorOf(refused)).code]).toEqual([503, 'adapter_unavailable']);
  });

  it('the base that stands in is the name’s own', async () => {
    await published('letters', large(2));
    const degrading = await makeKey({ degrade: 'base' });
    const answer = pools.graft.origin.answer;
    pools.graft.origin.answer = async (method, path, init, url) => {
      const normal = await answer(method, path, init, url);
      return path.startsWith('/v1/') && pools.ran.at(-1)?.chain.length !== 0
        ? Response.json({ error: { code: 'adapter_unavailable', message: 'lost' } }, { status: 503 })
        : normal;
    };
    const response = await post(
      '/v1/chat/completions',
      { model: 'letters', messages: [{ role: 'user', content: 'hi' }] },
      degrading,
    );
    expect(served(response)).toEqual([200, 'base', LARGE_BASE.id]);
    expect(response.headers.get('x-graft-degraded')).toBe('base');
  });
});

describe('an experiment', () => {
  it('compares versions for two bases, each in its pool', async () => {
    const { graft } = pools;
    await published('notes', tiny(1));
    await published('notes', large(2), { stage: true });
    const send = async (path: string, body: object = {}) => {
      const response = await graft.request(`/admin/experiments${path}`, { body });
      const view: unknown = await response.json();
      expect([200, 201], JSON.stringify(view)).toContain(response.status);
      return ExperimentView.parse(view);
    };
    const { id } = await send('', {
      name: 'notes',
      unit: 'user',
      variants: [
        { key: 'control', adapter: 'notes@1', weight: 0.5 },
        { key: 'treatment', adapter: 'notes@2', weight: 0.5 },
      ],
    });
    await send(`/${id}/start`);
    graft.clock.advance(120_000);
    const seen = new Set<string>();
    for (let i = 0; i < 16; i += 1) {
      const response = await chat('notes', { user: `user-${i}` });
      seen.add(`${response.headers.get('x-graft-variant')}: ${served(response).join(' ')}`);
    }
    expect([...seen].sort()).toEqual([
      `control: 200 notes@1 ${TINY_BASE.id}`,
      `treatment: 200 notes@2 ${LARGE_BASE.id}`,
    ]);
  });

  it('asks for room in the pool of what it asks', async () => {
    const { origins } = pools.graft.services;
    const { answer } = pools.graft.origin;
    pools.graft.origin.answer = async (...call) => {
      const response = await answer(...call);
      const url = call[3] ?? '';
      if (url.includes('t1.test')) response.headers.set(LOAD_HEADER, FULL);
      return response;
    };
    await chat(TINY_BASE.id);
    await chat(LARGE_BASE.id);
    expect(origins.hasRoom(TINY_BASE.id)).toBe(false);
    expect(origins.hasRoom(null)).toBe(false);
    expect(origins.hasRoom(LARGE_BASE.id)).toBe(true);
  });
});

describe('what else is asked of origins', () => {
  it('goes to the pool of its model: embeddings, tokens, counts', async () => {
    await published('letters', large(2));
    pools.asked.length = 0;
    expect((await post('/v1/embeddings', { model: 'letters', input: 'hi' })).status).toBe(200);
    expect((await post('/tokenize', { model: 'letters', prompt: 'hi' })).status).toBe(200);
    expect((await post('/detokenize', { model: LARGE_BASE.id, tokens: [1] })).status).toBe(200);
    expect(
      (
        await post('/v1/messages/count_tokens', {
          model: 'letters/missing',
          messages: [{ role: 'user', content: 'hi' }],
        })
      ).status,
    ).toBe(200);
    expect((await post('/v1/responses/input_tokens', { model: 'letters', input: 'hi' })).status).toBe(200);
    expect(pools.asked.filter((line) => line.includes(' POST ')).every((line) => line.startsWith('l'))).toBe(
      true,
    );
    expect((await post('/tokenize', { prompt: 'hi' })).status).toBe(200);
    expect(pools.asked.at(-1)).toBe('t1 POST /tokenize');
    expect((await post('/tokenize', { model: 'nobody', prompt: 'hi' })).status).toBe(404);
  });

  it('pins, warms, verifies and scores in the pool of the name', async () => {
    await published('letters', large(2));
    await published('notes', tiny(1));
    const { graft } = pools;
    pools.asked.length = 0;
    const pinned = await graft.request('/admin/pins', { body: { name: 'letters' } });
    expect(await pinned.json()).toMatchObject({ pins: [{ origins: [{ id: 'l1' }, { id: 'l2' }] }] });
    expect(askedFor('/adapters/pins').sort()).toEqual(['l1', 'l2']);
    const warmed = await graft.request('/admin/warm', { body: { name: 'notes', version: 1 } });
    expect(await warmed.json()).toMatchObject({ origins: [{ id: 't1' }] });
    const verified = await graft.request('/admin/verify', { body: { name: 'letters', version: 1 } });
    expect(await verified.json()).toMatchObject({
      origins: [
        { id: 'l1', ok: true },
        { id: 'l2', ok: true },
      ],
    });
    const { digest } = large(2);
    const rows = [{ prompt: 'a', expected: 'b' }];
    await graft.request('/admin/evaluate', { body: { digest, rows } });
    expect(pools.asked.at(-1)).toMatch(new RegExp(`^l\\d POST /adapters/${digest}/evaluate$`));
  });

  it('says of each origin what it should serve and what it does', async () => {
    pools.serves.set('l2', TINY_BASE);
    pools.gone.add('l1');
    const { origins } = (await (await pools.graft.request('/admin/origins')).json()) as {
      origins: { id: string; configured_base: string; base: { id: string } | null }[];
    };
    expect(origins.map(({ id, configured_base, base }) => [id, configured_base, base?.id ?? null])).toEqual([
      ['t1', TINY_BASE.id, TINY_BASE.id],
      ['l1', LARGE_BASE.id, null],
      ['l2', LARGE_BASE.id, TINY_BASE.id],
    ]);
  });
});
