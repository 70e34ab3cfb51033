/**
 * A revocation that was acknowledged stays, whatever other writes of the same value in KV were under way: the pointer
 * writer, a Durable Object, is called as the platform calls it, over a disk that outlives it.
 */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { hashApiKey } from '../../protocol/identity.ts';
import {
  PointerWriter,
  createDoPointers,
  createRightsSync,
} from '../../worker/registry/pointer-writer-object.ts';
import type { RawEnv } from '../../worker/env.ts';
import type { KvNamespace } from '../../worker/platform/store-calls.ts';
import { createKvGrantIndex, createKvKeyIndex } from '../../worker/registry/kv-indexes.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import type { RightsWriter } from '../../worker/access/ports.ts';
import { FakePointerStorage } from '../fakes/fake-pointer-storage.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { WAIT_MS } from '../setup/slow.ts';

const LATER_MS = 61_000;
const never = () => new Promise<never>(() => undefined);

/** Counts the calls of every port; the one with the number `at` is not answered, and perhaps not even done. */
function createCutter(at: number, done: boolean) {
  const calls: string[] = [];
  let reach = (): void => undefined;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const wrap = <P extends object>(port: P, name: string): P =>
    new Proxy(port, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          const mine = calls.push(`${name}.${String(property)}`);
          if (mine !== at) return Reflect.apply(value, target, args) as Promise<unknown>;
          if (done) await (Reflect.apply(value, target, args) as Promise<unknown>);
          reach();
          return never();
        };
      },
    });
  return { calls, reached, wrap };
}

let graft: AppHarness;
let storage: FakePointerStorage;
let writer: PointerWriter;

type Wrap = <P extends object>(port: P, name: string) => P;

/** A new instance of the object over the same disk, as after a crash or a deployment. */
function startWriter(wrap: Wrap = (port) => port): PointerWriter {
  const { keyLedger, grantLedger, staleRights } = graft.services;
  const kv = wrap<KvNamespace>(graft.kv, 'kv');
  const { now, sleep } = graft.clock;
  const pointer = {
    kv,
    sealer: createSealer(new Uint8Array(32).fill(3)),
    ...{ cacheTtl: 30, retryAfterMs: 2_000, pacing: { pauseMs: 1_100, tries: 4, sleep } },
  };
  const rights = createRightsSync({
    keyLedger: wrap(keyLedger, 'keyLedger'),
    keys: createKvKeyIndex(pointer),
    grantLedger: wrap(grantLedger, 'grantLedger'),
    grants: createKvGrantIndex(pointer),
    staleRights: wrap(staleRights, 'staleRights'),
    ...{ intervalMs: 1_000, timeoutMs: WAIT_MS, now, sleep },
  });
  const writers = { ...rights, sync: () => Promise.reject(new Error('not here')) };
  return new PointerWriter({ storage: wrap(storage, 'storage') }, {} as RawEnv, { writers, now });
}

/** Rings until nothing is left. */
async function settle(): Promise<void> {
  for (let round = 0; round < 5 && storage.values.size > 0; round += 1) {
    graft.clock.advance(LATER_MS);
    await writer.alarm();
  }
  graft.clock.advance(LATER_MS);
}

let key: { key: string; id: string };
let carol: { key: string };
let carolAdmin: { key: string };

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  storage = new FakePointerStorage();
  const namespace = {
    idFromName: (name: string) => name,
    get: () => ({ fetch: (url: string, init?: RequestInit) => writer.fetch(new Request(url, init)) }),
  };
  const rights: RightsWriter = createDoPointers({ namespace, timeoutMs: WAIT_MS });
  // All isolates come to the same object.
  graft = await createAppHarness({ rights });
  writer = startWriter();
  const make = async (body: object) =>
    (await (await graft.request('/admin/keys', { body })).json()) as { key: string; id: string };
  key = await make({ tenant: 'alice' });
  carol = await make({ tenant: 'carol' });
  carolAdmin = await make({ kind: 'admin', tenant: 'carol' });
  const published = await graft.publish('topsecret', tinyAdapter({ seed: 1 }), { owner: 'alice' });
  expect(published.status).toBe(201);
  const granting = { scope: 'topsecret', tenant: 'carol' };
  expect((await graft.request('/admin/grants', { body: granting })).status).toBe(201);
  graft.clock.advance(LATER_MS);
});

/** Both are revoked, acknowledged. */
async function revokeBoth(): Promise<void> {
  const taken = await graft.request('/admin/grants?scope=topsecret&tenant=carol', { method: 'DELETE' });
  expect(taken.status).toBe(204);
  expect((await graft.request(`/admin/keys/${key.id}`, { method: 'DELETE' })).status).toBe(204);
}

