import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RightsWriter } from '../../../worker/access/ports.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const HOUR_MS = 3_600_000;
const LATER_MS = 61_000;

let graft: AppHarness;

interface Key {
  id: string;
  key: string;
  expires_at: number | null;
  old_expires_at: number;
  replaced_by: string | null;
  [field: string]: unknown;
}

const make = async (more: object = {}, adminKey?: string): Promise<Key> => {
  const response = await graft.request('/admin/keys', {
    body: more,
    ...(adminKey === undefined ? {} : { key: adminKey }),
  });
  expect(response.status).toBe(201);
  return (await response.json()) as Key;
};
const rotate = (body: object, adminKey?: string) =>
  graft.request('/admin/keys/rotate', { body, ...(adminKey === undefined ? {} : { key: adminKey }) });
const ask = async (key: string, model = 'base') => {
  const response = await graft.request('/v1/chat/completions', {
    key,
    body: { model, messages: [{ role: 'user', content: 'hi' }] },
  });
  await response.clone().arrayBuffer();
  return response;
};
const listed = async (id: string): Promise<Key | undefined> => {
  const response = await graft.request('/admin/keys');
  return ((await response.json()) as { keys: Key[] }).keys.find((key) => key.id === id);
};
const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; message: string; param: string | null } }).error;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  graft = await createAppHarness();
});
afterEach(() => vi.restoreAllMocks());

describe('creating keys', () => {
  it('shows the new key this once; the ledger and KV only have its hash', async () => {
    const made = await make({
      tenant: 'acme',
      scopes: ['medicine/**'],
      label: 'staging',
      expires_in: HOUR_MS,
      limits: { requests_per_minute: 5, tokens_per_day: 1_000, on_outage: 'refuse' },
      strict: true,
      strict_fields: true,
      degrade: 'base',
    });
    const { key, ...rest } = made;
    expect(key).toMatch(/^gk_/);
    expect(await listed(made.id)).toEqual(rest);
    expect(rest).toMatchObject({
      kind: 'api',
      tenant: 'acme',
      scopes: ['medicine/**'],
      label: 'staging',
      created_by: 'bootstrap',
      revoked_at: null,
      expires_at: graft.clock.now() + HOUR_MS,
      limits: { requests_per_minute: 5, tokens_per_day: 1_000, on_outage: 'refuse' },
      strict: true,
      strict_fields: true,
      degrade: 'base',
      replaced_by: null,
    });
    expect(JSON.stringify(await graft.services.keyLedger.page({ cursor: null, limit: 99 }))).not.toContain(
      key,
    );
    expect(JSON.stringify(await graft.services.keyLedger.get(made.id))).not.toContain(key);
  });

  it.each([
    [{ limits: { requests_per_minute: 0 } }, 'limits.requests_per_minute'],
    [{ limits: { requests_per_second: 5 } }, 'limits.requests_per_second'],
    [{ limits: { concurrent: 1.5 } }, 'limits.concurrent'],
    [{ expires_in: -1 }, 'expires_in'],
    [{ expires_in: 1e15 }, 'expires_in'],
    [{ degrade: 'anything' }, 'degrade'],
    [{ kind: 'admin', limits: { concurrent: 1 } }, 'limits'],
    [{ kind: 'admin', strict: true }, 'strict'],
    [{ kind: 'admin', strict_fields: true }, 'strict_fields'],
    [{ trust_trace: 'yes' }, 'trust_trace'],
    [{ label: 'two\nlines' }, 'label'],
  ])('refuses %j', async (body, param) => {
    const response = await graft.request('/admin/keys', { body });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param });
  });

  it('lists the keys page by page, those of the tenant alone for its admin key', async () => {
    const { key: admin } = await make({ kind: 'admin', tenant: 'acme' });
    for (const label of ['one', 'two']) {
      graft.clock.advance(1);
      await make({ label }, admin);
      await make({ tenant: 'other', label });
    }
    const labels = async (key?: string) => {
      const found: unknown[] = [];
      for (let query = 'limit=2', pages = 1; ; pages += 1) {
        const response = await graft.request(`/admin/keys?${query}`, key === undefined ? {} : { key });
        const page = (await response.json()) as { keys: Key[]; cursor: string | null };
        found.push(...page.keys.map(({ label }) => label));
        if (page.cursor === null) return { pages, found };
        query = `limit=2&cursor=${page.cursor}`;
      }
    };
    expect(await labels(admin)).toEqual({ pages: 2, found: ['two', 'one', ''] });
    expect(await labels()).toMatchObject({ pages: 3, found: ['two', 'two', 'one', 'one', ''] });
    for (const query of ['limit=0', 'limit=1001', `cursor=${'1'.repeat(97)}`, 'page=2'])
      expect([query, (await graft.request(`/admin/keys?${query}`)).status]).toEqual([query, 400]);
  });

  it('lets a tenant’s admin key give only rights that it has', async () => {
    const { key: admin } = await make({ kind: 'admin', tenant: 'acme', scopes: ['medicine/**'] });
    const made = await make({ scopes: ['medicine/cardiology'] }, admin);
    expect(made['tenant']).toBe('acme');
    for (const body of [
      { scopes: ['**'] },
      { kind: 'admin' },
      { tenant: 'other' },
      { hash: 'a'.repeat(64) },
      { trust_trace: true },
    ])
      expect((await graft.request('/admin/keys', { key: admin, body })).status).toBe(403);
    const { key: trusting } = await make({ kind: 'admin', tenant: 'acme', trust_trace: true });
    expect(await make({ trust_trace: true }, trusting)).toMatchObject({ trust_trace: true });
  });
});

