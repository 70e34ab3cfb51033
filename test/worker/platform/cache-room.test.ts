/** What an isolate's caches take together. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createKvCaches } from '../../../worker/kv-caches.ts';
import { CacheRoom } from '../../../worker/platform/bounded-map.ts';
import { createSealer } from '../../../worker/platform/kv-cache.ts';
import { createKvNameIndex } from '../../../worker/registry/kv-indexes.ts';
import { manifestOf } from '../../../worker/registry/write-pointer.ts';
import { versionRow } from '../../contracts/sample-rows.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { FakeKv } from '../../fakes/fake-kv.ts';

const weigh = (_key: number, bytes: number) => bytes;

it('is never more than there is room, and is their sum, whatever comes and goes', () => {
  const step = fc.oneof(
    fc.record({ of: fc.nat(2), key: fc.nat(9), bytes: fc.integer({ min: 1, max: 40 }) }),
    fc.record({ of: fc.nat(2), key: fc.nat(9), bytes: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const room = new CacheRoom(100);
      const maps = [3, 5, 10].map((most) => room.map<number, number>(most, weigh));
      for (const { of, key, bytes } of steps) {
        if (bytes === 0) maps[of]?.delete(key);
        else maps[of]?.set(key, bytes);
        const sums = maps.map((map) => [...map.values()].reduce((sum, one) => sum + one, 0));
        expect(maps.map((map) => map.bytes)).toEqual(sums);
        expect(room.bytes).toBe(sums.reduce((sum, one) => sum + one, 0));
        expect(room.bytes).toBeLessThanOrEqual(100);
        maps.forEach((map, i) => expect(map.size).toBeLessThanOrEqual([3, 5, 10][i]!));
      }
    }),
  );
});

it('takes the oldest of the largest', () => {
  const room = new CacheRoom(10);
  const [small, large] = [room.map<number, number>(9, weigh), room.map<number, number>(9, weigh)];
  small.set(0, 3);
  for (const key of [1, 2, 3]) large.set(key, 2);
  large.set(4, 2);
  expect([[...small.keys()], [...large.keys()]]).toEqual([[0], [2, 3, 4]]);
  small.clear();
  expect(room.bytes).toBe(6);
});

it('is kept by what the hot path remembers of KV, and a name that left is read again', async () => {
  const clock = new FakeClock();
  const kv = new FakeKv(clock.now);
  const pointer = {
    ...{ kv, sealer: createSealer(new Uint8Array(32).fill(1)), cacheTtl: 30, retryAfterMs: 2_000 },
    pacing: { pauseMs: 1_100, tries: 4, sleep: clock.sleep },
  };
  const names = Array.from({ length: 40 }, (_, i) => `name-${i}`);
  for (const name of names) await createKvNameIndex(pointer).put(manifestOf(versionRow(name, 1)));
  // Some of the names, each remembered for a second and for the case that KV fails.
  const room = new CacheRoom(15_000);
  const hot = createKvCaches({
    ...{ pointer, currentSealer: pointer.sealer, now: clock.now, timeoutMs: 1_000, room },
    keyLedger: { get: () => Promise.resolve(null) },
    grantLedger: { heldBy: () => Promise.resolve([]), refusedBy: () => Promise.resolve([]) },
  });
  for (const name of names) {
    expect(await hot.names.get(name)).toMatchObject({ state: 'found', value: { name } });
    expect(room.bytes).toBeLessThanOrEqual(15_000);
  }
  expect(room.bytes).toBeGreaterThan(12_000);
  const reads = kv.reads;
  await hot.names.get('name-39');
  expect(kv.reads).toBe(reads);
  expect(await hot.names.get('name-0')).toMatchObject({ state: 'found', value: { name: 'name-0' } });
  expect(kv.reads).toBe(reads + 1);
});
