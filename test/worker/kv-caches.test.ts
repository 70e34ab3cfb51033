import { CacheRoom } from '../../worker/platform/bounded-map.ts';
import { beforeEach, describe, expect, it } from 'vitest';
import { createKvCaches, type KvCaches } from '../../worker/kv-caches.ts';
import { manifestOf } from '../../worker/registry/write-pointer.ts';
import { createKvKeyIndex, createKvNameIndex } from '../../worker/registry/kv-indexes.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import { digestOf, versionRow } from '../contracts/sample-rows.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { experimentOf } from './experiments/sample-experiment.ts';
import { WAIT_MS } from '../setup/slow.ts';

const [OLD, NEW] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
const manifest = manifestOf(versionRow('mine', 1));
const hash = digestOf('key');
const record = { id: 'key_1', tenant: 'me', scopes: [] };

let clock: FakeClock;
let hot: KvCaches;

beforeEach(async () => {
  clock = new FakeClock();
  const pointer = {
    kv: new FakeKv(clock.now),
    cacheTtl: 30,
    retryAfterMs: 2_000,
    pacing: { pauseMs: 1_100, tries: 4, sleep: clock.sleep },
  };
  const before = { ...pointer, sealer: createSealer(OLD) };
  await createKvNameIndex(before).put(manifest);
  await createKvKeyIndex(before).put(hash, record);
  clock.advance(61_000);
  hot = createKvCaches({
    room: new CacheRoom(Infinity),
    pointer: { ...pointer, sealer: createSealer(NEW, [OLD]) },
    currentSealer: createSealer(NEW),
    keyLedger: { get: () => Promise.resolve(null) },
    grantLedger: { heldBy: () => Promise.resolve([]), refusedBy: () => Promise.resolve([]) },
    now: clock.now,
    timeoutMs: WAIT_MS,
  });
});

describe('while the secret is rotated', () => {
  it('requests are served of what the old one sealed', async () => {
    expect(await hot.names.get('mine')).toMatchObject({ state: 'found', value: manifest });
    expect(await hot.keys.get(hash)).toMatchObject({ state: 'found', value: record });
  });

  it('upkeep finds it, and what it writes is good with the new one alone', async () => {
    expect(await hot.nameIndex.get('mine')).toMatchObject({ state: 'trouble' });
    expect(await hot.keyIndex.get(hash)).toMatchObject({ state: 'trouble' });
    await hot.nameIndex.put(manifest);
    await hot.keyIndex.put(hash, record);
    clock.advance(61_000);
    expect(await hot.nameIndex.get('mine')).toMatchObject({ state: 'found' });
    expect(await hot.keyIndex.get(hash)).toMatchObject({ state: 'found' });
  });
});

it('an experiment that is taken away here is not remembered here', async () => {
  const id = 'exp_00000000000000aa';
  await hot.experimentIndex.put({ id, owner: 'me', document: experimentOf(), adapters: {} });
  clock.advance(61_000);
  expect(await hot.experiments.get(id)).toMatchObject({ state: 'found' });
  clock.advance(29_500);
  expect(await hot.experiments.get(id)).toMatchObject({ state: 'found' });
  await hot.experimentIndex.remove(id);
  // KV's own cache is over, the memory's second is not.
  clock.advance(500);
  expect(await hot.experiments.get(id)).toEqual({ state: 'gone' });
});