describe('changing keys', () => {
  const change = (body: object, key?: string) =>
    graft.request('/admin/keys/change', { body, ...(key === undefined ? {} : { key }) });

  it('changes given fields, removes those that are null, and keeps the rest', async () => {
    const { id, key } = await make({
      label: 'old',
      scopes: ['a'],
      limits: { requests_per_minute: 1, concurrent: 4, on_outage: 'refuse' },
      degrade: 'base',
    });
    expect((await ask(key)).status).toBe(200);
    expect((await ask(key)).status).toBe(429);
    const changed = await change({
      id,
      label: 'new',
      limits: { requests_per_minute: 2, concurrent: null, tokens_per_day: 9 },
      degrade: null,
    });
    expect(changed.status).toBe(200);
    expect(await changed.json()).toEqual(await listed(id));
    expect(await listed(id)).toMatchObject({
      label: 'new',
      scopes: ['a'],
      limits: { requests_per_minute: 2, tokens_per_day: 9, on_outage: 'refuse' },
      degrade: null,
    });
    graft.clock.advance(59_000);
    expect((await ask(key)).status).toBe(200);
    await change({ id, limits: { requests_per_minute: null, tokens_per_day: null } });
    expect((await listed(id))?.['limits']).toBeNull();
    await change({ id, limits: { concurrent: 1 } });
    await change({ id, limits: null });
    expect((await listed(id))?.['limits']).toBeNull();
  });

  it('is refused if creating the key would be', async () => {
    const { key: admin } = await make({ kind: 'admin', tenant: 'acme', scopes: ['a/**'] });
    const mine = await make({ tenant: 'acme' });
    const other = await make({ tenant: 'other' });
    expect((await change({ id: mine.id, scopes: ['a/b'] }, admin)).status).toBe(200);
    expect((await change({ id: mine.id, scopes: ['**'] }, admin)).status).toBe(403);
    expect((await change({ id: other.id, label: 'x' }, admin)).status).toBe(404);
    expect((await change({ id: mine.id, tenant: 'other' })).status).toBe(400);
    expect((await change({ id: mine.id, limits: { concurrent: 0 } })).status).toBe(400);
    await graft.request(`/admin/keys/${mine.id}`, { method: 'DELETE' });
    expect((await change({ id: mine.id, label: 'x' })).status).toBe(409);
  });

  it('restores nothing that was removed from the key during the request', async () => {
    const { key: admin } = await make({ kind: 'admin', tenant: 'acme', scopes: ['**'] });
    const { id } = await make({ tenant: 'acme', scopes: ['**'], limits: { tokens_per_day: 1_000 } });
    const ledger = graft.services.keyLedger;
    const narrowed = { scopes: ['a'], limits: { tokens_per_day: 1 } };
    // The operator's change comes first, after the tenant's request has read the key.
    for (const method of ['change', 'rotate'] as const) {
      const write = ledger[method].bind(ledger) as (...given: unknown[]) => Promise<boolean>;
      vi.spyOn(ledger, method).mockImplementationOnce(async (...given: unknown[]) => {
        expect((await change({ id, ...narrowed, label: later(method) })).status).toBe(200);
        return write(...given);
      });
      const asked = method === 'change' ? change({ id, label: 'mine' }, admin) : rotate({ id }, admin);
      const refused = await asked;
      expect([refused.status, (await errorOf(refused)).message]).toEqual([
        409,
        expect.stringContaining('changed or revoked in the meantime'),
      ]);
      expect(await listed(id)).toMatchObject({ ...narrowed, label: later(method), replaced_by: null });
    }
    expect((await change({ id, label: 'mine' }, admin)).status).toBe(200);
    expect(await listed(id)).toMatchObject({ ...narrowed, label: 'mine' });
  });
});
const later = (method: string) => `operator, ${method}`;

