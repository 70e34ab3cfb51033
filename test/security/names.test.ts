import { beforeEach, describe, expect, it, vi } from 'vitest';
import { nameProblem, scopeProblem } from '../../protocol/identity.ts';
import { nearestNames } from '../../worker/completions/usable-names.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { HOSTILE_NAMES, inUrl } from './hostile-names.ts';

const DIGEST = 'a'.repeat(64);
const LATER_MS = 61_000;
/** Every key that may ever be asked of KV, or written. */
const KV_KEYS =
  /^(?:(?:name|drop|drop-error):[a-z0-9._/-]{1,256}|key:[0-9a-f]{64}|blob:[0-9a-f]{64}(?::\d{1,2}|:[0-9a-f]{64})?|grant:(?:\*|[a-z0-9._-]{1,64}))$/;

let graft: AppHarness;
let key: string;
let touched: string[];

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const made = await graft.request('/admin/keys', { body: { scopes: ['alice/**'] } });
  ({ key } = (await made.json()) as { key: string });
  expect((await graft.publish('alice/notes', tinyAdapter({ seed: 1 }))).status).toBe(201);
  graft.clock.advance(LATER_MS);
  touched = [];
  const { kv } = graft;
  const [get, put] = [kv.get.bind(kv), kv.put.bind(kv)];
  vi.spyOn(kv, 'get').mockImplementation(((name: string | string[], options: never) => {
    touched.push(...[name].flat());
    return get(name as never, options);
  }) as never);
  vi.spyOn(kv, 'put').mockImplementation((name, value) => {
    touched.push(name);
    return put(name, value);
  });
});

it('there are 500 of them', () => {
  expect(HOSTILE_NAMES.length).toBeGreaterThanOrEqual(500);
  for (const name of HOSTILE_NAMES) expect(nameProblem(name)).not.toBeNull();
});

/** What becomes of `@…` behind a legal name is versions' business. */
const isVersion = (name: string) =>
  /^alice\/notes@/.test(name) && nameProblem(name.split('@')[0] ?? '') === null;

describe('hostile names', () => {
  it('are 404 as a model on every route of clients, and never reach a store', async () => {
    for (const name of HOSTILE_NAMES) {
      // No faster than a tenant may ask.
      graft.clock.advance(1_000);
      const answers = await Promise.all([
        graft.request('/v1/chat/completions', {
          key,
          body: { model: name, messages: [{ role: 'user', content: 'hi' }] },
        }),
        graft.request('/v1/completions', { key, body: { model: name, prompt: 'hi' } }),
        graft.request('/v1/responses', { key, body: { model: name, input: 'hi' } }),
        graft.request(`/v1/models/${inUrl(name)}`, { key }),
      ]);
      for (const { status } of answers)
        expect([JSON.stringify(name), [400, 404].includes(status)]).toEqual([JSON.stringify(name), true]);
    }
    for (const name of touched) expect(name).toMatch(KV_KEYS);
  });

  it('are refused in every field of the admin API that holds a name, and change nothing', async () => {
    const before = await (await graft.request('/admin/names')).text();
    for (const name of HOSTILE_NAMES.filter((one) => !isVersion(one))) {
      graft.clock.advance(1_000);
      const encoded = inUrl(name);
      const answers = await Promise.all([
        graft.request('/admin/versions', { body: { name, digest: DIGEST } }),
        graft.request('/admin/versions', { body: { name: 'alice/x', digest: DIGEST, parent: name } }),
        graft.request('/admin/promote', { body: { name, version: 1 } }),
        graft.request('/admin/strict', { body: { name, strict: true } }),
        graft.request('/admin/verify', { body: { name } }),
        graft.request(`/admin/versions?name=${encoded}`),
        graft.request('/admin/keys', { body: { scopes: [scopeProblem(name) === null ? 'a**' : name] } }),
        graft.request('/admin/keys', { body: { scopes: [`${name}/**`] } }),
        graft.request('/admin/keys', { body: { tenant: `${name}/` } }),
      ]);
      for (const { status } of answers)
        expect([JSON.stringify(name), [400, 404].includes(status)]).toEqual([JSON.stringify(name), true]);
    }
    expect(await (await graft.request('/admin/names')).text()).toBe(before);
    for (const name of touched) expect(name).toMatch(KV_KEYS);
  });

  it('of any length are not compared with every name there is', () => {
    let compared = 0;
    const candidate = new Proxy(new String('a'.repeat(100)), {
      get: (target, property) => {
        if (typeof property === 'string' && /^\d+$/.test(property)) compared += 1;
        return Reflect.get(target, property) as unknown;
      },
    }) as unknown as string;
    expect(nearestNames('a'.repeat(16_000), [candidate], 3)).toEqual([]);
    expect(compared).toBe(0);
    expect(nearestNames('alice/nots', ['alice/notes', 'b'.repeat(200)], 3)).toEqual(['alice/notes']);
  });
});
