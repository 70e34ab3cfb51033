import { beforeEach, describe, expect, it, vi } from 'vitest';
import { parseSigningKeys } from '../../protocol/signature.ts';
import { createApp } from '../../worker/app.ts';
import { createOriginClient } from '../../worker/origins/client.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, verification, type AppHarness } from '../worker/app-harness.ts';
import { createRandom, type Random } from './random.ts';

const REQUESTS = 500;
const LATER_MS = 61_000;
const ORIGIN = 'http://origin.test';
const SECRET = Buffer.alloc(32, 7).toString('base64');
/** All that the worker says to an origin beside the body. */
const SENT_HEADERS = ['content-type', 'x-graft-signature', 'x-request-id', 'traceparent'];

const EVIL = [
  'http://evil.example/',
  'http://169.254.169.254/latest/meta-data/',
  '//evil.example',
  'http://origin.test@evil.example/',
  'evil.example',
  'file:///etc/passwd',
  'http://[::1]:8788/',
];

interface Sent {
  url: string;
  init: RequestInit;
}

let graft: AppHarness;
let app: ReturnType<typeof createApp>;
let sent: Sent[];
let answer: (path: string, init: RequestInit) => Response;
let key: string;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  sent = [];
  answer = () => Response.json({ ok: true });
  const { now, sleep } = graft.clock;
  const origins = createOriginClient({
    origins: [{ id: 'o1', url: ORIGIN }],
    keys: parseSigningKeys(`k1:${SECRET}`),
    blobs: graft.services.blobs,
    fetch: async (url, init) => {
      sent.push({ url, init });
      const { pathname } = new URL(url);
      if (pathname === '/base') return Response.json(TINY_BASE);
      return pathname.endsWith('/verify') ? Response.json(verification(init)) : answer(pathname, init);
    },
    now,
    sleep,
  });
  app = createApp({ ...graft.services, origins, bases: origins.bases, trials: origins });
  const made = await graft.request('/admin/keys', { body: { tenant: 'default' } });
  ({ key } = (await made.json()) as { key: string });
  expect((await graft.publish('notes', tinyAdapter({ seed: 1 }))).status).toBe(201);
  graft.clock.advance(LATER_MS);
});

const post = async (path: string, body: unknown, headers: Record<string, string> = {}) =>
  app.request(path, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, ...headers },
    body: JSON.stringify(body),
  });
const chat = (more: object = {}) => ({
  model: 'notes',
  messages: [{ role: 'user', content: 'hi' }],
  ...more,
});

const FIELDS = [
  'model',
  'user',
  'metadata',
  'store',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'url',
  'origin',
  'base_url',
  'graft',
  'chain',
  'tenant',
  'request_id',
  '__proto__',
];
const HEADERS = [
  'host',
  'x-forwarded-host',
  'x-forwarded-proto',
  'forwarded',
  'x-original-url',
  'x-rewrite-url',
  'x-http-method-override',
  'x-graft-signature',
  'x-graft-tenant',
  'x-graft-origin',
  'x-graft-chain',
  'x-graft-adapter',
  'cf-worker',
  'cf-connecting-ip',
  'cf-ew-via',
  'cf-ray',
  'x-request-id',
  'openai-organization',
  'cookie',
  'referer',
  'origin',
];

function oddRequest(random: Random): {
  path: string;
  body: Record<string, unknown>;
  headers: Record<string, string>;
} {
  const path = random.pick(['/v1/chat/completions', '/v1/completions', '/v1/responses']);
  const body: Record<string, unknown> =
    path === '/v1/chat/completions'
      ? chat()
      : path === '/v1/completions'
        ? { model: 'notes', prompt: random.pick(EVIL) }
        : { model: 'notes', input: random.pick(EVIL) };
  for (let i = random.below(3); i > 0; i -= 1) {
    const value = random.pick([random.pick(EVIL), { url: random.pick(EVIL) }, [random.pick(EVIL)]]);
    Object.defineProperty(body, random.pick(FIELDS), { value, enumerable: true, configurable: true });
  }
  if (random.below(2) === 0 && path === '/v1/chat/completions')
    body['messages'] = [{ role: 'user', content: random.pick(EVIL), name: random.pick(EVIL) }];
  const headers: Record<string, string> = {};
  for (let i = random.below(4); i > 0; i -= 1) headers[random.pick(HEADERS)] = random.pick(EVIL);
  return { path, body, headers };
}