describe('keys that end', () => {
  it('expire on time, with their own error', async () => {
    const { key } = await make({ expires_in: HOUR_MS });
    expect((await ask(key)).status).toBe(200);
    graft.clock.advance(HOUR_MS - 1);
    expect((await ask(key)).status).toBe(200);
    graft.clock.advance(1);
    const late = await ask(key);
    expect(late.status).toBe(401);
    expect((await errorOf(late)).message).toContain('expired on');
  });

  it('also expire if they are admin keys', async () => {
    const { key } = await make({ kind: 'admin', tenant: 'acme', expires_in: HOUR_MS });
    expect((await graft.request('/admin/keys', { key })).status).toBe(200);
    graft.clock.advance(HOUR_MS);
    expect((await graft.request('/admin/keys', { key })).status).toBe(401);
  });

  it('are revoked for good', async () => {
    const { key, id } = await make();
    expect((await ask(key)).status).toBe(200);
    const at = graft.clock.now();
    expect((await graft.request(`/admin/keys/${id}`, { method: 'DELETE' })).status).toBe(204);
    graft.clock.advance(LATER_MS);
    expect((await ask(key)).status).toBe(401);
    expect((await rotate({ id })).status).toBe(409);
    expect((await listed(id))?.['revoked_at']).toBe(at);
  });
});

