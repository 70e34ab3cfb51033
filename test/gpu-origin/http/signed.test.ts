import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NonceStore } from '../../../gpu-origin/http/read-request.ts';
import {
  envelope,
  KEY,
  OLD_KEY,
  ORIGIN_ID,
  sha256,
  signedFetch,
  startTestOrigin,
  type Origin,
} from './harness.ts';
import { sign } from '../../../protocol/signature.ts';

const ask = { model: 'ignored', messages: [{ role: 'user', content: 'hello' }], max_tokens: 3 };

describe('signed mode', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin({ signed: true });
  });
  afterAll(() => origin.stop());

  const chat = (init: { body?: string } = {}, signed: Parameters<typeof signedFetch>[3] = {}) =>
    signedFetch(origin, '/v1/chat/completions', { method: 'POST', body: envelope(ask), ...init }, signed);
  const codeOf = async (response: Response) =>
    ((await response.json()) as { error: { code: string } }).error.code;

  it('serves signed requests and answers under the requested name', async () => {
    const response = await chat({ body: envelope(ask, { chain: [{ digest: origin.adapter, scale: 0.5 }] }) });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      model: 'alice/notes',
      usage: { completion_tokens: expect.any(Number) },
    });
    expect((await chat({}, { key: OLD_KEY })).status).toBe(200);
  });

  it.each<[string, Parameters<typeof signedFetch>[3]]>([
    ['another origin', { originId: 'origin-2' }],
    ['another method', { method: 'PUT' }],
    ['another path', { path: '/v1/completions' }],
    ['another query', { path: '/v1/chat/completions?x=1' }],
    ['another body', { bodyHash: sha256('else') }],
    ['an unknown key', { key: { kid: 'k9', secret: KEY.secret } }],
    ['a wrong secret', { key: { kid: 'k1', secret: OLD_KEY.secret } }],
    ['an old stamp', { now: Date.now() - 61_000 }],
    ['a stamp of the future', { now: Date.now() + 62_000 }],
    ['a stamp from before the start', { now: Date.now() - 30_000 }],
  ])('refuses a signature for %s', async (_what, signed) => {
    const response = await chat({}, signed);
    expect(response.status).toBe(401);
    expect(await codeOf(response)).toBe('invalid_signature');
  });

  it('refuses a signature a second time', async () => {
    const nonce = new Uint8Array(16).fill(1);
    const now = Date.now();
    expect((await chat({}, { nonce, now })).status).toBe(200);
    const again = await chat({}, { nonce, now });
    expect(again.status).toBe(401);
    expect(await again.text()).toContain('used already');
  });

  it.each(['', 'v1', 'v1 kid=k1', 'v2 kid=k1,t=1,n=a,h=b,s=c', `v1 ${'x'.repeat(600)}`, 'Bearer gk_x'])(
    'refuses the header %j',
    async (header) => {
      const response = await fetch(`${origin.url}/base`, { headers: { 'x-graft-signature': header } });
      expect(response.status).toBe(401);
    },
  );

  it('refuses one changed character anywhere in the header', async () => {
    const parts = { originId: ORIGIN_ID, method: 'GET', pathAndQuery: '/base', bodyHash: sha256('') };
    for (let i = 0; i < 8; i += 1) {
      const header = await sign(KEY, parts, Date.now());
      const at = 3 + Math.floor(((header.length - 3) * i) / 8);
      const other = header.charAt(at) === 'a' ? 'b' : 'a';
      const changed = header.slice(0, at) + other + header.slice(at + 1);
      const response = await fetch(`${origin.url}/base`, { headers: { 'x-graft-signature': changed } });
      expect(response.status).toBe(401);
    }
  });

  it('signs every route but health', async () => {
    const paths = [
      '/base',
      '/adapters',
      '/v1/models',
      '/v1/models/fake',
      '/nothing',
      `/adapters/${'a'.repeat(64)}`,
    ];
    for (const path of paths) expect((await fetch(origin.url + path)).status).toBe(401);
    for (const path of ['/healthz', '/readyz', '/metrics'])
      expect((await fetch(origin.url + path)).status).toBe(200);
    expect((await signedFetch(origin, '/base')).status).toBe(200);
    expect(await (await signedFetch(origin, '/v1/models')).json()).toMatchObject({ data: [{ id: 'fake' }] });
    expect((await signedFetch(origin, '/base?a=%2F', {}, { path: '/base?a=/' })).status).toBe(401);
    expect((await signedFetch(origin, '/base?a=%2F')).status).toBe(200);
  });

  it('refuses an edge that expects another base', async () => {
    const { id } = (await (await signedFetch(origin, '/base')).json()) as { id: string };
    expect((await signedFetch(origin, `/base?base=${id}`)).status).toBe(200);
    for (const path of ['/base?base=large', '/adapters?base=large', '/adapters?a=b&base=large']) {
      const refused = await signedFetch(origin, path);
      expect([refused.status, await codeOf(refused)]).toEqual([503, 'origin_unavailable']);
      expect(Number(refused.headers.get('retry-after-ms'))).toBeGreaterThan(0);
    }
  });

  it('refuses an invalid envelope, and names missing adapters', async () => {
    expect(await codeOf(await chat({ body: JSON.stringify(ask) }))).toBe('invalid_request');
    expect(await codeOf(await chat({ body: envelope({ ...ask, temperature: 3 }) }))).toBe('invalid_request');
    const digest = 'c'.repeat(64);
    const missing = await chat({ body: envelope(ask, { chain: [{ digest, scale: 1 }] }) });
    expect(missing.status).toBe(409);
    expect(await missing.json()).toMatchObject({ error: { code: 'adapter_missing', missing: [digest] } });
    const long = Array.from({ length: 9 }, () => ({ digest: origin.adapter, scale: 1 }));
    expect(await codeOf(await chat({ body: envelope(ask, { chain: long }) }))).toBe('invalid_request');
  });

  it('answers 503 when a deadline is over', async () => {
    const body = envelope({ ...ask, max_tokens: 400, ignore_eos: true }, { budget_ms: 1 });
    const response = await chat({ body });
    expect(response.status).toBe(503);
    expect(response.headers.get('x-should-retry')).toBe('false');
    expect(response.headers.get('retry-after')).toBeNull();
    expect(await codeOf(response)).toBe('deadline_exceeded');
  });
});