/** … and are so where nobody remembers anything. */
async function expectRevoked(what: string): Promise<void> {
  const reader = await createAppHarness({ beside: graft });
  const ask = async (by: string, model: string) => {
    const body = { model, messages: [{ role: 'user', content: 'hi' }] };
    return (await reader.request('/v1/chat/completions', { key: by, body })).status;
  };
  expect([what, await ask(carol.key, 'topsecret'), await ask(key.key, 'base')]).toEqual([what, 404, 401]);
  expect((await graft.services.keyIndex.get(await hashApiKey(key.key))).state).toBe('gone');
}

/** What whoever profits sends without end: both write the value in KV that is about to be taken away. */
const REWRITES = ['grants', 'key'] as const;
const rewrite = (isolate: AppHarness, what: (typeof REWRITES)[number]) =>
  what === 'grants'
    ? isolate.request('/admin/grants/refuse', { key: carolAdmin.key, body: { from: 'nobody' } })
    : isolate.request('/admin/keys/change', { body: { id: key.id, label: 'x' } });

describe('a revocation stays', () => {
  it.each(REWRITES)('when a write of the %s hangs in KV until after it was asked for', async (what) => {
    const put = graft.kv.put.bind(graft.kv);
    let release = (): void => undefined;
    let hangs = (): void => undefined;
    const hanging = new Promise<void>((resolve) => (hangs = resolve));
    vi.spyOn(graft.kv, 'put').mockImplementationOnce(async (name, value) => {
      hangs();
      await new Promise<void>((resolve) => (release = resolve));
      await put(name, value);
    });
    const late = rewrite(await createAppHarness({ beside: graft }), what);
    await hanging;
    const revoked = revokeBoth();
    // Others have time to do all that they can do meanwhile.
    for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setTimeout(resolve, 0));
    release();
    await revoked;
    await late;
    await settle();
    await expectRevoked(what);
  });

  it.each(REWRITES)('when a request that writes the %s is cut off at any of its calls', async (what) => {
    const total = await (async () => {
      const cutter = createCutter(0, false);
      await rewrite(await createAppHarness({ beside: graft, wrap: cutter.wrap }), what);
      return cutter.calls.length;
    })();
    expect(total).toBeGreaterThan(2);
    for (let at = 1; at <= total; at += 1) {
      const cutter = createCutter(at, at % 2 === 0);
      const isolate = await createAppHarness({ beside: graft, wrap: cutter.wrap });
      await Promise.race([rewrite(isolate, what), cutter.reached]);
      graft.clock.advance(LATER_MS);
    }
    await revokeBoth();
    await settle();
    await expectRevoked(what);
  });

  it.each(REWRITES)('when the object ends at any of its calls, while it writes the %s', async (what) => {
    const cuts = async (at: number, done: boolean) => {
      const cutter = createCutter(at, done);
      writer = startWriter(cutter.wrap);
      await Promise.race([rewrite(graft, what), cutter.reached]);
      writer = startWriter();
      graft.clock.advance(LATER_MS);
      return cutter.calls.length;
    };
    const total = await cuts(0, false);
    expect(total).toBeGreaterThanOrEqual(5);
    for (let at = 1; at <= total; at += 1) for (const done of [false, true]) await cuts(at, done);
    await revokeBoth();
    await settle();
    await expectRevoked(what);
  });

  it('by itself, when the object ends at any call of the revocation: its alarm makes up for it', async () => {
    const once = async (at: number) => {
      const cutter = createCutter(at, false);
      writer = startWriter(cutter.wrap);
      const revoked = graft.request('/admin/grants?scope=topsecret&tenant=carol', { method: 'DELETE' });
      await Promise.race([revoked, cutter.reached]);
      writer = startWriter();
      await settle();
      const { state } = await graft.services.grantIndex.get('carol');
      const value = await graft.services.grants.get('carol');
      graft.clock.advance(LATER_MS);
      await graft.request('/admin/grants', { body: { scope: 'topsecret', tenant: 'carol' } });
      graft.clock.advance(LATER_MS);
      return { calls: cutter.calls, state, grants: value.state === 'found' ? value.value.grants : null };
    };
    const { calls } = await once(0);
    // From the note on its disk on, nothing is lost.
    for (let at = calls.indexOf('storage.put') + 2; at <= calls.length; at += 1)
      expect([calls[at - 1], (await once(at)).grants]).toEqual([calls[at - 1], []]);
  });
});
