import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sha256Hex } from '../../../protocol/identity.ts';
import { MAX_EVALUATION_ROWS } from '../../../protocol/origin-wire.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from '../edge-harness.ts';

let graft: TestEdge;

const root = tinyAdapter({ seed: 1 });
const short = (digest: string) => digest.slice(0, 8);

const post = (path: string, body: unknown, key?: string) =>
  graft.admin(path, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...(key === undefined ? {} : { key }),
  });
const verify = (body: unknown, key?: string) => post('/admin/verify', body, key);
const evaluate = (body: unknown, key?: string) => post('/admin/evaluate', body, key);
const chainIdOf = async (name: string): Promise<string> => {
  const { versions } = (await (await graft.admin(`/admin/versions?name=${name}`)).json()) as {
    versions: { chain_id: string }[];
  };
  return versions[0]?.chain_id ?? '';
};
/** Someone with write access to D1 and KV. */
const rewrite = async (name: string, proof: (text: string) => string | null) => {
  const db = await graft.edge.miniflare.getD1Database('DB');
  const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
  const row = await db
    .prepare('SELECT digest, proof FROM versions WHERE name = ? AND version = 1')
    .bind(name)
    .first<{ digest: string; proof: string }>();
  const keyOf = (sha256: string) => `blob:${row?.digest}:${sha256}`;
  const text = proof((await kv.get(keyOf(row?.proof ?? ''))) ?? '');
  const sha256 = text === null ? null : await sha256Hex(text);
  if (text !== null) await kv.put(keyOf(sha256 ?? ''), text);
  await db.prepare('UPDATE versions SET proof = ? WHERE name = ? AND version = 1').bind(sha256, name).run();
};

beforeAll(async () => {
  graft = await startTestEdge({ moreOrigins: [{ id: 'dead', url: 'http://127.0.0.1:9' }] });
  expect((await graft.publish({ name: 'medicine', adapter: root })).status).toBe(201);
});
afterEach(() => graft.origin.tryWith(null));
afterAll(() => graft.stop());

describe('publishing', () => {
  it('copies the whole chain to an origin that responds, whichever is preferred', async () => {
    const chainId = await chainIdOf('medicine');
    graft.origin.forget(root.digest);
    for (const seed of [2, 3, 4]) {
      const child = tinyAdapter({ seed, parent: chainId });
      const published = await graft.publish({ name: `medicine/${seed}`, adapter: child, parent: 'medicine' });
      expect(published.status).toBe(201);
      expect(graft.origin.log.trials.at(-1)).toBe(`verify ${short(root.digest)} ${short(child.digest)}`);
    }
    expect(graft.origin.log.parts.filter((part) => part === `${short(root.digest)}:0`)).toHaveLength(2);
  });

  it('accepts versions without a proof', async () => {
    await rewrite('medicine', () => null);
    const answer = (await (await verify({ name: 'medicine' })).json()) as { proof: null; origins: object[] };
    expect(answer.proof).toBeNull();
    expect(answer.origins[0]).toEqual({
      id: 'o1',
      ok: false,
      reason: 'no proof for this base',
      kl: null,
      max_difference: 1.5,
    });
  });
});

describe('POST /admin/verify', () => {
  const adapter = tinyAdapter({ seed: 10 });
  beforeAll(async () => {
    expect((await graft.publish({ name: 'alice/notes', adapter })).status).toBe(201);
  });

  it('asks every origin, and copies what it has lost', async () => {
    graft.origin.forget(adapter.digest);
    const response = await verify({ name: 'alice/notes' });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      name: 'alice/notes',
      version: 1,
      digest: adapter.digest,
      proof: expect.objectContaining({ weights: 'f32' }) as object,
      origins: [
        { id: 'o1', ok: true, reason: null, kl: 0, max_difference: 1.5 },
        { id: 'dead', ok: false, reason: 'origin_unavailable', kl: null, max_difference: null },
      ],
    });
    expect((await verify({ name: 'alice/notes', version: 1 })).status).toBe(200);
  });

  it('detects a manipulated proof, and one of another base', async () => {
    let original = '';
    await rewrite('alice/notes', (text) => {
      original = text;
      return text.replace(/"id":\d+/, '"id":299');
    });
    const first = async () =>
      ((await (await verify({ name: 'alice/notes' })).json()) as { origins: object[] }).origins[0];
    expect(await first()).toMatchObject({ ok: false, reason: 'proof_mismatch', kl: 9 });
    await rewrite('alice/notes', () => original.replace('"weights":"f32"', '"weights":"int8"'));
    expect(await first()).toMatchObject({ ok: false, reason: 'no proof for this base', kl: null });
    await rewrite('alice/notes', () => original);
    expect(await first()).toMatchObject({ ok: true });
  });

  it('says so when the proof is lost', async () => {
    const file = tinyAdapter({ seed: 11 });
    const published = await graft.publish({ name: 'alice/lost', adapter: file });
    expect(published.status).toBe(201);
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    for (const { name: key } of (await kv.list({ prefix: `blob:${file.digest}:` })).keys)
      if (!key.endsWith(file.digest)) await kv.put(key, 'x');
    const answer = await verify({ name: 'alice/lost' });
    expect([answer.status, await answer.text()]).toEqual([
      503,
      expect.stringContaining("proof of 'alice/lost@1'"),
    ]);
  });

  it('is only for the owner, with the same 404 for everybody else', async () => {
    const other = await graft.makeAdminKey('other');
    const message = async (name: string) => {
      const response = await verify({ name }, other);
      expect(response.status).toBe(404);
      return (await response.text()).replaceAll(name, 'NAME');
    };
    expect(await message('alice/notes')).toBe(await message('alice/absent'));
    expect((await verify({ name: 'alice/notes', version: 2 })).status).toBe(404);
    expect((await graft.request('/admin/verify', { method: 'POST', body: '{}' })).status).toBe(401);
    expect((await graft.admin('/admin/verify')).status).toBe(405);
    expect((await verify({ name: 'alice/notes', version: 0 })).status).toBe(400);
  });

  it('returns 503 if none responds', async () => {
    graft.origin.tryWith((response) => response.destroy());
    const response = await verify({ name: 'alice/notes' });
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ error: { code: 'origin_unavailable' } });
  });
});

