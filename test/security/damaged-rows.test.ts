/** Rows of D1 that somebody damaged: lists go on without them, who asks for one is told, and repair names them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { startTestEdge, type TestEdge } from '../worker/edge-harness.ts';

/** What was put in place of JSON, and must not be told. */
const JUNK = 'junk-9f2c';

let graft: TestEdge;
let key: string;
let damagedKey: string;
const json = async (path: string, init?: Parameters<TestEdge['admin']>[1]) => {
  const response = await graft.admin(path, init);
  return { status: response.status, body: (await response.json()) as Record<string, never[]> };
};
const post = (path: string, body: object) => json(path, { method: 'POST', body: JSON.stringify(body) });
const run = async (sql: string, ...values: string[]) => {
  const db = await graft.edge.miniflare.getD1Database('DB');
  await db
    .prepare(sql)
    .bind(...values)
    .run();
};
const damaged = { status: 500, body: { error: { code: 'registry_damaged' } } };

beforeAll(async () => {
  graft = await startTestEdge();
  key = await graft.makeKey({ tenant: 'default' });
  for (const [i, name] of ['good', 'chain', 'evaluation', 'training'].entries())
    for (const version of [1, 2]) {
      const adapter = tinyAdapter({ seed: 2 * i + version });
      expect((await graft.publish({ name, adapter })).status).toBe(201);
    }
  for (const column of ['chain', 'evaluation', 'training'])
    await run(`UPDATE versions SET ${column} = ? WHERE name = ? AND version = 2`, JUNK, column);
  damagedKey = ((await post('/admin/keys', { tenant: 'default' })).body as unknown as { id: string }).id;
  await run('UPDATE keys SET rights = ? WHERE id = ?', JUNK, damagedKey);
  const variants = [1, 2].map((version) => ({ key: `v${version}`, adapter: `good@${version}`, weight: 0.5 }));
  const made = await post('/admin/experiments', { name: 'good', variants });
  expect(made.status).toBe(201);
  await run('UPDATE experiments SET document = ?', JUNK);
});
afterAll(() => graft.stop());

describe('a damaged row', () => {
  it('is left out of lists, which go on', async () => {
    const models = await graft.request('/v1/models', { key });
    const { data } = (await models.json()) as { data: { id: string }[] };
    // Nothing that serves a version reads its training card.
    expect(data.map(({ id }) => id).slice(1)).toEqual(['good', 'training']);
    const body = JSON.stringify({ model: 'goof', messages: [{ role: 'user', content: 'hi' }] });
    const missing = await graft.request('/v1/chat/completions', { method: 'POST', key, body });
    expect([missing.status, await missing.text()]).toEqual([404, expect.stringContaining('good')]);
    const { versions } = (await json('/admin/versions?name=chain')).body;
    expect(versions).toMatchObject([{ version: 1 }]);
    expect((await json('/admin/versions?name=training')).body['versions']).toMatchObject([{ version: 1 }]);
    const { digest } = tinyAdapter({ seed: 4 });
    expect(await json(`/admin/versions?digest=${digest}`)).toEqual({ status: 200, body: { versions: [] } });
    expect((await json('/admin/names')).body['names']).toHaveLength(4);
    const { keys } = (await json('/admin/keys')).body;
    expect(JSON.stringify(keys)).not.toContain(damagedKey);
    expect(keys).toHaveLength(1);
    expect(await json('/admin/experiments')).toMatchObject({ status: 200, body: { experiments: [] } });
  });

  it('is told to who asks for exactly that', async () => {
    expect(await post('/admin/promote', { name: 'chain', version: 2 })).toMatchObject(damaged);
    expect(await post('/admin/keys/change', { id: damagedKey, label: 'x' })).toMatchObject(damaged);
    const { headers } = await graft.admin('/admin/promote', {
      method: 'POST',
      body: '{"name":"chain","version":2}',
    });
    expect(headers.get('x-should-retry')).toBe('false');
  });

  it('does not keep anybody from revoking its key, or from publishing past it', async () => {
    expect((await graft.admin(`/admin/keys/${damagedKey}`, { method: 'DELETE' })).status).toBeLessThan(300);
    await run('UPDATE keys SET revoked_at = NULL WHERE id = ?', damagedKey);
    const next = await graft.publish({ name: 'evaluation', adapter: tinyAdapter({ seed: 12 }) });
    expect([next.status, await next.json()]).toMatchObject([201, { version: 3 }]);
  });

  it('is named by repair and logged, never with its value', async () => {
    const found: unknown[] = [];
    for (let cursor: string | null = null; ;) {
      const { status, body } = await post('/admin/repair', { dry_run: true, cursor });
      expect(status).toBe(200);
      found.push(...(body['damaged'] ?? []));
      cursor = body['cursor'] as unknown as string | null;
      if (cursor === null) break;
    }
    expect(found).toEqual([
      { table: 'versions', id: 'chain@2', column: 'chain' },
      { table: 'versions', id: 'evaluation@2', column: 'evaluation' },
      { table: 'versions', id: 'training@2', column: 'training' },
      { table: 'keys', id: damagedKey, column: 'rights' },
      { table: 'experiments', id: expect.stringMatching(/^exp_/) as string, column: 'document' },
    ]);
    const logs = graft.logs.join('\n');
    expect(logs).toContain('"event":"row_damaged","table":"versions","id":"chain@2","column":"chain"');
    expect(logs).not.toContain(JUNK);
  });
});
