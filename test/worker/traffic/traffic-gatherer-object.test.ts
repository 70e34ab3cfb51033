import { beforeEach, expect, it } from 'vitest';
import { COLLECT_MOST_MS, COLLECT_QUIET_MS, MAX_UNSENT_TRAFFIC } from '../../../worker/traffic/limits.ts';
import type { TrafficBatch } from '../../../worker/traffic/ports.ts';
import { TrafficGatherer } from '../../../worker/traffic/traffic-gatherer-object.ts';
import { ended, trafficBatch } from '../../contracts/sample-rows.ts';

let written: TrafficBatch[];
let alarms: number[];
let down: boolean;
let stuck: boolean;
let now: number;
let gatherer: TrafficGatherer;
beforeEach(() => {
  written = [];
  alarms = [];
  down = false;
  stuck = false;
  now = 0;
  const storage = {
    async setAlarm(at: number) {
      if (stuck) throw new Error('the storage is away');
      alarms.push(at - now);
    },
  };
  const ledger = {
    async add(batch: TrafficBatch) {
      if (down) throw new Error('D1 is away');
      written.push(batch);
    },
  };
  gatherer = new TrafficGatherer({ storage }, { DB: null as never }, { now: () => now, ledger });
});

const send = async (batch: TrafficBatch) =>
  (
    await gatherer.fetch(
      new Request('https://object.invalid/', { method: 'POST', body: JSON.stringify(batch) }),
    )
  ).status;
/** Fires the alarm after this time. */
const alarm = async (ms = COLLECT_QUIET_MS) => {
  now += ms;
  await gatherer.alarm();
};
const requests = ({ rows }: TrafficBatch) =>
  rows.filter(({ tenant }) => tenant === '').reduce((sum, row) => sum + row.requests, 0);

it('writes what isolates sent in one go, once, and then sleeps', async () => {
  await send(trafficBatch('a', [ended(), ended()]));
  await send(trafficBatch('b', [ended()]));
  // The response was lost.
  await send(trafficBatch('b', [ended()]));
  expect(alarms).toEqual([COLLECT_QUIET_MS]);
  await alarm();
  expect(written.map(requests)).toEqual([3]);
  expect(written[0]?.chunks[0]?.requests).toHaveLength(3);
  expect(written[0]?.rows).toHaveLength(3);
  await gatherer.alarm();
  expect(written).toHaveLength(1);
  expect(alarms).toHaveLength(1);
  await send(trafficBatch('c', [ended()]));
  expect(alarms).toHaveLength(2);
});

it('waits while more arrives, but not too long', async () => {
  await send(trafficBatch('a', [ended()]));
  for (let at = 1_000; at < COLLECT_MOST_MS; at += 1_000) {
    now = at;
    await send(trafficBatch(`b${at}`, [ended()]));
    if (at % COLLECT_QUIET_MS === 0) await gatherer.alarm();
  }
  expect(written).toEqual([]);
  now = COLLECT_MOST_MS;
  await gatherer.alarm();
  expect(written.map(requests)).toEqual([COLLECT_MOST_MS / 1_000]);
  // An object that was not called for 10 s is evicted.
  expect(Math.max(...alarms)).toBeLessThan(10_000);
});

it('resends a batch that D1 rejected unchanged, and then what arrived since', async () => {
  await send(trafficBatch('a', [ended()]));
  down = true;
  await alarm();
  await send(trafficBatch('b', [ended()]));
  await alarm();
  down = false;
  await alarm();
  expect(written.map(requests)).toEqual([1]);
  await alarm();
  expect(written.map(requests)).toEqual([1, 1]);
  expect(new Set(written.map(({ id }) => id)).size).toBe(2);
});

it('rejects what it cannot hold; the isolate then keeps it', async () => {
  const status = async (i: number) =>
    send(
      trafficBatch(
        `b${i}`,
        Array.from({ length: 400 }, (_, j) => ended({ name: `n${400 * i + j}` })),
      ),
    );
  const statuses: number[] = [];
  for (let i = 0; i < MAX_UNSENT_TRAFFIC / 400 + 3; i += 1) statuses.push(await status(i));
  expect(statuses[0]).toBe(200);
  expect(statuses.at(-1)).toBe(503);
});

it('loses nothing of many busy tenants: what is full is written before anything is rejected', async () => {
  const TENANTS = 60;
  const statuses = new Set<number>();
  let sent = 0;
  for (let at = 0; at < COLLECT_MOST_MS; at += 1_000) {
    now = at;
    for (let tenant = 0; tenant < TENANTS; tenant += 10) {
      const some = Array.from({ length: 10 }, (_, i) => ended({ tenant: `t${tenant + i}` }));
      const requests = some.flatMap((one) => Array.from({ length: 10 }, () => one));
      statuses.add(await send(trafficBatch(`b${at}-${tenant}`, requests)));
      sent += requests.length;
    }
    if (at > 0 && at % COLLECT_QUIET_MS === 0) await gatherer.alarm();
  }
  await alarm(COLLECT_MOST_MS);
  expect([...statuses]).toEqual([200]);
  expect(written.map(requests).reduce((sum, one) => sum + one, 0)).toBe(sent);
});

it('sets its alarm with the next batch if that failed before', async () => {
  stuck = true;
  await expect(send(trafficBatch('a', [ended()]))).rejects.toThrow('away');
  stuck = false;
  await send(trafficBatch('b', [ended()]));
  expect(alarms).toEqual([COLLECT_QUIET_MS]);
  await alarm();
  expect(written.map(requests)).toEqual([2]);
});
