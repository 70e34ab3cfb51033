import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createPointerSync,
  PointerWriter,
  createDoPointers,
  POINTER_SHARDS,
  shardOf,
} from '../../../worker/registry/pointer-writer-object.ts';
import type { RawEnv } from '../../../worker/env.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import type { DurableNamespace, KvNamespace } from '../../../worker/platform/store-calls.ts';
import { createKvExperimentIndex, createKvNameIndex } from '../../../worker/registry/kv-indexes.ts';
import { createSealer } from '../../../worker/platform/kv-cache.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import type { PointerWriter as Pointers } from '../../../worker/registry/ports.ts';
import { pointerWriterContract, type PointerRig } from '../../contracts/pointer-writer.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { FakeKv } from '../../fakes/fake-kv.ts';
import { FakePointerStorage } from '../../fakes/fake-pointer-storage.ts';
import { WAIT_MS } from '../../setup/slow.ts';
import { openDatabase } from '../platform/database.ts';
import { openRealDatabase } from '../platform/real-database.ts';
import { namespaceOf, objectSource, startObjects } from '../platform/object-rig.ts';

const SOURCE = objectSource('registry/pointer-writer-object.ts');
const MAC_KEY = Buffer.alloc(32, 9);
const BROKEN = 'test:broken';
/** The real class, with a KV that can fail and a fast alarm clock. */
const SCRIPT = `
import { PointerWriter as Real } from ${JSON.stringify(SOURCE)};
export class PointerWriter extends Real {
  constructor(context, env) {
    const { storage } = context;
    const bound = (name) => (...args) => storage[name](...args);
    const fast = { setAlarm: () => storage.setAlarm(Date.now() + 50) };
    for (const name of ['get', 'put', 'delete', 'list', 'getAlarm']) fast[name] = bound(name);
    const put = async (...args) => {
      if ((await env.ADAPTERS.get('${BROKEN}')) !== null) throw new Error('KV PUT failed: 500');
      return env.ADAPTERS.put(...args);
    };
    super({ storage: fast }, { ...env, ADAPTERS: { put } });
  }
}
`;
const pacing = (sleep: (ms: number) => Promise<void>) => ({ pauseMs: 1_100, tries: 4, sleep });
const noSleep = async () => undefined;

let miniflare: Miniflare;
beforeAll(async () => {
  miniflare = await startObjects(SCRIPT, {
    durableObjects: { POINTERS: { className: 'PointerWriter', useSQLite: true } },
    d1Databases: ['DB'],
    kvNamespaces: ['ADAPTERS'],
    bindings: {
      ORIGINS: '[{"id":"o1","url":"http://127.0.0.1:1"}]',
      GRAFT_ORIGIN_KEYS: `k1:${Buffer.alloc(32, 7).toString('base64')}`,
      GRAFT_MAC_KEY: MAC_KEY.toString('base64'),
    },
    handleRuntimeStdio: (stdout: NodeJS.ReadableStream, stderr: NodeJS.ReadableStream) => {
      stdout.resume();
      stderr.resume();
    },
  });
});
afterAll(() => miniflare.dispose());

/** A writer on fakes, called as the platform calls it. */
async function fakeRig(clock = new FakeClock()) {
  const kv = new FakeKv(clock.now);
  let broken = false;
  let puts = 0;
  const breakable: KvNamespace = {
    get: ((...args: Parameters<FakeKv['get']>) => kv.get(...args)) as KvNamespace['get'],
    list: kv.list,
    delete: (key) => kv.delete(key),
    async put(key, value) {
      puts += 1;
      if (broken) throw new Error('KV PUT failed: 500');
      await kv.put(key, value);
    },
  };
  const registry = createD1Registry(await openDatabase());
  const pointer = {
    kv: breakable,
    sealer: createSealer(new Uint8Array(32)),
    cacheTtl: 30,
    retryAfterMs: 1,
    pacing: pacing(clock.sleep),
  };
  const names = createKvNameIndex(pointer);
  const experiments = createKvExperimentIndex(pointer);
  const storage = new FakePointerStorage();
  const pointers = createPointerSync({
    registry,
    names,
    experiments,
    intervalMs: 1_000,
    timeoutMs: WAIT_MS,
    now: clock.now,
    sleep: clock.sleep,
  });
  const rights = {
    syncKey: () => Promise.reject(new Error('not here')),
    syncGrants: () => Promise.reject(new Error('not here')),
  };
  const start = (sync: Pointers = pointers) =>
    new PointerWriter({ storage }, {} as RawEnv, { writers: { ...sync, ...rights }, now: clock.now });
  const writer = start();
  const namespace: DurableNamespace = {
    idFromName: (name) => name,
    get: () => ({ fetch: (url, init) => writer.fetch(new Request(url, init)) }),
  };
  return {
    clock,
    kv,
    registry,
    names: {
      get(name: string) {
        clock.advance(61_000);
        return names.get(name);
      },
    },
    nameIndex: names,
    storage,
    writer,
    start,
    sync: pointers,
    pointers: createDoPointers({ namespace, timeoutMs: WAIT_MS }),
    puts: () => puts,
    breakKv: () => void (broken = true),
    mend: () => void (broken = false),
  };
}

