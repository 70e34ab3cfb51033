/** The edge in workerd before two origins: failing over, streams that break off, and what the logs say of it all. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { parseSigningKeys } from '../../protocol/signature.ts';
import { LOCATION_CACHE_MS, SHORT_MEMORY_MS } from '../../worker/limits.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import { keyKey } from '../../worker/registry/kv-indexes.ts';
import { startFakeOrigin, type FakeOrigin } from '../fakes/fake-origin.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, MAC_KEY, ORIGIN_KEYS, startTestEdge, type TestEdge } from './edge-harness.ts';

interface Line {
  event: string;
  level?: string;
  [field: string]: unknown;
}

let graft: TestEdge;
let other: FakeOrigin;
let key: string;

const PROMPT = 'the patient in 4417 has a fever';
const post = (model: string, more: object = {}, headers: Record<string, string> = {}) =>
  graft.request('/v1/chat/completions', {
    method: 'POST',
    key,
    headers,
    body: chat(model, { messages: [{ role: 'user', content: PROMPT }], ...more }),
  });

/** Lines of the edge's log so far. */
const lines = (): Line[] =>
  graft.logs.flatMap((text) =>
    text.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Line] : [])),
  );
/** The line of a request, once it is there. */
async function lineOf(response: Response): Promise<Line> {
  const id = response.headers.get('x-request-id');
  const find = () => lines().find((line) => line.event === 'request' && line['request_id'] === id);
  await expect.poll(find).toBeDefined();
  return find() as Line;
}

beforeAll(async () => {
  other = await startFakeOrigin({ id: 'o2', keys: parseSigningKeys(ORIGIN_KEYS), base: TINY_BASE });
  graft = await startTestEdge({
    moreOrigins: [{ id: 'o2', url: other.url }],
    bindings: { LOG_SAMPLE: '1', KV_CACHE: 'on' },
  });
  key = await graft.makeKey({ tenant: 'default' });
  expect((await graft.publish({ name: 'medicine', adapter: tinyAdapter({ seed: 1 }) })).status).toBe(201);
});
afterAll(async () => {
  await graft.stop();
  await other.stop();
});

describe('logs', () => {
  it('follow one id through both parts, and say what served', async () => {
    const response = await post('medicine', {}, { 'x-request-id': 'trace-1' });
    await response.arrayBuffer();
    expect(response.headers.get('x-request-id')).toBe('trace-1');
    expect(response.headers.get('server-timing')).toMatch(/(^|, )origin;dur=\d+/);
    const served = [graft.origin, other].filter(({ log }) => log.completions.length > 0);
    expect(served[0]?.log.headers['x-request-id']).toBe('trace-1');
    expect(await lineOf(response)).toMatchObject({
      level: 'info',
      method: 'POST',
      route: '/v1/chat/completions',
      status: 200,
      tenant: 'default',
      name: 'medicine',
      version: 1,
      origin: response.headers.get('x-graft-origin'),
      chain: response.headers.get('x-graft-chain'),
      stream: false,
      prompt_tokens: 1,
      completion_tokens: 1,
    });
  });

  it('come when a stream has ended, and of what is refused', async () => {
    const streamed = await post('base', { stream: true });
    await streamed.text();
    expect(await lineOf(streamed)).toMatchObject({
      status: 200,
      stream: true,
      name: 'base',
      prompt_tokens: 1,
    });
    const unknown = await post('nobody/here');
    await unknown.arrayBuffer();
    expect(await lineOf(unknown)).toMatchObject({ status: 404, tenant: 'default' });
    const refused = await graft.request('/v1/chat/completions', { method: 'POST', key: 'gk_x', body: '{}' });
    await refused.arrayBuffer();
    expect(await lineOf(refused)).toMatchObject({ status: 401 });
  });

  it('have no key, no body and no path in them', () => {
    const text = graft.logs.join('\n');
    for (const secret of [key, graft.adminKey, PROMPT, 'nobody/here', ORIGIN_KEYS.split(':')[1] as string])
      expect(text).not.toContain(secret);
  });
});

describe('the cache of the location', () => {
  /** How long an isolate remembers a key, and its location's cache. */
  const [MEMORY_MS, CACHE_MS] = [SHORT_MEMORY_MS, LOCATION_CACHE_MS];
  const sealer = createSealer(Uint8Array.from(Buffer.from(MAC_KEY, 'base64')));
  const models = async (using: string): Promise<number> => {
    const response = await graft.request('/v1/models', { key: using });
    await response.arrayBuffer();
    return response.status;
  };

  it('answers in place of KV', async () => {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    for (;;) {
      const [secret, began] = [generateApiKey('gk'), Date.now()];
      const name = keyKey(await hashApiKey(secret));
      await kv.put(name, await sealer.seal(name, { id: 'key_far', tenant: 'default', scopes: ['**'] }));
      expect(await models(secret)).toBe(200);
      // As another location does it, which cannot tell this one.
      await kv.put(name, await sealer.seal(name, { gone: true }));
      await new Promise((resolve) => setTimeout(resolve, MEMORY_MS + 100));
      const status = await models(secret);
      if (Date.now() - began > CACHE_MS) continue;
      expect(status).toBe(200);
      return;
    }
  });

  it('forgets a key that is revoked here', async () => {
    const body = JSON.stringify({ tenant: 'default' });
    const made = (await (await graft.admin('/admin/keys', { method: 'POST', body })).json()) as {
      id: string;
      key: string;
    };
    expect(await models(made.key)).toBe(200);
    expect((await graft.admin(`/admin/keys/${made.id}`, { method: 'DELETE' })).status).toBe(204);
    expect(await models(made.key)).toBe(401);
  });
});

describe('origins that fail', () => {
  it('end a stream with an error event when they break off', async () => {
    for (const origin of [graft.origin, other]) origin.hold();
    const response = await post('base', { stream: true });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    let text = new TextDecoder().decode((await reader.read()).value);
    for (const origin of [graft.origin, other]) origin.cut();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += new TextDecoder().decode(value);
    }
    const last = text.split('\n\n').findLast((frame) => frame.startsWith('data: ')) ?? '';
    expect(JSON.parse(last.slice(6))).toMatchObject({ error: { code: 'origin_unavailable' } });
    expect(text).not.toContain('[DONE]');
    expect(await lineOf(response)).toMatchObject({ level: 'error', status: 502, name: 'base' });
    for (const origin of [graft.origin, other]) origin.release();
  });

  it('are passed over before the first byte, and the answer says who served', async () => {
    const { origin: mine } = graft;
    mine.drain();
    // Each origin is first for some names and some requests.
    for (let i = 0; i < 8; i += 1) {
      const response = await post(i % 2 === 0 ? 'medicine' : 'base', { stream: i % 4 < 2 });
      await response.arrayBuffer();
      expect([response.status, response.headers.get('x-graft-origin')]).toEqual([200, 'o2']);
    }
    await other.stop();
    const none = await post('medicine');
    expect([none.status, none.headers.get('retry-after')]).toEqual([503, '2']);
    expect(await none.json()).toMatchObject({ error: { code: 'origin_unavailable' } });
    expect(await lineOf(none)).toMatchObject({ level: 'error', status: 503, name: 'medicine' });
  });
});