describe('POST /admin/evaluate', () => {
  const adapter = tinyAdapter({ seed: 20 });
  const rows = [
    { user: 'hi', system: 'Be brief.', expected: 'hi' },
    { prompt: 'a', expected: 'b' },
    { prompt: 'a', expected: 'fail' },
  ];
  const scores = [
    { exact: true, nll: 0.5, tokens: 3 },
    { exact: false, nll: 0.5, tokens: 2 },
    { error: 'the row is too long' },
  ];
  beforeAll(async () => {
    expect((await graft.upload(adapter)).status).toBe(201);
  });

  it('scores an uploaded, unpublished file, one score per row', async () => {
    const response = await evaluate({ digest: adapter.digest, rows });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ rows: scores });
    expect(graft.origin.log.trials.at(-1)).toBe(`evaluate ${short(adapter.digest)}`);
    expect((await graft.admin(`/admin/versions?digest=${adapter.digest}`)).status).toBe(200);
  });

  it('scores a child only on top of its parent', async () => {
    const child = tinyAdapter({ seed: 21, parent: await chainIdOf('medicine') });
    await graft.upload(child);
    expect((await evaluate({ digest: child.digest, parent: 'medicine', rows })).status).toBe(200);
    expect(graft.origin.log.trials.at(-1)).toBe(`evaluate ${short(root.digest)} ${short(child.digest)}`);
    const alone = await evaluate({ digest: child.digest, rows });
    expect(await alone.json()).toMatchObject({ error: { reason: 'parent_mismatch' } });
  });

  it('gives no access to a digest, or to a parent without a grant', async () => {
    const thief = await graft.makeAdminKey('thief');
    const stolen = await evaluate({ digest: adapter.digest, rows }, thief);
    expect([stolen.status, await stolen.json()]).toMatchObject([422, { error: { reason: 'blob_missing' } }]);
    const child = tinyAdapter({ seed: 22, parent: await chainIdOf('medicine') });
    await graft.upload(child, { key: thief });
    const forbidden = await evaluate({ digest: child.digest, parent: 'medicine', rows }, thief);
    const absent = await evaluate({ digest: child.digest, parent: 'medicime', rows }, thief);
    expect([forbidden.status, absent.status]).toEqual([404, 404]);
    expect((await forbidden.text()).replace('medicine', 'x')).toBe(
      (await absent.text()).replace('medicime', 'x'),
    );
  });

  it('enforces its limits', async () => {
    const body = (count: number, pad = 0) =>
      JSON.stringify({
        digest: adapter.digest,
        rows: Array.from({ length: count }, () => ({ prompt: 'a', expected: 'b' })),
      }).padEnd(pad);
    expect((await evaluate(body(MAX_EVALUATION_ROWS))).status).toBe(200);
    expect((await evaluate(body(MAX_EVALUATION_ROWS + 1))).status).toBe(400);
    expect((await evaluate(body(0))).status).toBe(400);
    expect((await evaluate(body(1, 512 * 1024))).status).toBe(200);
    expect((await evaluate(body(1, 512 * 1024 + 1))).status).toBe(413);
    expect((await verify(' '.repeat(64 * 1024 + 1))).status).toBe(413);
  });

  it('asks the next origin, and returns 503 if none gives a valid response', async () => {
    for (const answer of ['<html>', '{"rows":[]}', '{"rows":[{"exact":true}]}']) {
      graft.origin.tryWith((response) => response.end(answer));
      const response = await evaluate({ digest: adapter.digest, rows });
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({ error: { code: 'origin_unavailable' } });
    }
  });

  it('returns the origin’s error about the adapter', async () => {
    graft.origin.tryWith((response) => {
      response.writeHead(422, { 'content-type': 'application/json' });
      response.end('{"error":{"message":"too large","code":"adapter_invalid","reason":"rank_sum"}}');
    });
    const response = await evaluate({ digest: adapter.digest, rows });
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({ error: { message: 'too large', reason: 'rank_sum' } });
  });
});

it('leaves requests unaffected while nothing can be tried', async () => {
  graft.origin.tryWith((response) => response.destroy());
  const key = await graft.makeKey({ tenant: 'default' });
  const adapter = tinyAdapter({ seed: 30 });
  const published = await graft.publish({ name: 'medicine', adapter });
  expect(published.status).toBe(503);
  const { version } = (await (await graft.admin('/admin/versions?name=medicine')).json()) as {
    version: number;
  };
  expect(version).toBe(1);
  const absent = await graft.publish({ name: 'fresh', adapter });
  expect(absent.status).toBe(503);
  expect((await graft.admin('/admin/versions?name=fresh')).status).toBe(404);
  const response = await graft.request('/v1/chat/completions', {
    method: 'POST',
    key,
    body: chat('medicine'),
  });
  expect(response.status).toBe(200);
  expect(response.headers.get('x-graft-adapter')).toBe('medicine@1');
});