describe('rotating keys', () => {
  it('creates one with the same rights; the old one lasts for the grace period', async () => {
    const old = await make({ tenant: 'acme', scopes: ['a/**'], limits: { requests_per_minute: 9 } });
    const until = graft.clock.now() + HOUR_MS;
    const response = await rotate({ id: old.id, grace: HOUR_MS });
    expect(response.status).toBe(201);
    const fresh = (await response.json()) as Key;
    expect(fresh).toMatchObject({
      tenant: 'acme',
      scopes: ['a/**'],
      limits: { requests_per_minute: 9 },
      expires_at: null,
      replaces: old.id,
      old_expires_at: until,
    });
    expect(fresh.key).not.toBe(old.key);
    expect(await listed(old.id)).toMatchObject({ replaced_by: fresh.id, expires_at: until });
    for (const key of [old.key, fresh.key]) expect((await ask(key)).status).toBe(200);
    graft.clock.advance(HOUR_MS + LATER_MS);
    expect((await ask(old.key)).status).toBe(401);
    expect((await ask(fresh.key)).status).toBe(200);
    // Rotating an ended key does not revive it.
    expect((await rotate({ id: old.id })).status).toBe(409);
  });

  it('counts both against one counter, however often it is repeated', async () => {
    let { id, key } = await make({ limits: { requests_per_minute: 3 } });
    const keys = [key];
    for (let i = 0; i < 3; i += 1) {
      ({ id, key } = (await (await rotate({ id })).json()) as Key);
      keys.push(key);
    }
    const codes = [];
    for (const one of keys) codes.push((await ask(one)).status);
    expect(codes).toEqual([200, 200, 200, 429]);
  });

  it('gives the new key the old one’s lifetime, and never extends the old one', async () => {
    const old = await make({ expires_in: 10 * HOUR_MS });
    graft.clock.advance(9 * HOUR_MS);
    const fresh = (await (await rotate({ id: old.id, grace: 5 * HOUR_MS })).json()) as Key;
    expect(fresh.expires_at).toBe(graft.clock.now() + 10 * HOUR_MS);
    expect(fresh.old_expires_at).toBe(old.expires_at);
  });

  it('ends the old key at once without a grace period', async () => {
    const old = await make();
    const fresh = (await (await rotate({ id: old.id, grace: 0 })).json()) as Key;
    expect((await ask(old.key)).status).toBe(401);
    expect((await ask(fresh.key)).status).toBe(200);
  });

  it('ends the old key on a retry, if KV was not updated the first time', async () => {
    let away = false;
    graft = await createAppHarness({
      wrap: (port, name) => {
        if (name !== 'rights') return port;
        const { syncKey } = port as unknown as RightsWriter;
        const cut: RightsWriter['syncKey'] = (...given) =>
          away ? Promise.reject(new StoreUnavailable('KV', new Error('away'))) : syncKey(...given);
        return { ...port, syncKey: cut };
      },
    });
    const old = await make();
    expect((await ask(old.key)).status).toBe(200);
    away = true;
    expect((await rotate({ id: old.id, grace: 0 })).status).toBe(503);
    away = false;
    graft.clock.advance(LATER_MS);
    expect((await rotate({ id: old.id, grace: 0 })).status).toBe(409);
    graft.clock.advance(LATER_MS);
    expect((await ask(old.key)).status).toBe(401);
  });

  it('lets an admin key replace itself without extending its life', async () => {
    const old = await make({ kind: 'admin', tenant: 'acme', expires_in: 10 * HOUR_MS });
    graft.clock.advance(HOUR_MS);
    const response = await rotate({ id: old.id, expires_in: 100 * HOUR_MS }, old.key);
    expect(response.status).toBe(201);
    const fresh = (await response.json()) as Key;
    expect(fresh.expires_at).toBe(old.expires_at);
    expect((await graft.request('/admin/keys', { key: fresh.key })).status).toBe(200);
  });

  it('does not find keys of other tenants', async () => {
    const { key: admin } = await make({ kind: 'admin', tenant: 'acme' });
    const other = await make({ tenant: 'other' });
    expect((await rotate({ id: other.id }, admin)).status).toBe(404);
    const revoked = await graft.request(`/admin/keys/${other.id}`, { method: 'DELETE', key: admin });
    expect(revoked.status).toBe(404);
    const list = (await (await graft.request('/admin/keys', { key: admin })).json()) as { keys: Key[] };
    expect(list.keys.map(({ id }) => id)).not.toContain(other.id);
  });
});

