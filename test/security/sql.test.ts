/** Text that is SQL where it is not bound, in every parameter of every admin route, on the real D1 in workerd. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hashApiKey } from '../../protocol/identity.ts';
import { createApp } from '../../worker/app.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness } from '../worker/app-harness.ts';
import { chat, startTestEdge, type TestEdge } from '../worker/edge-harness.ts';
import { isAdmin, routesOf, type Route } from './routes.ts';

const PAYLOADS = [
  "'",
  "' OR '1'='1",
  "' OR 1=1--",
  "'; DROP TABLE names;--",
  "' UNION SELECT hash, kind, tenant, scopes, '1', '1', '1', '1' FROM keys--",
  "alice'||(SELECT hash FROM keys)||'",
  '") OR ("1"="1',
  '%',
  '_____',
  'alice/%',
  '?1',
  ':name',
  '\u0000',
  '\\',
  '%27%20OR%201=1--',
  'x'.repeat(2_000),
];
const PARAMETERS = [
  'name',
  'prefix',
  'cursor',
  'digest',
  'tenant',
  'owner',
  'scope',
  'by',
  'from',
  'to',
  'since',
  'until',
  'key',
  'before',
  'after',
  'limit',
  'sha256',
];
const FIELDS = [
  ...PARAMETERS,
  'parent',
  'alias',
  'why',
  'label',
  'hash',
  'kind',
  'version',
  'scopes',
  'expect',
];

let graft: TestEdge;
let mallory: string;
/** Of keys; what the table `keys` holds of them. */
let hashes: string[];
let routes: Route[];

beforeAll(async () => {
  graft = await startTestEdge();
  mallory = await graft.makeAdminKey('mallory');
  hashes = await Promise.all([mallory, await graft.makeKey({ tenant: 'alice' })].map(hashApiKey));
  const adapter = tinyAdapter({ seed: 1 });
  expect((await graft.publish({ name: 'alice/confidential', adapter, owner: 'alice' })).status).toBe(201);
  const harness = await createAppHarness();
  routes = routesOf(createApp(harness.services)).filter(isAdmin);
});
afterAll(() => graft.stop());

const FORBIDDEN = /SQLITE|D1_|syntax error|no such (?:table|column)|sqlite_master|confidential|"hash": ?"/;

async function ask(path: string, init: RequestInit): Promise<void> {
  let response = await graft.admin(path, { ...init, key: mallory });
  // A tenant may ask only so much at once; what is refused for that has not been tried.
  while (response.status === 429) {
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 100));
    response = await graft.admin(path, { ...init, key: mallory });
  }
  const what = `${init.method} ${path} ${String(init.body ?? '').slice(0, 100)}`;
  // No database error, and nothing that failed on the way to it: the payload was data, or was refused as such.
  expect([what, [200, 400, 403, 404, 405, 409, 413, 422].includes(response.status)]).toEqual([what, true]);
  const said = await response.text();
  expect([what, FORBIDDEN.exec(said)?.[0]]).toEqual([what, undefined]);
  for (const hash of hashes) expect(said).not.toContain(hash);
}

it('is data in every query parameter', async () => {
  const reading = routes.filter(({ method }) => method === 'GET' || method === 'DELETE');
  expect(reading.length).toBeGreaterThan(5);
  for (const { method, path } of reading)
    await Promise.all(
      // Alone, since one that is refused hides the others; each payload where it has not been yet.
      PARAMETERS.map((name, i) => {
        const payload = PAYLOADS[(i + path.length) % PAYLOADS.length] as string;
        return ask(`${path}?${new URLSearchParams([[name, payload]])}`, { method });
      }),
    );
  for (const path of ['/admin/names?prefix=', '/admin/names?cursor=', '/admin/versions?name='])
    for (const payload of PAYLOADS) await ask(path + encodeURIComponent(payload), { method: 'GET' });
});

it('is data in paths', async () => {
  for (const payload of PAYLOADS.filter((one) => one !== '\u0000'))
    for (const [method, path] of [
      ['DELETE', '/admin/keys/'],
      ['GET', '/admin/blobs/'],
      ['POST', '/admin/blobs/'],
    ] as const)
      await ask(path + encodeURIComponent(payload), {
        method,
        ...(method === 'POST' ? { body: '{}' } : {}),
      });
});

it('is data in every field of a body', async () => {
  const writing = routes.filter(({ method }) => method === 'POST');
  expect(writing.length).toBeGreaterThan(5);
  const headers = { 'content-type': 'application/json' };
  for (const { method, path } of writing) {
    const payload = PAYLOADS[path.length % PAYLOADS.length] as string;
    const whole = Object.fromEntries(FIELDS.map((name) => [name, payload]));
    await ask(path, { method, headers, body: JSON.stringify(whole) });
  }
});

it('is data where any text may stand, and comes back as it was', async () => {
  const post = (path: string, body: object) =>
    graft.admin(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const labels = PAYLOADS.map((payload) => payload.slice(0, 60)).filter((label) => !/\p{Cc}/u.test(label));
  for (const label of labels)
    expect((await post('/admin/keys', { tenant: 'carol', label })).status).toBe(201);
  const { keys } = (await (await graft.admin('/admin/keys')).json()) as { keys: { label: string | null }[] };
  expect(keys.map(({ label }) => label)).toEqual(expect.arrayContaining(labels));
});

it('is data as a model and as a key, and afterwards all is as it was', async () => {
  const key = await graft.makeKey({ tenant: 'alice' });
  for (const payload of PAYLOADS) {
    const response = await graft.request('/v1/chat/completions', {
      method: 'POST',
      key,
      body: chat(payload),
    });
    expect([400, 404]).toContain(response.status);
    const authorization = `Bearer ${payload.replace(/[^\x20-\x7e]/g, '')}`;
    for (const path of ['/v1/models', '/admin/names'])
      expect((await graft.request(path, { headers: { authorization } })).status).toBe(401);
  }
  const names = (await (await graft.admin('/admin/names')).json()) as { names: { name: string }[] };
  expect(names.names.map(({ name }) => name)).toEqual(['alice/confidential']);
  const served = await graft.request('/v1/chat/completions', {
    method: 'POST',
    key,
    body: chat('alice/confidential'),
  });
  expect(served.status).toBe(200);
});
