import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MAX_PINNED_NAMES } from '../../../protocol/limits.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const first = tinyAdapter({ seed: 41 });
const second = tinyAdapter({ seed: 42 });

let graft: AppHarness;
/** Digests that the origin has pinned. */
let held: Set<string>;
/** Digests that it refuses. */
let refused: Set<string>;

interface Pin {
  name: string;
  live: string | null;
  origins: { id: string; ok: boolean; reason: string | null }[];
}
const pinsOf = async (response: Response) => ((await response.json()) as { pins: Pin[] }).pins;
const pin = (name: string, key?: string) =>
  graft.request('/admin/pins', { body: { name }, ...(key === undefined ? {} : { key }) });
const unpin = (name: string) =>
  graft.request(`/admin/pins?name=${encodeURIComponent(name)}`, { method: 'DELETE' });
beforeEach(async () => {
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  graft = await createAppHarness();
  held = new Set();
  refused = new Set();
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init) => {
    if (path !== '/adapters/pins') return answer(method, path, init);
    const { digests } = JSON.parse(init.body as string) as { digests: string[] };
    if (method === 'PUT') {
      for (const digest of held) if (!digests.includes(digest)) held.delete(digest);
      return Response.json({ unpinned: 0 });
    }
    const results = digests.map((digest) => {
      if (!refused.has(digest)) held.add(digest);
      const error = { code: 'adapter_unavailable', message: 'unpin another' };
      return refused.has(digest) ? { digest, ok: false, error } : { digest, ok: true };
    });
    return Response.json({ results });
  };
  expect((await graft.publish('notes', first)).status).toBe(201);
});
afterEach(() => vi.restoreAllMocks());

