/** Chains for browsers: who may let pages have them, what a token opens, and when it ends. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, it, vi } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { DownloadChain, DownloadToken } from '../../../protocol/browser-downloads.ts';
import { createApp } from '../../../worker/app.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const PAGE = 'https://app.example.com';
const root = tinyAdapter({ seed: 1 });

let graft: AppHarness;
let app: ReturnType<typeof createApp>;
let child: ReturnType<typeof tinyAdapter>;
let key: NewKey;

/** From the page unless the headers say otherwise. */
const get = (path: string, token: string, headers: Record<string, string> = { origin: PAGE }) =>
  Promise.resolve(app.request(path, { headers: { authorization: `Bearer ${token}`, ...headers } }));
const admin = async (path: string, body: object, as?: string) => {
  const answer = await graft.request(path, { body, ...(as === undefined ? {} : { key: as }) });
  return { status: answer.status, body: (await answer.json()) as Record<string, never> };
};
const makeKey = async (body: object, as?: string) =>
  (await admin('/admin/keys', body, as)).body as unknown as NewKey;
const mint = async (body: object = {}, as = key.key!) => {
  const answer = await app.request('/v1/download-tokens', {
    method: 'POST',
    headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
    body: JSON.stringify({ names: ['clinic/notes'], origin: PAGE, ...body }),
  });
  return {
    status: answer.status,
    body: (await answer.json()) as DownloadToken & { error?: { message: string } },
  };
};
const token = async (body: object = {}): Promise<string> => (await mint(body)).body.token;
const refusal = async (answer: Promise<Response>): Promise<[number, string]> => {
  const response = await answer;
  return [response.status, ((await response.json()) as { error: { message: string } }).error.message];
};

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  app = createApp({ ...graft.services, corsOrigins: [PAGE, 'https://other.example.com'] });
  const published = await graft.publish('clinic', root, { owner: 'clinic' });
  const { chain_id: chainId } = (await published.json()) as { chain_id: string };
  child = tinyAdapter({ seed: 2, parent: chainId });
  await graft.publish('clinic/notes', child, { parent: 'clinic', owner: 'clinic' });
  key = await makeKey({ tenant: 'clinic', download: true });
});

it('takes the longest token that it gives', async () => {
  app = createApp({ ...graft.services, corsOrigins: ['*'] });
  const rest = Array.from({ length: 5 }, () => 'x'.repeat(48)).join('/');
  const names = Array.from({ length: 16 }, (_, i) =>
    `clinic/${String(i).padStart(2, '0')}/${rest}`.padEnd(256, 'y'),
  );
  const origin = `https://${Array.from({ length: 4 }, () => 'h'.repeat(61)).join('.')}`;
  const { status, body } = await mint({ names, origin });
  expect([status, names.map(({ length }) => length)]).toEqual([200, names.map(() => 256)]);
  // The names are not there; the token is good.
  const asked = names[0] ?? '';
  expect((await get(`/v1/downloads?name=${asked}`, body.token, { origin })).status).toBe(404);
});

it('gives a page the live chain by name, and each part of it', async () => {
  const { status, body } = await mint();
  expect(status).toBe(200);
  expect(body).toMatchObject({ names: ['clinic/notes'], origin: PAGE });
  expect(body.expires_at - graft.clock.now()).toBe(5 * 60_000);
  const answer = await get('/v1/downloads?name=clinic/notes', body.token);
  expect(answer.headers.get('access-control-allow-origin')).toBe(PAGE);
  expect(answer.headers.get('cross-origin-resource-policy')).toBe('cross-origin');
  const chain = (await answer.json()) as DownloadChain;
  expect(chain).toMatchObject({ name: 'clinic/notes', version: 1 });
  expect(chain.chain.map(({ digest, scale }) => [digest, scale])).toEqual([
    [root.digest, 1],
    [child.digest, 1],
  ]);
  for (const { digest, parts } of chain.chain) {
    const part = await get(`/v1/downloads/parts/0?name=clinic/notes&version=1&digest=${digest}`, body.token);
    const bytes = new Uint8Array(await part.arrayBuffer());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(parts[0]!.sha256);
  }
  for (const path of [
    `0?name=clinic/notes&version=1&digest=${'f'.repeat(64)}`,
    `1?name=clinic/notes&version=1&digest=${root.digest}`,
    `0?name=clinic/notes&version=7&digest=${root.digest}`,
  ])
    expect((await get(`/v1/downloads/parts/${path}`, body.token)).status).toBe(404);
});

it('is off unless the key has the right, which who has it not cannot give', async () => {
  const plain = await makeKey({ tenant: 'clinic' });
  expect(plain.download).toBe(false);
  expect((await mint({}, plain.key)).status).toBe(403);
  const without = await makeKey({ kind: 'admin', tenant: 'clinic' });
  const having = await makeKey({ kind: 'admin', tenant: 'clinic', download: true });
  expect((await admin('/admin/keys', { download: true }, without.key)).status).toBe(403);
  expect((await admin('/admin/keys/change', { id: plain.id, download: true }, without.key)).status).toBe(403);
  // The new key would be theirs.
  expect((await admin('/admin/keys/rotate', { id: key.id }, without.key)).status).toBe(403);
  expect((await admin('/admin/keys', { download: true }, having.key)).status).toBe(201);
  expect((await admin('/admin/keys/change', { id: key.id, label: 'app' }, without.key)).status).toBe(200);
});

