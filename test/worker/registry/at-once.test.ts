/** Concurrent and interleaved changes: the real app on D1's real statements. */
import { describe, expect, it, vi } from 'vitest';
import { chainId } from '../../../protocol/identity.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { useD1App } from '../d1-app.ts';

const MINUTE_MS = 60_000;
const [first, second] = [tinyAdapter({ seed: 1 }), tinyAdapter({ seed: 2 })];

const app = useD1App();
const { ask } = app;
const get = async (path: string) => (await (await app.graft.request(path)).json()) as Record<string, unknown>;

describe('concurrent requests', () => {
  it('that add and remove tags both succeed', async () => {
    await app.graft.publish('notes', first);
    await ask('/admin/edit', { name: 'notes', tags: ['old'] });
    const answers = await Promise.all([
      ask('/admin/edit', { name: 'notes', add_tags: ['a', 'old'] }),
      ask('/admin/edit', { name: 'notes', add_tags: ['b'], remove_tags: ['old'] }),
      ask('/admin/edit', { name: 'notes', description: 'what it is for' }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    const { names } = (await get('/admin/names')) as { names: { description: string; tags: string[] }[] };
    expect(names).toMatchObject([{ description: 'what it is for' }]);
    expect(names[0]?.tags.filter((tag) => tag !== 'old')).toEqual(['a', 'b']);
  });

  it('that change different limits of a tenant both succeed', async () => {
    const answers = await Promise.all([
      ask('/admin/tenants/limits', { tenant: 'acme', limits: { requests_per_minute: 60 } }),
      ask('/admin/tenants/limits', { tenant: 'acme', limits: { tokens_per_day: 1_000 } }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    const { tenants } = await get('/admin/tenants/limits');
    expect(tenants).toMatchObject([{ limits: { requests_per_minute: 60, tokens_per_day: 1_000 } }]);
  });

  it('that register the same key register it once', async () => {
    const hash = 'ab'.repeat(32);
    const answers = await Promise.all([1, 2, 3].map(() => ask('/admin/keys', { tenant: 'acme', hash })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 201]);
    expect(new Set(answers.map(({ body }) => body['id'])).size).toBe(1);
  });
});

describe('a publication', () => {
  it('that was not served at first is reported as new on a retry', async () => {
    await app.graft.publish('notes', first);
    app.graft.clock.advance(MINUTE_MS);
    const put = app.graft.kv.put.bind(app.graft.kv);
    const failing = vi
      .spyOn(app.graft.kv, 'put')
      .mockImplementation((key, ...given) =>
        key === 'name:notes' ? Promise.reject(new Error('away')) : put(key, ...given),
      );
    expect((await app.graft.publish('notes', second)).status).toBe(503);
    failing.mockRestore();
    app.graft.clock.advance(MINUTE_MS);
    expect((await app.graft.publish('notes', second)).status).toBe(201);
    expect((await app.graft.publish('notes', second)).status).toBe(200);
  });

  it.each([
    ['retired', false],
    ['removed', false],
    ['retired', true],
  ])('whose parent is %s while it is being tried says so', async (how, known) => {
    await app.graft.publish('base-notes', first);
    const child = tinyAdapter({ seed: 5, parent: await chainId([{ digest: first.digest, scale: 1 }]) });
    const other = tinyAdapter({ seed: 6, parent: await chainId([{ digest: first.digest, scale: 1 }]) });
    if (known) await app.graft.publish('child', other, { parent: 'base-notes', stage: true });
    if (known) await ask('/admin/retire', { name: 'child', version: 1 });
    const { answer } = app.graft.origin;
    app.graft.origin.answer = async (method, path, init, url) => {
      if (path.endsWith('/verify')) {
        app.graft.origin.answer = answer;
        await app.graft.publish('base-notes', second);
        const path = how === 'retired' ? '/admin/retire' : '/admin/remove';
        expect((await ask(path, { name: 'base-notes', version: 1 })).status).toBe(200);
      }
      return answer(method, path, init, url);
    };
    const refused = await app.graft.publish('child', child, { parent: 'base-notes' });
    expect(refused.status).toBe(409);
    const { error } = (await refused.json()) as { error: { message: string } };
    expect(error.message).toContain("'base-notes@1'");
    expect(error.message).toMatch(/retired or removed/);
  });
});

describe('an unreadable row', () => {
  it('is reported by repair, omitted from lists, and delays nothing else', async () => {
    await app.graft.publish('bad', first);
    await app.graft.publish('good', second);
    app.graft.clock.advance(MINUTE_MS);
    await app.db.prepare("UPDATE names SET about = '{' WHERE name = 'bad'").run();
    app.graft.kv.tamper('name:good', () => null);
    expect((await get('/admin/names'))['names']).toMatchObject([{ name: 'good' }]);
    const damaged: unknown[] = [];
    const mended: unknown[] = [];
    for (let cursor: string | null = null; ;) {
      const { status, body } = await ask('/admin/repair', { cursor });
      expect(status).toBe(200);
      damaged.push(...((body['damaged'] ?? []) as unknown[]));
      mended.push(...(body['mended'] as unknown[]));
      if (body['cursor'] === null) break;
      cursor = body['cursor'] as string;
    }
    expect(damaged).toEqual([{ table: 'names', id: 'bad', column: 'about' }]);
    expect(mended).toMatchObject([{ kind: 'name', id: 'good' }]);
    expect(await ask('/admin/edit', { name: 'bad', description: 'anew' })).toMatchObject({
      body: { error: { code: 'registry_damaged' } },
    });
  });
});