describe('usage', () => {
  const notes = tinyAdapter({ seed: 31 });
  const answerWith = (prompt: number, completion: number) => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init) =>
      path === '/v1/chat/completions'
        ? Response.json(
            { ok: true },
            { headers: { 'x-graft-usage': `prompt=${prompt},completion=${completion}` } },
          )
        : answer(method, path, init);
  };
  const usage = async (query: string, key?: string) => {
    const response = await graft.request(`/admin/usage?${query}`, key === undefined ? {} : { key });
    return {
      status: response.status,
      ...((await response.json()) as { rows: object[]; from: string; to: string }),
    };
  };

  it('is summed by key, tenant, name and day', async () => {
    const mine = await make({ tenant: 'default' });
    const theirs = await make({ tenant: 'acme' });
    expect((await graft.publish('notes', notes)).status).toBe(201);
    answerWith(10, 5);
    for (const [key, model] of [
      [mine.key, 'notes'],
      [mine.key, 'base'],
      [theirs.key, 'base'],
    ] as const)
      expect((await ask(key, model)).headers.get('x-graft-usage')).toBeNull();
    await ask(mine.key, 'nothing');
    const row = (group: string, times: number) => ({
      group,
      requests: times,
      errors: 0,
      prompt_tokens: 10 * times,
      completion_tokens: 5 * times,
      total_tokens: 15 * times,
      last_hour: expect.stringMatching(/:00:00\.000Z$/),
    });
    expect((await usage('by=key')).rows).toEqual([row(mine.id, 2), row(theirs.id, 1)]);
    expect((await usage('by=tenant')).rows).toEqual([row('default', 2), row('acme', 1)]);
    expect((await usage('by=name')).rows).toEqual([row('base', 2), row('notes', 1)]);
    expect((await usage('by=version')).rows).toEqual([row('base', 2), row('notes@1', 1)]);
    const day = new Date(graft.clock.now()).toISOString().slice(0, 10);
    expect((await usage('by=day')).rows).toEqual([row(day, 3)]);
    expect((await usage('by=key&tenant=acme')).rows).toEqual([row(theirs.id, 1)]);
    // A tenant's admin sees its own usage, and is refused others'.
    const { key: admin } = await make({ kind: 'admin', tenant: 'acme' });
    expect((await usage('by=key', admin)).rows).toEqual([row(theirs.id, 1)]);
    expect((await usage('by=key&tenant=default', admin)).status).toBe(403);
  });

  it('includes what an origin encoded of a prompt that was too long, also in budgets', async () => {
    const { key, id } = await make({ limits: { tokens_per_day: 8_000 } });
    const { answer } = graft.origin;
    const error = { message: 'm', type: 't', param: 'messages', code: 'context_length_exceeded' };
    graft.origin.answer = (method, path, init) =>
      path === '/v1/chat/completions'
        ? Response.json({ error }, { status: 400, headers: { 'x-graft-usage': 'prompt=8193,completion=0' } })
        : answer(method, path, init);
    const refused = await ask(key);
    expect([refused.status, refused.headers.get('x-graft-usage')]).toEqual([400, null]);
    expect((await usage('by=key')).rows).toMatchObject([{ group: id, errors: 1, prompt_tokens: 8_193 }]);
    const spent = await ask(key);
    expect([spent.status, await spent.text()]).toEqual([429, expect.stringContaining('insufficient_quota')]);
  });

  it('is requested in whole hours', async () => {
    const { key } = await make();
    answerWith(1, 1);
    await ask(key);
    const hour = new Date(Math.floor(graft.clock.now() / HOUR_MS) * HOUR_MS).toISOString();
    const next = new Date(Date.parse(hour) + HOUR_MS).toISOString();
    expect(await usage(`from=${hour}&to=${next}`)).toMatchObject({ from: hour, to: next, rows: [{}] });
    expect((await usage(`from=${next}&to=2100-01-01`)).rows).toEqual([]);
    for (const bad of ['by=owner', 'from=yesterday', `from=${next}&to=${hour}`, 'wrong=1'])
      expect((await usage(bad)).status).toBe(400);
  });

  it('is limited without asking the origin, once a refusal is cached', async () => {
    const { key } = await make({ limits: { requests_per_minute: 1 } });
    await ask(key);
    expect((await ask(key)).status).toBe(429);
    graft.asked.length = 0;
    for (let i = 0; i < 5; i += 1) expect((await ask(key)).status).toBe(429);
    expect(graft.asked).toEqual([]);
  });

  it.each([
    ['allow', 200],
    ['refuse', 503],
  ])('with on_outage %s answers %d when the counter does not', async (on_outage, status) => {
    const { key } = await make({ limits: { requests_per_minute: 1, on_outage } });
    graft.quotas.down = true;
    for (let i = 0; i < 2; i += 1) expect((await ask(key)).status).toBe(status);
  });
});
