import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createApp } from '../../worker/app.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { isAdmin, routesOf } from './routes.ts';

let graft: AppHarness;
let app: ReturnType<typeof createApp>;
let key: string;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  app = createApp(graft.services);
  const made = await graft.request('/admin/keys', { body: { scopes: ['**'] } });
  ({ key } = (await made.json()) as { key: string });
});

/** Of the dashboard: scripts, styles and requests of its own address, and nothing in the document itself. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** Of the document that runs a base in the browser, and of its worker: WebAssembly and workers beside that, isolated. */
const ENGINE_POLICY = PAGE_POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'").concat(
  "; worker-src 'self'",
);
const API_POLICY = "default-src 'none'; frame-ancestors 'none'";
const isPage = (path: string): boolean => /^\/dashboard(\/|$)/.test(path);
const isEngine = (path: string): boolean => /^\/dashboard\/(here|browser\/)/.test(path);

function expectSecure(response: Response, what: string, path: string): void {
  const header = (name: string) => [what, response.headers.get(name)];
  const page = isPage(path);
  const policy = isEngine(path) ? ENGINE_POLICY : page ? PAGE_POLICY : API_POLICY;
  expect(header('x-content-type-options')).toEqual([what, 'nosniff']);
  expect(header('content-security-policy')).toEqual([what, policy]);
  expect(header('cross-origin-embedder-policy')).toEqual([what, isEngine(path) ? 'require-corp' : null]);
  expect(header('cross-origin-opener-policy')).toEqual([what, 'same-origin']);
  expect(header('referrer-policy')).toEqual([what, 'no-referrer']);
  expect(header('x-frame-options')[1], what).toMatch(/^(SAMEORIGIN|DENY)$/);
  expect(header('cross-origin-resource-policy')).toEqual([what, page ? 'same-origin' : 'same-site']);
  expect(header('strict-transport-security')[1], what).toMatch(/^max-age=\d{7,}/);
  expect(header('x-request-id')[1], what).toMatch(/^[\w=-]{1,128}$/);
  expect(header('server')).toEqual([what, null]);
  expect(header('x-powered-by')).toEqual([what, null]);
  expect(header('set-cookie')).toEqual([what, null]);
  expect(header('location')).toEqual([what, null]);
  expect([what, response.status < 300 || response.status > 399]).toEqual([what, true]);
}