pointerWriterContract('the fakes', async (): Promise<PointerRig> => {
  const rig = await fakeRig();
  return {
    ...rig,
    async mendKv() {
      rig.mend();
      rig.clock.advance(60_000);
      await rig.writer.alarm();
    },
  };
});

pointerWriterContract('Durable Objects', async (): Promise<PointerRig> => {
  const kv = (await miniflare.getKVNamespace('ADAPTERS')) as unknown as KvNamespace;
  const namespace = await namespaceOf(miniflare, 'POINTERS');
  const names = createKvNameIndex({
    kv,
    sealer: createSealer(new Uint8Array(MAC_KEY)),
    cacheTtl: 30,
    retryAfterMs: 1,
    pacing: pacing(noSleep),
  });
  for (const { name } of (await kv.list({ prefix: '', cursor: null })).keys) await kv.delete(name);
  return {
    pointers: createDoPointers({ namespace, timeoutMs: WAIT_MS }),
    registry: createD1Registry(await openRealDatabase(miniflare)),
    names,
    breakKv: () => kv.put(BROKEN, '1'),
    mendKv: async () => void (await kv.delete(BROKEN)),
  };
});

describe('the pointer writer', () => {
  beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => undefined));

  const publish = async ({ registry }: Awaited<ReturnType<typeof fakeRig>>, name: string, target: string) =>
    registry.alias({
      before: await registry.name(name),
      name,
      owner: 'me',
      target,
      actor: 'x',
      at: 1,
    });

  it('writes a name at most once a second, and combines calls in between', async () => {
    const rig = await fakeRig();
    const writtenAt: number[] = [];
    for (let i = 0; i < 10; i += 1) {
      await publish(rig, 'a', `target/${i}`);
      const done = rig.pointers.sync('a').then(() => writtenAt.push(rig.clock.time));
      if (i === 0) await done;
    }
    await rig.pointers.sync('a');
    expect(rig.puts()).toBeLessThanOrEqual(3);
    const times = [...new Set(writtenAt)];
    for (const [i, at] of times.slice(1).entries())
      expect(at - (times[i] as number)).toBeGreaterThanOrEqual(1_000);
    expect(await rig.names.get('a')).toMatchObject({ value: { alias: 'target/9' } });
  });

  it('writes different names concurrently', async () => {
    const rig = await fakeRig();
    const before = rig.clock.time;
    for (const name of ['a', 'b', 'c']) {
      await publish(rig, name, 'x');
      await rig.pointers.sync(name);
    }
    expect(rig.clock.time).toBe(before);
  });

  it('leaves a mark for an unknown name only if told to', async () => {
    const rig = await fakeRig();
    await rig.pointers.sync('unknown');
    expect(rig.puts()).toBe(0);
    await rig.pointers.sync('unknown', { mark: true });
    expect(await rig.names.get('unknown')).toEqual({ state: 'gone' });
  });

  it('catches up on what was cut off with the object, including marks', async () => {
    const rig = await fakeRig();
    await publish(rig, 'a', 'x');
    const hung = rig.start({ sync: () => new Promise(() => undefined) });
    const call = (name: string, mark: boolean) =>
      void hung.fetch(
        new Request('https://x.invalid', { method: 'POST', body: JSON.stringify({ name, mark }) }),
      );
    call('a', false);
    call('b', true);
    while (rig.storage.values.size < 2) await new Promise((resolve) => setTimeout(resolve, 0));
    expect(rig.storage.alarmAt).not.toBeNull();
    const next = rig.start();
    await next.alarm();
    expect(await rig.names.get('a')).toMatchObject({ value: { alias: 'x' } });
    expect(await rig.names.get('b')).toEqual({ state: 'gone' });
    rig.clock.advance(60_000);
    await next.alarm();
    expect(rig.storage.values.size).toBe(0);
  });

  it.each(['its object has ended', 'it was given up'])(
    'writes a name again after a write that lands when %s',
    async (why) => {
      const rig = await fakeRig();
      await publish(rig, 'a', 'old');
      const hung = {
        sync: () =>
          new Promise<void>((_, reject) => {
            if (why === 'it was given up') reject(new StoreUnavailable('KV', new Error('no answer')));
          }),
      };
      const call = (writer: PointerWriter) =>
        writer.fetch(
          new Request('https://x.invalid', { method: 'POST', body: JSON.stringify({ name: 'a' }) }),
        );
      const ended = call(rig.start(hung));
      if (why === 'it was given up') await ended;
      while (rig.storage.values.size < 1) await new Promise((resolve) => setTimeout(resolve, 0));
      await publish(rig, 'a', 'new');
      const next = rig.start();
      await call(next);
      expect(await rig.registry.stalePointers({ limit: 9, newest: true })).toEqual([]);
      // It lands.
      await rig.nameIndex.put({ name: 'a', alias: 'old' });
      rig.clock.advance(60_000);
      expect(rig.storage.alarmAt).toBeLessThanOrEqual(rig.clock.time);
      await next.alarm();
      expect(await rig.names.get('a')).toMatchObject({ value: { alias: 'new' } });
      expect(rig.storage.values.size).toBe(0);
    },
  );

  it('retries with growing delays while KV fails, and resets them afterwards', async () => {
    const rig = await fakeRig();
    await publish(rig, 'a', 'x');
    rig.breakKv();
    await expect(rig.pointers.sync('a')).rejects.toBeInstanceOf(StoreUnavailable);
    const pauses: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      rig.clock.advance(10_000);
      await rig.writer.alarm();
      pauses.push((rig.storage.alarmAt as number) - rig.clock.time);
    }
    expect(pauses).toEqual([10, 20, 40, 80, 160, 320, 600, 600, 600].map((seconds) => seconds * 1_000));
    rig.mend();
    await rig.writer.alarm();
    rig.clock.advance(60_000);
    await rig.writer.alarm();
    expect(rig.storage.values.size).toBe(0);
  });

  it('gives up on a write that hangs, and continues with the next', async () => {
    const clock = new FakeClock();
    const registry = createD1Registry(await openDatabase());
    const written: string[] = [];
    let puts = 0;
    const sync = createPointerSync({
      registry,
      names: {
        put: (entry) =>
          (puts += 1) === 1 ? new Promise(() => undefined) : Promise.resolve(void written.push(entry.name)),
        remove: async () => undefined,
      },
      experiments: { put: async () => undefined, remove: async () => undefined },
      intervalMs: 1_000,
      timeoutMs: 20,
      now: clock.now,
      sleep: clock.sleep,
    });
    await registry.alias({ before: null, name: 'a', owner: 'me', target: 'x', actor: 'x', at: 1 });
    const first = sync.sync('a');
    const second = sync.sync('a');
    await expect(first).rejects.toBeInstanceOf(StoreUnavailable);
    await second;
    expect(written).toEqual(['a']);
  });

  it('spreads names over all its objects, and always uses the same one for a name', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 6_400; i += 1) {
      const shard = shardOf(`tenant-${i % 80}/adapter-${i}`);
      counts.set(shard, (counts.get(shard) ?? 0) + 1);
    }
    expect(counts.size).toBe(POINTER_SHARDS);
    expect(Math.max(...counts.values())).toBeLessThan(200);
    // Two versions of the worker must agree during a deployment.
    expect([shardOf('alice/notes'), shardOf('medicine')]).toEqual(['names-5', 'names-29']);
    const room = (kind: 'keys' | 'grants', record: string) => shardOf(record, kind);
    expect([room('grants', 'alice'), room('keys', 'a'.repeat(64))]).toEqual(['grants-39', 'keys-5']);
  });
});