describe('what leaves the edge', () => {
  it('goes to configured origins only, carries nothing of the client but its checked body, whatever it sends', async () => {
    const random = createRandom(4);
    let passed = 0;
    for (let i = 0; i < REQUESTS; i += 1) {
      const { path, body, headers } = oddRequest(random);
      const response = await post(path, body, headers);
      expect(response.status, JSON.stringify({ path, body, headers })).toBeLessThan(500);
      if (response.ok) passed += 1;
    }
    expect(passed).toBeGreaterThan(REQUESTS / 10);
    for (const { url, init } of sent) {
      expect(new URL(url).origin).toBe(ORIGIN);
      expect(init.redirect).toBe('manual');
      const headers = new Headers(init.headers);
      for (const name of headers.keys()) expect(SENT_HEADERS).toContain(name);
      expect([...headers.values()].join('\n')).not.toMatch(/evil|169\.254|passwd|::1/);
      // Not recorded: no client decides that.
      if (headers.has('traceparent'))
        expect(headers.get('traceparent')).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
      if (init.method !== 'POST' || !url.includes('/v1/')) continue;
      const {
        request,
        graft: ours,
        ...rest
      } = JSON.parse(init.body as string) as {
        request: Record<string, unknown>;
        graft: Record<string, unknown>;
      };
      expect(rest).toEqual({});
      expect(init.body).not.toContain(key);
      expect(ours).toMatchObject({ tenant: 'default', model: 'notes' });
      expect(ours['chain']).toHaveLength(1);
      expect(ours['request_id']).toMatch(/^[\w=-]{1,128}$/);
      for (const name of ['graft', 'chain', 'tenant', 'request_id', 'url', 'origin', 'base_url'])
        expect(Object.keys(request)).not.toContain(name);
    }
  });

  it('is not led elsewhere by a redirect', async () => {
    for (const status of [301, 302, 303, 307, 308]) {
      sent = [];
      answer = () => new Response(null, { status, headers: { location: EVIL[0] as string } });
      const response = await post('/v1/chat/completions', chat());
      expect(response.status).toBe(503);
      expect(response.headers.get('location')).toBeNull();
      for (const { url } of sent) expect(new URL(url).origin).toBe(ORIGIN);
    }
  });
});

describe('an origin that was taken over', () => {
  it("cannot ask for adapters that the request does not name, nor for anything else's bytes", async () => {
    const other = tinyAdapter({ seed: 2 });
    expect((await graft.publish('secret', other)).status).toBe(201);
    answer = () =>
      Response.json(
        { error: { message: 'x', code: 'adapter_missing', missing: [other.digest, '../../keys', ''] } },
        { status: 409 },
      );
    sent = [];
    expect((await post('/v1/chat/completions', chat())).status).toBe(503);
    expect(sent.filter(({ init }) => init.method === 'PUT')).toEqual([]);
  });

  it('cannot set headers of the answer but those about the answer', async () => {
    answer = () =>
      new Response('{}', {
        headers: {
          'content-type': 'application/json',
          'set-cookie': 'a=b',
          location: EVIL[0] as string,
          'access-control-allow-origin': '*',
          'content-security-policy': 'default-src *',
          'x-content-type-options': 'none',
          'x-graft-adapter': 'secret@1',
          'x-graft-chain': 'f'.repeat(64),
          'x-graft-degraded': 'base',
          'x-request-id': 'theirs',
          'strict-transport-security': 'max-age=0',
        },
      });
    const response = await post('/v1/chat/completions', chat());
    expect(response.status).toBe(200);
    expect(response.headers.get('x-graft-adapter')).toBe('notes@1');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('x-request-id')).not.toBe('theirs');
    expect(response.headers.get('x-graft-chain')).not.toBe('f'.repeat(64));
    expect(response.headers.get('strict-transport-security')).not.toBe('max-age=0');
    for (const name of ['set-cookie', 'location', 'access-control-allow-origin', 'x-graft-degraded'])
      expect(response.headers.get(name)).toBeNull();
  });

  it('cannot make the edge read what it says without an end', async () => {
    for (const status of [400, 401, 403, 409, 422, 500, 503]) {
      let read = 0;
      let cancelled = false;
      const endless = new ReadableStream<Uint8Array>({
        pull(controller) {
          read += 1;
          // A test that fails ends all the same.
          if (read > 1_000) controller.close();
          else controller.enqueue(new Uint8Array(64 * 1024).fill(0x20));
        },
        cancel: () => void (cancelled = true),
      });
      answer = () => new Response(endless, { status, headers: { 'content-type': 'application/json' } });
      const response = await post('/v1/chat/completions', chat());
      expect([status, response.status]).toEqual([status, 503]);
      expect([status, cancelled, read * 64 <= 5 * 1024]).toEqual([status, true, true]);
    }
  });

  it('cannot make the edge echo a page of its own', async () => {
    answer = () => new Response('<script>alert(1)</script>', { status: 502 });
    const response = await post('/v1/chat/completions', chat());
    expect(response.status).toBe(503);
    expect(await response.text()).not.toContain('script');
  });
});
