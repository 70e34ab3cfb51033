/** Limits that the operator sets for a tenant hold, whatever the tenant's admin key does. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { REPAIR_PAGE } from '../../worker/limits.ts';
import { syncUnwrittenLimits } from '../../worker/metering/key-limits.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

/** Longer than what KV may be behind. */
const LATER_MS = 61_000;

let graft: AppHarness;
let admin: string;

interface Key {
  id: string;
  key: string;
}

const make = async (body: object, by = graft.adminKey): Promise<Key> => {
  const made = await graft.request('/admin/keys', { body, key: by });
  expect(made.status).toBe(201);
  return (await made.json()) as Key;
};
const post = (path: string, body: object, key = graft.adminKey) => graft.request(path, { body, key });
const limit = async (limits: object | null, tenant = 'alice') => {
  const answer = await post('/admin/tenants/limits', { tenant, limits });
  expect(answer.status).toBe(200);
  return (await answer.json()) as { pending: boolean };
};
const ask = async ({ key }: Key) => {
  const body = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
  const answer = await graft.request('/v1/chat/completions', { key, body });
  await answer.clone().arrayBuffer();
  return answer;
};
/** @returns how many of `count` requests pass. */
const passing = async (keys: readonly Key[], count: number): Promise<number> => {
  let passed = 0;
  for (let i = 0; i < count; i += 1) passed += Number((await ask(keys[i % keys.length] as Key)).ok);
  return passed;
};

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  admin = (await make({ kind: 'admin', tenant: 'alice' })).key;
});

describe('limits of a tenant', () => {
  it('hold for all of its keys together: of before, of after, and its own', async () => {
    const before = await make({ tenant: 'alice' });
    await limit({ requests_per_minute: 5 });
    const after = await make({ tenant: 'alice', limits: { requests_per_minute: 1_000 } });
    const own = await make({}, admin);
    graft.clock.advance(LATER_MS);
    expect(await passing([before, after, own], 30)).toBe(5);
    const refused = await ask(own);
    expect([refused.status, refused.headers.get('x-graft-limited-by')]).toEqual([429, 'tenant']);
    expect(((await refused.json()) as { error: { message: string } }).error.message).toContain(
      'All keys of this tenant together',
    );
    expect(await passing([await make({ tenant: 'bob' })], 10)).toBe(10);
    await limit(null);
    graft.clock.advance(LATER_MS);
    expect(await passing([before, after, own], 30)).toBe(30);
  });

  it('are not the tenant’s to change, and nobody else’s to see', async () => {
    await limit({ requests_per_minute: 5 });
    for (const limits of [null, { requests_per_minute: null }, { requests_per_minute: 4 }])
      expect((await post('/admin/tenants/limits', { tenant: 'alice', limits }, admin)).status).toBe(403);
    expect((await post('/admin/limits/reset', { tenant: 'alice' }, admin)).status).toBe(403);
    const shown = async (key: string) =>
      (await (await graft.request('/admin/tenants/limits', { key })).json()) as { tenants: unknown[] };
    expect((await shown(admin)).tenants).toMatchObject([
      { tenant: 'alice', limits: { requests_per_minute: 5 }, pending: false },
    ]);
    const bob = await make({ kind: 'admin', tenant: 'bob' });
    expect((await shown(bob.key)).tenants).toEqual([]);
  });

  it('cost no read of KV or D1 on the way of a request, and tenants without them no counter', async () => {
    const [hers, his] = [await make({ tenant: 'alice' }), await make({ tenant: 'bob' })];
    await limit({ requests_per_minute: 5 });
    graft.clock.advance(LATER_MS);
    const get = vi.spyOn(graft.services.keyLedger, 'get');
    const reads: number[] = [];
    for (const key of [hers, his]) {
      graft.kv.reads = 0;
      expect((await ask(key)).status).toBe(200);
      reads.push(graft.kv.reads);
    }
    expect(reads[0]).toBe(reads[1]);
    expect(get).not.toHaveBeenCalled();
    expect(graft.quotas.calls.filter((call) => call.startsWith('admit'))).toEqual(['admit tenant:alice']);
  });

  it('reach keys without number, a page with the request and the rest by the schedule', async () => {
    const keys: Key[] = [];
    for (let i = 0; i < 2 * REPAIR_PAGE + 1; i += 1) keys.push(await make({ tenant: 'alice' }));
    expect(await limit({ requests_per_minute: 5 })).toMatchObject({ pending: true });
    await syncUnwrittenLimits(graft.services);
    expect(await graft.services.tenantLimits.unwritten(9)).toEqual([]);
    graft.clock.advance(LATER_MS);
    expect(await passing(keys, keys.length)).toBe(5);
  });

  it('are mended by a repair where KV has a key’s record from before', async () => {
    const key = await make({ tenant: 'alice' });
    const [entry] = (await graft.kv.list({ prefix: 'key:', cursor: null })).keys;
    const old = await graft.kv.get(entry?.name ?? '', { type: 'text', cacheTtl: 30 });
    await limit({ requests_per_minute: 1 });
    graft.kv.tamper(entry?.name ?? '', () => old);
    graft.clock.advance(LATER_MS);
    expect(await passing([key], 3)).toBe(3);
    for (let cursor: string | null = ''; cursor !== null;) {
      const answer: Response = await post('/admin/repair', cursor === '' ? {} : { cursor });
      ({ cursor } = (await answer.json()) as { cursor: string | null });
    }
    graft.clock.advance(LATER_MS);
    expect(await passing([key], 3)).toBe(1);
  });

  it('begin anew when the operator says so', async () => {
    const key = await make({ tenant: 'alice' });
    await limit({ requests_per_minute: 2 });
    graft.clock.advance(LATER_MS);
    expect(await passing([key], 9)).toBe(2);
    expect((await post('/admin/limits/reset', { tenant: 'alice' })).status).toBe(200);
    graft.clock.advance(1_001);
    expect(await passing([key], 9)).toBe(2);
    for (const body of [{}, { tenant: 'alice', key: key.id }, { tenant: 'Alice' }])
      expect((await post('/admin/limits/reset', body)).status).toBe(400);
    expect((await post('/admin/limits/reset', { key: 'key_none' })).status).toBe(404);
    expect((await post('/admin/limits/reset', { key: key.id })).status).toBe(200);
  });
});

