/** No route can be asked without end: one tenant must not keep the registry from the others. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { generateApiKey } from '../../protocol/identity.ts';
import { createApp } from '../../worker/app.ts';
import { ADMIN_CHANGES, UNKNOWN_ADMIN_KEYS } from '../../worker/access/limits.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { isAdmin, routesOf, type Route } from './routes.ts';

let graft: AppHarness;
/** Where the harness asks. */
const PAGE = 'http://localhost';

const makeKey = async (body: object): Promise<string> => {
  const made = await graft.request('/admin/keys', { body });
  return ((await made.json()) as { key: string }).key;
};
/** Of the edge's own page. */
const tokenOf = async (kind: 'download' | 'publish', tenant: string, key: string): Promise<string> => {
  const body = kind === 'download' ? { names: ['a'] } : { name: `${tenant}/a` };
  const made = await graft.request(`/v1/${kind}-tokens`, { key, body: { ...body, origin: PAGE } });
  return ((await made.json()) as { token: string }).token;
};
const codeOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string } }).error.code;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
});

/** Says nothing, or the same to everybody: no store is asked. */
const FREE = new Set([
  '/healthz',
  '/health',
  // It asks once a second at most.
  '/readyz',
  '/dashboard',
  '/dashboard/',
  '/dashboard/here',
  '/dashboard/sign-in',
  '/dashboard/assets/x',
  '/dashboard/browser/x/x',
  '/dashboard/browser/x/ort/x',
  '/base/x',
  '/',
]);
/** Let in by a token. */
const PAGES = [
  ['/v1/downloads', 'download'],
  ['/v1/publications', 'publish'],
] as const;
/** Limited by their keys' and tenants' own limits. */
const COMPLETIONS = new Set(['/v1/chat/completions', '/v1/completions', '/v1/responses']);

describe('every route', () => {
  /** Above every burst. */
  const MANY = 1_500;
  const bodyOf = ({ method, path }: Route): unknown => {
    if (method === 'GET' || method === 'DELETE') return undefined;
    if (path === '/v1/responses') return { model: 'base', input: 'hi' };
    if (path === '/v1/completions') return { model: 'base', prompt: 'hi' };
    if (path === '/v1/chat/completions')
      return { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
    return {};
  };

  it('is limited for one tenant, and leaves the others alone', async () => {
    const routes = routesOf(createApp(graft.services)).filter(({ path }) => !FREE.has(path));
    expect(routes.length).toBeGreaterThan(40);
    const open: string[] = [];
    for (const name of ['greedy', 'modest'])
      await graft.request('/admin/rooms', { body: { name, tenant: name } });
    for (const route of routes) {
      graft.clock.advance(3_600_000);
      const kind = isAdmin(route) ? 'admin' : 'api';
      const rpm = COMPLETIONS.has(route.path) ? { limits: { requests_per_minute: 9 } } : {};
      const more = kind === 'api' ? { download: true, publish: true, train: true } : {};
      const greedy = await makeKey({ kind, tenant: 'greedy', ...more, ...rpm });
      const modest = await makeKey({ kind, tenant: 'modest', ...more });
      // What a page asks is let in by a token of the key's.
      const token = PAGES.find(([start]) => route.path.startsWith(start))?.[1];
      const key = token === undefined ? greedy : await tokenOf(token, 'greedy', greedy);
      const other = token === undefined ? modest : await tokenOf(token, 'modest', modest);
      const headers = token === undefined ? {} : { origin: PAGE };
      const body = bodyOf(route);
      // A file that is not what it is said to be: KV would take a part that is written again a second later.
      const path = route.path.includes('/parts/') ? `${route.path}?sha256=${'b'.repeat(64)}` : route.path;
      const ask = (by: string) =>
        graft.request(path, {
          method: route.method,
          key: by,
          headers,
          ...(body === undefined ? {} : { body }),
        });
      let last = await ask(key);
      for (let i = 0; i < MANY && last.status !== 429; i += 1) last = await ask(key);
      const name = `${route.method} ${route.path}`;
      if (last.status !== 429) open.push(name);
      else {
        expect([name, await codeOf(last)]).toEqual([name, 'rate_limit_exceeded']);
        expect(Number(last.headers.get('retry-after'))).toBeGreaterThan(0);
        expect([name, (await ask(other)).status]).not.toEqual([name, 429]);
      }
    }
    expect(open).toEqual([]);
  });
});

describe('a tenant that keeps on hanging up', () => {
  it('has a bounded number of requests under way, and others are served meanwhile', async () => {
    const [alice, bob] = [
      await makeKey({ kind: 'admin', tenant: 'alice' }),
      await makeKey({ kind: 'admin', tenant: 'bob' }),
    ];
    const { grantLedger } = graft.services;
    let underWay = 0;
    let most = 0;
    let done = 0;
    let goOn: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (goOn = resolve));
    const remove = grantLedger.remove.bind(grantLedger);
    grantLedger.remove = async (params) => {
      underWay += 1;
      most = Math.max(most, underWay);
      await held;
      underWay -= 1;
      done += 1;
      return remove(params);
    };
    const leave = (key: string) => {
      const gone = new AbortController();
      const answered = createdApp.request('/admin/grants?scope=alice/x&tenant=carol', {
        method: 'DELETE',
        headers: { authorization: `Bearer ${key}` },
        signal: gone.signal,
      });
      gone.abort();
      return answered;
    };
    const createdApp = createApp(graft.services);
    const left = Array.from({ length: 100 }, () => leave(alice));
    let refused = 0;
    for (const one of left)
      void Promise.resolve(one).then(({ status }) => (refused += Number(status === 429)));
    await vi.waitUntil(() => refused + underWay === left.length);
    expect(most).toBeLessThanOrEqual(ADMIN_CHANGES.atOnce);
    const asBob = { headers: { authorization: `Bearer ${bob}` } };
    expect((await createdApp.request('/admin/grants', asBob)).status).toBe(200);
    // They have hung up, and count all the same.
    expect((await leave(alice)).status).toBe(429);
    goOn();
    await Promise.all(left);
    expect(done).toBe(most);
    graft.clock.advance(1_000);
    expect((await leave(alice)).status).toBe(404);
  });
});

describe('made-up admin keys', () => {
  it('get a bounded number of questions to the system of record, and keys known here go on', async () => {
    const alice = await makeKey({ kind: 'admin', tenant: 'alice' });
    expect((await graft.request('/admin/names', { key: alice })).status).toBe(200);
    const admin = vi.spyOn(graft.services.keyLedger, 'admin');
    const statuses = new Set<number>();
    for (let i = 0; i < 1_000; i += 1)
      statuses.add((await graft.request('/admin/names', { key: generateApiKey('ga') })).status);
    expect(admin.mock.calls.length).toBeLessThanOrEqual(UNKNOWN_ADMIN_KEYS.burst);
    expect([...statuses].sort()).toEqual([401, 429]);
    expect((await graft.request('/admin/names', { key: alice })).status).toBe(200);
    expect((await graft.request('/admin/names')).status).toBe(200);
  });
});