describe('a refused signature', () => {
  const NOW = 1_800_000_000_000;
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin({ signed: true, now: () => NOW });
  });
  afterAll(() => origin.stop());
  const ask = async (signed: Parameters<typeof signedFetch>[3]) => {
    const response = await signedFetch(origin, '/base', {}, { now: NOW, ...signed });
    const { error } = (await response.json()) as {
      error?: { message: string; reason?: string; code: string };
    };
    return { status: response.status, error };
  };

  it.each<[Parameters<typeof signedFetch>[3], string, RegExp]>([
    [{ now: NOW - 90_000 }, 'clock_skew', /differ by 90 s \(the edge is behind\); at most 60 s/],
    [{ now: NOW + 61_000 }, 'clock_skew', /differ by 61 s \(the edge is ahead\); at most 60 s/],
    [{ now: NOW - 2_000 }, 'before_start', /older than this origin's last start/],
    [
      { key: { kid: 'k9', secret: KEY.secret } },
      'unknown_key',
      /the key id, the secret, the origin id or the request differs/,
    ],
    [{ key: { kid: 'k1', secret: OLD_KEY.secret } }, 'unknown_key', /the secret/],
    [{ originId: 'origin-2' }, 'unknown_key', /the key id, the secret, the origin id or the request differs/],
    [{ bodyHash: sha256('else') }, 'mismatch', /body is not the one/],
  ])('%j explains why: %s', async (signed, reason, message) => {
    const { status, error } = await ask(signed);
    expect([status, error?.code, error?.reason]).toEqual([401, 'invalid_signature', reason]);
    expect(error?.message).toMatch(message);
  });

  it('does not use up its nonce, and no request is accepted whose nonce cannot be stored', async () => {
    const full = await startTestOrigin({ signed: true, now: () => NOW, context: { maxNonces: 1 } });
    const from = (signed: Parameters<typeof signedFetch>[3]) =>
      signedFetch(full, '/base', {}, { now: NOW, ...signed });
    try {
      const nonce = new Uint8Array(16).fill(3);
      const forger = { kid: 'k1', secret: OLD_KEY.secret };
      for (let i = 0; i < 3; i += 1) expect((await from({ nonce, key: forger })).status).toBe(401);
      expect((await from({ nonce })).status).toBe(200);
      const more = await from({});
      expect(more.status).toBe(503);
      expect(more.headers.get('x-should-retry')).toBe('true');
      expect(Number(more.headers.get('retry-after-ms'))).toBeGreaterThan(0);
      expect(await more.json()).toMatchObject({ error: { code: 'origin_unavailable' } });
    } finally {
      await full.stop();
    }
  });
});

describe('NonceStore', () => {
  it('remembers until expiry, is bounded, and reports when it is full', () => {
    let now = 0;
    const store = new NonceStore(() => now, 2);
    expect(store.remember('a', 10)).toBe('new');
    expect(store.remember('a', 10)).toBe('seen');
    expect(store.remember('b', 20)).toBe('new');
    expect(store.remember('c', 20)).toBe('full');
    expect(store.remember('a', 10)).toBe('seen');
    now = 10;
    expect(store.remember('c', 30)).toBe('new');
    expect(store.remember('b', 30)).toBe('seen');
  });
});