describe('limits of a key that the operator set', () => {
  const change = (key: Key, limits: object | null, by = admin) =>
    post('/admin/keys/change', { id: key.id, limits }, by);

  it('can be lowered by the tenant, never raised or lifted', async () => {
    const key = await make({
      tenant: 'alice',
      limits: { requests_per_minute: 9, tokens_per_day: 100, on_outage: 'refuse' },
    });
    for (const wider of [
      null,
      { requests_per_minute: 10 },
      { requests_per_minute: null },
      { tokens_per_day: null, requests_per_minute: 1 },
      { on_outage: 'allow' },
      { on_outage: null },
    ]) {
      const answer = await change(key, wider);
      expect([wider, answer.status]).toEqual([wider, 403]);
    }
    expect((await change(key, { requests_per_minute: 8, concurrent: 2 })).status).toBe(200);
    // What was lowered is not raised again either.
    expect((await change(key, { requests_per_minute: 9 })).status).toBe(403);
    expect((await post('/admin/keys/change', { id: key.id, label: 'x' }, admin)).status).toBe(200);
    expect((await change(key, { requests_per_minute: 20 }, graft.adminKey)).status).toBe(200);
  });

  it('stay so in the key that it is rotated into', async () => {
    const key = await make({ tenant: 'alice', limits: { requests_per_minute: 9 } });
    const rotated = (await (await post('/admin/keys/rotate', { id: key.id }, admin)).json()) as Key;
    expect((await change(rotated, null)).status).toBe(403);
  });

  it('are the tenant’s own where the tenant set them', async () => {
    const own = await make({ limits: { requests_per_minute: 9 } }, admin);
    expect((await change(own, { requests_per_minute: 90 })).status).toBe(200);
    const bare = await make({ tenant: 'alice' });
    expect((await change(bare, { requests_per_minute: 9 })).status).toBe(200);
    expect((await change(bare, null)).status).toBe(200);
    expect((await change(bare, { requests_per_minute: 9 }, graft.adminKey)).status).toBe(200);
    expect((await change(bare, null)).status).toBe(403);
  });
});