it('is bound to its names, its page, its time and its key', async () => {
  const open = (from: string, headers?: Record<string, string>) =>
    get('/v1/downloads?name=clinic/notes', from, headers);
  const good = await token();
  expect(await refusal(get('/v1/downloads?name=clinic', good))).toEqual([
    403,
    "The download token does not cover 'clinic'.",
  ]);
  for (const headers of [
    { origin: 'https://other.example.com' },
    {},
    { 'sec-fetch-site': 'same-origin' },
  ] as Record<string, string>[])
    expect(await refusal(open(good, headers))).toEqual([
      401,
      'The download token is for another page origin.',
    ]);
  graft.clock.advance(5 * 60_000 - 1);
  expect((await open(good)).status).toBe(200);
  graft.clock.advance(1);
  expect(await refusal(open(good))).toEqual([401, 'The download token has expired.']);
  const second = await token();
  await admin('/admin/keys/change', { id: key.id, download: false });
  graft.clock.advance(60_000);
  expect((await refusal(open(second)))[1]).toMatch(/may no longer download/);
  await admin('/admin/keys/change', { id: key.id, download: true });
  graft.clock.advance(60_000);
  const third = await token();
  await graft.request(`/admin/keys/${key.id}`, { method: 'DELETE' });
  graft.clock.advance(60_000);
  expect((await refusal(open(third)))[0]).toBe(401);
});

it('is not good when a character of it is another, and opens nothing else', async () => {
  const good = await token();
  for (let at = 0; at < good.length; at += 1) {
    const changed = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
    expect((await get('/v1/downloads?name=clinic/notes', changed)).status).toBe(401);
  }
  for (const path of ['/v1/models', '/admin/keys', '/admin/downloads?name=clinic/notes'])
    expect((await get(path, good)).status).toBe(401);
});

it('is made for page origins that the edge is configured for, and its own', async () => {
  expect((await mint({ origin: 'https://evil.example.com' })).body.error?.message).toMatch(/CORS_ORIGINS/);
  for (const origin of ['*', 'null', 'https://app.example.com/', 'app.example.com'])
    expect((await mint({ origin })).status).toBe(400);
  const own = await token({ origin: 'http://localhost' });
  expect(
    (await get('/v1/downloads?name=clinic/notes', own, { 'sec-fetch-site': 'same-origin' })).status,
  ).toBe(200);
  expect((await mint({ expires_in: 16 * 60_000 })).status).toBe(400);
  expect((await mint({ names: [] })).status).toBe(400);
});

it('gives no other tenant’s adapters, nor chains that stand on them', async () => {
  const guest = await makeKey({ tenant: 'guest', scopes: ['clinic/**'], download: true });
  await admin('/admin/grants', { scope: 'clinic/**', tenant: 'guest' });
  const { chain_id: parent } = (await (
    await graft.request('/v1/models/clinic', { key: guest.key! })
  ).json()) as { chain_id?: string };
  expect(parent).toBeUndefined();
  const { body } = await mint({ names: ['clinic', 'clinic/notes', 'none'] }, guest.key);
  const asked = (name: string) => refusal(get(`/v1/downloads?name=${name}`, body.token));
  const [status, message] = await asked('clinic/notes');
  expect([status, message.replaceAll('clinic/notes', 'none')]).toEqual(await asked('none'));
  expect(status).toBe(404);

  const chainId = (
    (await (
      await get('/v1/downloads?name=clinic', await token({ names: ['clinic'] }))
    ).json()) as DownloadChain
  ).chain_id;
  const mixed = tinyAdapter({ seed: 3, parent: chainId });
  expect((await graft.publish('guest/mixed', mixed, { parent: 'clinic', owner: 'guest' })).status).toBe(201);
  const own = await mint({ names: ['guest/mixed'] }, guest.key);
  expect(await refusal(get('/v1/downloads?name=guest/mixed', own.body.token))).toEqual([
    403,
    "'guest/mixed' depends on adapters of other owners, which may be used but not downloaded.",
  ]);
});

it('gives a new version once it is live, and none that is retired', async () => {
  const next = tinyAdapter({ seed: 4 });
  graft.clock.advance(61_000);
  await graft.publish('clinic/notes', next, { owner: 'clinic' });
  const chain = (await (await get('/v1/downloads?name=clinic/notes', await token())).json()) as DownloadChain;
  expect([chain.version, chain.chain.map(({ digest }) => digest)]).toEqual([2, [next.digest]]);
  await admin('/admin/retire', { name: 'clinic/notes', version: 1 });
  const old = `/v1/downloads/parts/0?name=clinic/notes&version=1&digest=${child.digest}`;
  expect((await get(old, await token())).status).toBe(410);
});
