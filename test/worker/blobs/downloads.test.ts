/** Adapters that are fetched back: who may, what comes, and what is said when it cannot. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, it, vi } from 'vitest';
import type { DownloadView } from '../../../protocol/admin-api/blobs.ts';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const root = tinyAdapter({ seed: 1 });
let graft: AppHarness;
let owner: NewKey;
let child: ReturnType<typeof tinyAdapter>;

const post = async (path: string, body: object, key?: string) => {
  const answer = await graft.request(path, { body, ...(key === undefined ? {} : { key }) });
  return { status: answer.status, body: (await answer.json()) as Record<string, never> };
};
const makeKey = async (body: object) => (await post('/admin/keys', body)).body as unknown as NewKey;
const view = async (query: string, key?: string) => {
  const answer = await graft.request(`/admin/downloads?${query}`, key === undefined ? {} : { key });
  return { status: answer.status, body: (await answer.json()) as DownloadView };
};
const part = (digest: string, index = 0, key?: string) =>
  graft.request(`/admin/downloads/parts/${index}?name=clinic/notes/deep&version=1&digest=${digest}`, {
    ...(key === undefined ? {} : { key }),
  });

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const published = await graft.publish('medicine', root);
  const { chain_id: chainId } = (await published.json()) as { chain_id: string };
  child = tinyAdapter({ seed: 2, parent: chainId });
  await post('/admin/grants', { scope: 'medicine', tenant: 'clinic' });
  expect(
    (await graft.publish('clinic/notes/deep', child, { parent: 'medicine', owner: 'clinic' })).status,
  ).toBe(201);
  owner = await makeKey({ kind: 'admin', tenant: 'clinic', download: true });
});

it('gives the owner the very file, and of the chain below only what is theirs', async () => {
  const { status, body } = await view('name=clinic/notes/deep', owner.key);
  expect(status).toBe(200);
  expect(body).toMatchObject({ name: 'clinic/notes/deep', version: 1, digest: child.digest });
  expect(body.chain).toEqual([
    { name: 'medicine', digest: root.digest, scale: 1, file: null },
    {
      ...{ name: 'clinic/notes/deep', digest: child.digest, scale: 1 },
      file: { bytes: child.bytes.length, parts: [{ bytes: child.bytes.length, sha256: child.digest }] },
    },
  ]);
  const answer = await part(child.digest, 0, owner.key);
  expect([answer.status, answer.headers.get('cache-control')]).toEqual([200, 'no-store']);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(child.digest);
  for (const [digest, index] of [
    [root.digest, 0],
    [child.digest, 1],
    ['f'.repeat(64), 0],
  ] as const)
    expect((await part(digest, index, owner.key)).status).toBe(404);
});

it('gives the operator all of the chain', async () => {
  expect((await view('name=clinic/notes/deep&version=1')).body.chain.every(({ file }) => file !== null)).toBe(
    true,
  );
  expect((await part(root.digest)).status).toBe(200);
});

it('gives nothing without the right, to others, or of what was removed', async () => {
  const plain = await makeKey({ kind: 'admin', tenant: 'clinic' });
  expect(plain.download).toBe(false);
  const stranger = await makeKey({ kind: 'admin', tenant: 'other', download: true });
  for (const [key, status] of [
    [plain.key, 403],
    [stranger.key, 404],
  ] as const) {
    expect((await view('name=clinic/notes/deep', key)).status).toBe(status);
    expect((await part(child.digest, 0, key)).status).toBe(status);
  }
  expect((await view('name=medicine', owner.key)).status).toBe(404);
  await post('/admin/remove', { name: 'clinic/notes/deep' });
  expect((await view('name=clinic/notes/deep', owner.key)).status).toBe(404);
  expect((await part(child.digest, 0, owner.key)).status).toBe(404);
});

it('is the operator’s to give and to take away', async () => {
  const own = await post('/admin/keys/change', { id: owner.id, download: true }, owner.key);
  expect(own.status).toBe(403);
  expect((await post('/admin/keys/change', { id: owner.id, download: false })).body).toMatchObject({
    download: false,
  });
  expect((await view('name=clinic/notes/deep', owner.key)).status).toBe(403);
});

it('says so when the bytes cannot be had', async () => {
  graft.clock.advance(61_000);
  await graft.kv.delete(`blob:${child.digest}:${child.digest}`);
  graft.clock.advance(61_000);
  const answer = await part(child.digest, 0, owner.key);
  expect([answer.status, await answer.json()]).toMatchObject([
    503,
    { error: { code: 'adapter_unavailable' } },
  ]);
});