describe('pinned names', () => {
  it('are held by the origins until they are unpinned', async () => {
    const pinned = await pin('notes');
    expect(pinned.status).toBe(200);
    expect(await pinsOf(pinned)).toMatchObject([
      { name: 'notes', live: 'notes@1', origins: [{ id: 'o1', ok: true, reason: null }] },
    ]);
    expect([...held]).toEqual([first.digest]);
    expect(await pinsOf(await unpin('notes'))).toEqual([]);
    expect([...held]).toEqual([]);
    expect((await unpin('notes')).status).toBe(404);
  });

  it('follow a flip: the new chain is loaded, the old one released', async () => {
    await pin('notes');
    expect((await graft.publish('notes', second)).status).toBe(201);
    await vi.waitUntil(() => held.has(second.digest) && !held.has(first.digest));
    const flipped = await graft.request('/admin/promote', { body: { name: 'notes', version: 1 } });
    expect(flipped.status).toBe(200);
    await vi.waitUntil(() => held.has(first.digest) && !held.has(second.digest));
    expect(await pinsOf(await graft.request('/admin/pins'))).toMatchObject([{ live: 'notes@1' }]);
  });

  it('are copied again to an origin that has lost them', async () => {
    await pin('notes');
    held.clear();
    await graft.request('/admin/pins');
    expect([...held]).toEqual([first.digest]);
  });

  it('report which origin does not hold them, and why; the others still do', async () => {
    expect((await graft.publish('letters', second)).status).toBe(201);
    refused.add(first.digest);
    await pin('notes');
    expect(await pinsOf(await pin('letters'))).toMatchObject([
      { name: 'letters', origins: [{ ok: true }] },
      { name: 'notes', origins: [{ id: 'o1', ok: false, reason: 'unpin another' }] },
    ]);
    expect([...held]).toEqual([second.digest]);
  });

  it('cost an unreachable origin one question, since each may take a minute', async () => {
    graft = await createAppHarness({
      origins: [
        { id: 'o1', url: 'http://origin.test' },
        { id: 'silent', url: 'http://silent.test' },
      ],
    });
    const { answer } = graft.origin;
    const asked: string[] = [];
    graft.origin.answer = (method, path, init, url = '') => {
      if (url.startsWith('http://silent') && path.startsWith('/adapters')) {
        asked.push(`${method} ${path}`);
        throw new DOMException('The operation timed out.', 'TimeoutError');
      }
      if (path !== '/adapters/pins') return answer(method, path, init);
      const { digests } = JSON.parse(init.body as string) as { digests: string[] };
      return Response.json({ results: digests.map((digest) => ({ digest, ok: true })) });
    };
    for (const [i, name] of ['a', 'b', 'c'].entries())
      expect((await graft.publish(name, tinyAdapter({ seed: 51 + i }))).status).toBe(201);
    await graft.settled();
    for (const name of ['a', 'b', 'c'])
      await graft.services.pins.add({ name, at: 1, actor: 'key_1' }, MAX_PINNED_NAMES);
    asked.length = 0;
    const said = await pinsOf(await graft.request('/admin/pins'));
    expect(asked).toEqual(['GET /adapters']);
    const reason = expect.stringContaining('cannot be reached') as string;
    for (const { origins } of said)
      expect(origins).toEqual([
        { id: 'o1', ok: true, reason: null },
        { id: 'silent', ok: false, reason },
      ]);
    // Other jobs get their turn, and the next run asks again.
    asked.length = 0;
    await graft.schedule(() => undefined);
    expect(asked).toEqual(['GET /adapters']);
  });

  it('that an origin loads for longer than the schedule has for them have their turn later; others are released', async () => {
    for (const [name, adapter] of [
      ['letters', second],
      ['more', tinyAdapter({ seed: 43 })],
    ] as const)
      expect((await graft.publish(name, adapter)).status).toBe(201);
    await graft.settled();
    for (const name of ['letters', 'more'])
      await graft.services.pins.add({ name, at: 1, actor: 'key_1' }, MAX_PINNED_NAMES);
    held.add(first.digest);
    const { answer } = graft.origin;
    let asked = 0;
    const late = new AbortController();
    graft.origin.answer = (method, path, init) => {
      if (method !== 'POST' || path !== '/adapters/pins') return answer(method, path, init);
      asked += 1;
      // It loads for a minute, and does so whoever waits.
      void answer(method, path, init);
      const { signal } = init;
      return new Promise<Response>((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error));
        late.abort();
      });
    };
    const life = { signal: new AbortController().signal, keepAlive: () => undefined };
    const reports = await graft.services.pinSync.sync({ ...life, loading: late.signal });
    const reason = 'Its turn comes within a minute.';
    expect(reports.map(({ origins }) => origins)).toEqual([
      [{ id: 'o1', ok: false, reason }],
      [{ id: 'o1', ok: false, reason }],
    ]);
    expect(asked).toBe(1);
    expect([...held]).toEqual([second.digest]);
  });

  it('of sixteen origins take some hundred questions when these start, and few in each minute after', async () => {
    const origins = Array.from({ length: 16 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}.test` }));
    graft = await createAppHarness({ origins });
    const { answer } = graft.origin;
    const pinned = new Map(origins.map(({ url }) => [url, new Set<string>()]));
    graft.origin.answer = (method, path, init, url = '') => {
      const here = pinned.get(new URL(url).origin) ?? new Set();
      if (method === 'GET' && path === '/adapters') {
        const rest = { state: 'ready', bytes: 1, rank: 1, references: 0, pinned: true };
        const adapters = [...here].map((digest) => ({ digest, ...rest }));
        return Response.json({ budget_bytes: 1_000, used_bytes: 0, adapters });
      }
      if (path !== '/adapters/pins') return answer(method, path, init);
      const { digests } = JSON.parse(init.body as string) as { digests: string[] };
      if (method === 'POST') for (const digest of digests) here.add(digest);
      return Response.json({ results: digests.map((digest) => ({ digest, ok: true })) });
    };
    for (let i = 0; i < MAX_PINNED_NAMES; i += 1) {
      const adapter = tinyAdapter({ seed: i % 13, rank: 1 + Math.floor(i / 13) });
      expect((await graft.publish(`n${i}`, adapter)).status).toBe(201);
    }
    await graft.settled();
    for (let i = 0; i < MAX_PINNED_NAMES; i += 1)
      await graft.services.pins.add({ name: `n${i}`, at: 1, actor: 'key_1' }, MAX_PINNED_NAMES);
    const questions: number[] = [];
    for (let minute = 0; minute < 7; minute += 1) {
      graft.asked.length = 0;
      await graft.schedule(() => undefined);
      questions.push(graft.asked.length);
    }
    for (const here of pinned.values()) expect(here.size).toBe(MAX_PINNED_NAMES);
    // Cloudflare's limit is 1,000 for everything in a run.
    expect(Math.max(...questions)).toBeLessThan(300);
    // Its pins, the digests to keep, and its figures.
    expect(questions.at(-1)).toBe(3 * origins.length);
  });

  it('are released by the schedule if another isolate’s call failed', async () => {
    const other = await createAppHarness({ beside: graft });
    other.origin.answer = (method, path, init) =>
      method === 'PUT' && path === '/adapters/pins'
        ? Response.json({}, { status: 502 })
        : graft.origin.answer(method, path, init);
    // Nothing is pinned, and this isolate has told the origin.
    await graft.schedule(() => undefined);
    const body = { name: 'notes' };
    expect((await other.request('/admin/pins', { body })).status).toBe(200);
    expect((await other.request('/admin/pins?name=notes', { method: 'DELETE' })).status).toBe(200);
    expect([...held]).toEqual([first.digest]);
    await graft.schedule(() => undefined);
    expect([...held]).toEqual([]);
  });

  it('hold nothing while they have no live version', async () => {
    expect((await graft.publish('draft', second, { stage: true })).status).toBe(201);
    expect(await pinsOf(await pin('draft'))).toMatchObject([{ name: 'draft', live: null, origins: [] }]);
    expect([...held]).toEqual([]);
  });

  it('are chosen by the operator, must exist, and are limited', async () => {
    const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'default' } });
    const { key } = (await made.json()) as { key: string };
    expect((await pin('notes', key)).status).toBe(403);
    expect((await graft.request('/admin/pins', { key })).status).toBe(403);
    expect((await pin('nothing')).status).toBe(404);
    expect((await pin('../etc')).status).toBe(400);
    for (let i = 0; i < MAX_PINNED_NAMES; i += 1)
      await graft.services.pins.add({ name: `n${i}`, at: 1, actor: 'key_1' }, MAX_PINNED_NAMES);
    expect((await pin('notes')).status).toBe(409);
  });
});
