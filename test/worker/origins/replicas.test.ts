/** A hot name with the edge's app and five origins that report missing files, in virtual time. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { rankOrigins } from '../../../worker/origins/routing.ts';
import { REPLICA_RETRY_MS, REPLICA_SHRINK_AFTER_MS } from '../../../worker/origins/limits.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const adapter = tinyAdapter({ seed: 1 });
const SLOTS = 8;
const ORIGINS = Array.from({ length: 5 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}.test` }));
const ranked = rankOrigins('hot', ORIGINS).map(({ id }) => id);

/** Files and requests of one origin. */
interface Machine {
  onDisk: boolean;
  inMemory: boolean;
  running: number;
  served: number;
  prefetched: number;
}

let edge: AppHarness;
let key: string;
let machines: Map<string, Machine>;
/** Origins at which a request had to wait for its adapter. */
let waited: Set<string>;
/** Ends the running requests. */
let running: (() => void)[];
/** What prefetching waits for. */
let loading: Promise<void>;
let cannotLoad: Set<string>;
/** Requests so far: no two are of one conversation. */
let said = 0;

const refusal = (code: string, more: object = {}) =>
  Response.json({ error: { message: 'no', type: 't', param: null, code, ...more } }, { status: 409 });

async function complete(id: string, machine: Machine): Promise<Response> {
  if (!machine.onDisk) {
    waited.add(id);
    return refusal('adapter_missing', { missing: [adapter.digest] });
  }
  const cold = !machine.inMemory;
  if (cold) waited.add(id);
  machine.inMemory = true;
  machine.running += 1;
  await new Promise<void>((resolve) => running.push(resolve));
  machine.running -= 1;
  machine.served += 1;
  const headers = {
    'x-graft-load': `${machine.running}/${SLOTS}`,
    ...(cold ? { 'x-graft-cold': 'true' } : {}),
  };
  return Response.json({ ok: true }, { headers });
}

async function prefetch(id: string, machine: Machine): Promise<Response> {
  if (!machine.onDisk) return refusal('adapter_missing', { missing: [adapter.digest] });
  machine.prefetched += 1;
  await loading;
  if (cannotLoad.has(id)) return Response.json({ results: [{ digest: adapter.digest, ok: false }] });
  machine.inMemory = true;
  return Response.json({ results: [{ digest: adapter.digest, ok: true }] });
}

beforeEach(async () => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  edge = await createAppHarness({ origins: ORIGINS });
  expect((await edge.publish('hot', adapter)).status).toBe(201);
  key = ((await (await edge.request('/admin/keys', { body: {} })).json()) as { key: string }).key;
  machines = new Map(
    ORIGINS.map(({ id }) => [id, { onDisk: false, inMemory: false, running: 0, served: 0, prefetched: 0 }]),
  );
  waited = new Set();
  running = [];
  loading = Promise.resolve();
  cannotLoad = new Set();
  const { answer } = edge.origin;
  edge.origin.answer = (method, path, init, url = '') => {
    const id = new URL(url).hostname.slice(0, -'.test'.length);
    const machine = machines.get(id)!;
    if (path === '/v1/chat/completions') return complete(id, machine);
    if (path === '/adapters/prefetch') return prefetch(id, machine);
    if (path.includes('/parts/')) machine.onDisk = true;
    if (path === `/adapters/${adapter.digest}`) return Response.json({ missing_parts: [0] });
    return answer(method, path, init, url);
  };
});

afterEach(() => vi.restoreAllMocks());

const turns = async (count = 20) => {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Concurrent requests, each of which takes a second. */
async function wave(requests: number): Promise<void> {
  const answers = Array.from({ length: requests }, () => {
    const messages = [{ role: 'user', content: `hi ${(said += 1)}` }];
    return edge.request('/v1/chat/completions', { key, body: { model: 'hot', max_tokens: 1, messages } });
  });
  await expect.poll(() => running.length, { interval: 1 }).toBe(requests);
  edge.clock.advance(1_000);
  for (const end of running.splice(0)) end();
  for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200);
  await turns();
}
const waves = async (count: number, requests: number) => {
  for (let i = 0; i < count; i += 1) await wave(requests);
};
/** Origins that have served since the last call, in the name's order. */
function servers(): string[] {
  const served = ranked.filter((id) => machines.get(id)!.served > 0);
  for (const machine of machines.values()) machine.served = 0;
  return served;
}

describe('a hot name', () => {
  it('has one origin while it is cold', async () => {
    await waves(30, 1);
    expect(servers()).toEqual([ranked[0]]);
    expect([...machines.values()].map(({ prefetched }) => prefetched)).toEqual([0, 0, 0, 0, 0]);
  });

  it('spreads to the next origins in its order once they have it, without delaying any request', async () => {
    await waves(20, 1);
    expect([...waited]).toEqual([ranked[0]]);
    servers();
    // Three at once are more than half of an origin's four rows, but fit.
    let loaded: () => void = () => undefined;
    loading = new Promise((resolve) => (loaded = resolve));
    await waves(20, 3);
    expect(machines.get(ranked[1]!)).toMatchObject({ prefetched: 1, served: 0, onDisk: true });
    expect(servers()).toEqual([ranked[0]]);
    loaded();
    await edge.settled();
    await waves(5, 3);
    expect(servers()).toEqual(ranked.slice(0, 2));
    expect([...waited]).toEqual([ranked[0]]);
  });

  it('goes back to one, removing the last one first, some time after the crowd has left', async () => {
    await waves(5, 1);
    await waves(20, 4);
    expect(servers().length).toBeGreaterThan(1);
    await waves(REPLICA_SHRINK_AFTER_MS / 1_000 + 60, 1);
    servers();
    await waves(10, 1);
    expect(servers()).toEqual([ranked[0]]);
    expect([...waited]).toEqual([ranked[0]]);
  });

  it('asks an origin that could not load it again later, and sends it nothing until then', async () => {
    await waves(5, 1);
    cannotLoad.add(ranked[1]!);
    await waves(12, 3);
    expect(machines.get(ranked[1]!)).toMatchObject({ inMemory: false, served: 0 });
    const { prefetched } = machines.get(ranked[1]!)!;
    expect(prefetched).toBeGreaterThan(0);
    cannotLoad.clear();
    await waves(REPLICA_RETRY_MS / 1_000 + 2, 3);
    expect(machines.get(ranked[1]!)!.prefetched).toBe(prefetched + 1);
    expect(machines.get(ranked[1]!)!.served).toBeGreaterThan(0);
    expect([...waited]).toEqual([ranked[0]]);
  });

  it('is copied again to an origin that was lost, which gets no requests before', async () => {
    await waves(5, 1);
    await waves(20, 3);
    expect(servers()).toEqual(ranked.slice(0, 2));
    const { answer } = edge.origin;
    edge.origin.answer = (method, path, init, url = '') => {
      if (new URL(url).hostname === `${ranked[1]}.test`) throw new Error('connection refused');
      return answer(method, path, init, url);
    };
    await waves(3, 3);
    Object.assign(machines.get(ranked[1]!)!, { onDisk: false, inMemory: false });
    servers();
    edge.origin.answer = answer;
    // Time for two probes.
    await waves(10, 3);
    await edge.settled();
    await waves(3, 3);
    expect(machines.get(ranked[1]!)).toMatchObject({ inMemory: true });
    expect(servers()).toContain(ranked[1]);
    expect(waited.has(ranked[1]!)).toBe(false);
  });
});