describe('every answer', () => {
  it('has secure headers and a request id, whatever its status', async () => {
    const seen = new Set<number>();
    const ask = async (method: string, path: string, init: RequestInit = {}) => {
      const response = await app.request(path, { method, ...init });
      seen.add(response.status);
      expectSecure(response, `${method} ${path} -> ${response.status}`, path);
    };
    for (const route of routesOf(app)) {
      const authorization = `Bearer ${isAdmin(route) ? graft.adminKey : key}`;
      const body = ['POST', 'PUT', 'PATCH'].includes(route.method) ? { body: '{' } : {};
      await ask(route.method, route.path, body);
      await ask(route.method, route.path, { headers: { authorization }, ...body });
      await ask('PATCH', route.path, { headers: { authorization } });
      await ask('OPTIONS', route.path);
      await ask('HEAD', route.path, { headers: { authorization } });
    }
    await ask('GET', '/nowhere');
    await ask('GET', '/dashboard/assets/index-a1B2.js');
    await ask('GET', '/dashboard/browser/a1/worker.js');
    await ask('POST', '/v1/chat/completions', {
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'hi' }] }),
    });
    vi.spyOn(graft.services.registry, 'names').mockRejectedValue(new Error('secret detail'));
    await ask('GET', '/admin/names', { headers: { authorization: `Bearer ${graft.adminKey}` } });
    for (const status of [200, 400, 401, 404, 405, 500]) expect([...seen]).toContain(status);
  });

  it('of the admin API is kept by no cache, whatever its status: keys are among it', async () => {
    const seen = new Set<number>();
    const routes = routesOf(app).filter(isAdmin);
    expect(routes.length).toBeGreaterThan(40);
    for (const { method, path } of [...routes, { method: 'GET', path: '/admin/nowhere' }])
      for (const headers of [{}, { authorization: `Bearer ${graft.adminKey}` }])
        for (const [how, body] of [
          [method, ['POST', 'PUT'].includes(method) ? { body: '{}' } : {}],
          ['PATCH', {}],
          ['HEAD', {}],
        ] as const) {
          const response = await app.request(path, { method: how, headers, ...body });
          seen.add(response.status);
          const what = `${how} ${path} -> ${response.status}`;
          expect([what, response.headers.get('cache-control')]).toEqual([what, 'no-store']);
        }
    for (const status of [200, 201, 400, 401, 404, 405]) expect([...seen]).toContain(status);
    vi.spyOn(graft.services.registry, 'names').mockRejectedValue(new Error('secret detail'));
    const failed = await graft.request('/admin/names');
    expect([failed.status, failed.headers.get('cache-control')]).toEqual([500, 'no-store']);
  });

  it('lets no page of another site read it unless the configuration names the page', async () => {
    const allowed = 'https://app.example.com';
    const open = createApp({ ...graft.services, corsOrigins: [allowed] });
    for (const [site, which, expected] of [
      [allowed, app, null],
      ['null', app, null],
      [allowed, open, allowed],
      ['https://evil.example', open, null],
      ['https://app.example.com.evil.example', open, null],
      ['http://app.example.com', open, null],
      ['null', open, null],
    ] as const)
      for (const path of ['/v1/models', '/v1/chat/completions', '/admin/keys', '/healthz'])
        for (const method of ['OPTIONS', 'GET']) {
          const response = await which.request(path, {
            method,
            headers: { origin: site, 'access-control-request-method': 'POST' },
          });
          const right = path.startsWith('/v1/') ? expected : null;
          expect([path, response.headers.get('access-control-allow-origin')]).toEqual([path, right]);
          expect(response.headers.get('access-control-allow-credentials')).toBeNull();
        }
  });

  it('lets a page that it names read what is said of an experiment, which feedback is given with', async () => {
    const site = 'https://app.example.com';
    const open = createApp({ ...graft.services, corsOrigins: [site] });
    const response = await open.request('/v1/models', { headers: { origin: site } });
    const exposed = response.headers.get('access-control-expose-headers')?.split(',') ?? [];
    for (const name of ['x-graft-experiment', 'x-graft-variant', 'x-request-id'])
      expect(exposed).toContain(name);
    // What only the edge and its origins say to one another.
    expect(exposed).not.toContain('x-graft-usage');
  });

  it('repeats a request id only when it is short and plain', async () => {
    const idOf = async (id: string) =>
      (await app.request('/healthz', { headers: { 'x-request-id': id } })).headers.get('x-request-id');
    for (const id of ['a', 'req_1-2=', 'x'.repeat(128)]) expect(await idOf(id)).toBe(id);
    const odd = [
      'x'.repeat(129),
      'a b',
      '<script>',
      'a/b',
      'a:b',
      'http://evil/',
      'é',
      '"',
      "'",
      '%0d%0a',
      '${x}',
    ];
    for (const id of odd) {
      const given = await idOf(id);
      expect(given).not.toBe(id);
      expect(given).toMatch(/^[\w-]{1,128}$/);
    }
  });

  it('is JSON without a line break or a page in its headers, whatever name is asked for', async () => {
    const names = [
      'a\r\nset-cookie: a=b',
      'a\nx-evil: 1',
      '<img src=x onerror=alert(1)>',
      'a\u0000',
      '\u2028',
    ];
    for (const name of names) {
      const response = await app.request('/v1/chat/completions', {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: name, messages: [{ role: 'user', content: 'hi' }] }),
      });
      expect(response.status).toBe(404);
      expect(response.headers.get('content-type')).toMatch(/^application\/json/);
      expect([...response.headers.keys()]).not.toContain('x-evil');
      expect(response.headers.get('set-cookie')).toBeNull();
      expect(JSON.parse(await response.text())).toMatchObject({ error: { code: 'model_not_found' } });
    }
  });
});
