/** Trials of adapters take the share of who asks for them, at a real origin behind the real edge. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { OWN_TENANT } from '../../gpu-origin/http/read-request.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { KEY, signedFetch, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

/** Of one tenant at once: the edge takes 16 of its admin requests. */
const VERIFIES = 15;

let edge: AppHarness;
let origin: Origin;
/** Tenants of what the engine was asked to run, in order. */
let tenants: string[];
/** The model's steps wait for it. */
let gate: Promise<void>;
beforeEach(async () => {
  gate = Promise.resolve();
  edge = await createAppHarness();
  const { now } = edge.clock;
  const mode = { kind: 'signed' as const, originId: 'o1', keys: [KEY], startedAt: now() - 1 };
  origin = await startTestOrigin({
    now,
    maxQueue: 256,
    context: { mode },
    runner: { duringStep: () => gate },
  });
  edge.origin.answer = (_method, path, init, url = '') =>
    path === '/base' ? Response.json(TINY_BASE) : fetch(url.replace('http://origin.test', origin.url), init);
  tenants = [];
  const add = origin.engine.add.bind(origin.engine);
  vi.spyOn(origin.engine, 'add').mockImplementation((request) => {
    tenants.push(request.tenant);
    return add(request);
  });
});
afterEach(() => origin.stop());

const adminOf = async (tenant: string) => {
  const made = await edge.request('/admin/keys', { body: { kind: 'admin', tenant } });
  return ((await made.json()) as { key: string }).key;
};
async function publish(name: string, seed: number, key: string): Promise<Response> {
  const { bytes, digest } = tinyAdapter({ seed });
  await origin.store.put(digest, new Uint8Array(bytes));
  const path = `/admin/blobs/${digest}`;
  await edge.request(`${path}/parts/0`, { method: 'PUT', body: new Uint8Array(bytes), key });
  const body = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
  await edge.request(path, { body, key });
  return edge.request('/admin/versions', { body: { name, digest }, key });
}

describe('trials', () => {
  it('of one tenant, as many as it likes, do not make the publication of another wait for them', async () => {
    const [alice, bob] = [await adminOf('alice'), await adminOf('bob')];
    expect((await publish('alice/notes', 1, alice)).status).toBe(201);
    tenants = [];
    let verified = 0;
    let open: () => void = () => undefined;
    gate = new Promise((resolve) => (open = resolve));
    const verifying = Array.from({ length: VERIFIES }, async () => {
      const answer = await edge.request('/admin/verify', { body: { name: 'alice/notes' }, key: alice });
      verified += 1;
      return answer.status;
    });
    await vi.waitUntil(() => tenants.length >= VERIFIES);
    const publishing = publish('bob/notes', 2, bob);
    await vi.waitUntil(() => tenants.includes('bob'));
    expect(verified).toBe(0);
    open();
    expect((await publishing).status).toBe(201);
    expect(verified).toBeLessThan(VERIFIES);
    expect(new Set(await Promise.all(verifying))).toEqual(new Set([200]));
    expect(new Set(tenants)).toEqual(new Set(['alice', 'bob']));
  });

  it('of nobody run under a name that no tenant can have; an edge of before says no tenant', async () => {
    const names = async (query: string) => {
      tenants = [];
      const response = await signedFetch(
        origin,
        `/adapters/${origin.adapter}/verify${query}`,
        { method: 'POST', body: '' },
        { originId: 'o1', now: edge.clock.now() },
      );
      expect(response.status).toBe(200);
      return [...new Set(tenants)];
    };
    expect(await names('')).toEqual([OWN_TENANT]);
    expect(await names('?tenant=verify')).toEqual(['verify']);
    for (const odd of ['', 'A', '%3Aorigin', 'a'.repeat(65), 'a%0Ab'])
      expect(await names(`?tenant=${odd}`)).toEqual([OWN_TENANT]);
    const made = await edge.request('/admin/keys', { body: { tenant: OWN_TENANT } });
    expect(made.status).toBe(400);
  });
});
