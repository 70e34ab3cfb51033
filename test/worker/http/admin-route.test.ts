/** The real app has the admin API of protocol's table, and no more. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ADMIN_OPERATIONS, ADMIN_ROUTES, type AdminRoute } from '../../../protocol/admin-api/operations.ts';
import { createApp } from '../../../worker/app.ts';
import { routePath } from '../../../worker/http/admin-route.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

let graft: AppHarness;
beforeEach(async () => {
  graft = await createAppHarness();
});

const PATHS = [...new Set(ADMIN_ROUTES.map((route) => route.split(' ')[1] as string))];
const filled = (path: string) =>
  path.replace(':digest', 'a'.repeat(64)).replace(':index', '0').replace(':id', 'x');

it('has every operation of the table as a route, and no other under /admin', () => {
  const routes = createApp(graft.services)
    .routes.filter(({ method, path }) => method !== 'ALL' && path.startsWith('/admin'))
    .map(({ method, path }) => `${method} ${path}`);
  const table = ADMIN_ROUTES.map((route) => `${route.split(' ')[0]} ${routePath(route)}`);
  expect(routes.sort()).toEqual(table.sort());
});

it.each(PATHS)('refuses other methods of %s, and says which there are', async (path) => {
  const allowed = ['GET', 'POST', 'PUT', 'DELETE'].filter((method) =>
    ADMIN_ROUTES.some((route) => route === `${method} ${path}`),
  );
  const response = await graft.request(filled(path), { method: 'PATCH' });
  expect([response.status, response.headers.get('allow')]).toEqual([405, allowed.join(', ')]);
});

const BODIES: Partial<Record<AdminRoute, object>> = {
  'POST /admin/pins': { name: 'a' },
  'POST /admin/repair': {},
  'POST /admin/gc': {},
  'POST /admin/rooms': { name: 'a', tenant: 'b' },
  'POST /admin/tenants/limits': { tenant: 'a', limits: null },
  'POST /admin/limits/reset': { tenant: 'a' },
};

const OPERATORS = ADMIN_ROUTES.filter((route) => ADMIN_OPERATIONS[route].rights === 'operator');

describe('what is the operator’s', () => {
  it.each(OPERATORS)('%s is refused to a tenant’s admin key', async (route) => {
    const [method = '', path = ''] = route.split(' ');
    const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'alice' } });
    const { key } = (await made.json()) as { key: string };
    const query = method === 'DELETE' ? '?name=a' : '';
    const body = BODIES[route];
    const response = await graft.request(path + query, {
      ...{ method, key },
      ...(body === undefined ? {} : { body }),
    });
    expect(response.status).toBe(403);
  });
});

it('takes no body where an operation needs none, but an empty one', async () => {
  const path = '/admin/experiments/exp_0123456789abcdef/evaluate';
  const ask = async (body?: object) =>
    (await graft.request(path, { method: 'POST', ...(body === undefined ? {} : { body }) })).status;
  expect([await ask(), await ask({}), await ask({ now: true })]).toEqual([404, 404, 400]);
});
