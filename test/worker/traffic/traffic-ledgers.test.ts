import { beforeEach, describe, expect, it } from 'vitest';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { createD1Traffic } from '../../../worker/traffic/d1-traffic.ts';
import { KEPT_S, MAX_NAMED_SERIES } from '../../../worker/traffic/limits.ts';
import { MAX_KEPT_REQUESTS } from '../../../protocol/admin-api/traffic.ts';
import type { TrafficLedger } from '../../../worker/traffic/ports.ts';
import { bucketOf } from '../../../worker/traffic/sum-traffic.ts';
import { ENDED_AT, ended, trafficBatch } from '../../contracts/sample-rows.ts';
import { openDatabase } from '../platform/database.ts';
import { recordStatements } from '../platform/recording-database.ts';

let db: SqlDatabase;

const START = ENDED_AT;
const HOUR_MS = 3_600_000;
const seconds = (ms: number, step: number): number => step * Math.floor(ms / 1000 / step);
const make = async () => createD1Traffic((db = await openDatabase()));

describe('TrafficLedger', () => {
  let ledger: TrafficLedger;
  const read = (more: Partial<Parameters<TrafficLedger['read']>[0]> = {}) =>
    ledger.read({
      ...{ tenant: 'me', name: null, keyId: null, step: 60 },
      ...{ from: seconds(START, 86_400), to: seconds(START, 86_400) + 2 * 86_400 },
      ...more,
    });
  const requestsIn = async (more: Parameters<typeof read>[0] = {}) =>
    (await read(more)).map(({ at, requests, status, code }) => [at, requests, status, code]);
  beforeEach(async () => {
    ledger = await make();
  });

  it('sums rows with the same key, and their times', async () => {
    await ledger.add(trafficBatch('a', [ended(), ended({ ttft_ms: 2_000, prompt_tokens: 1 })]));
    await ledger.add(trafficBatch('b', [ended({ ttft_ms: null })]));
    const [point, ...more] = await read();
    expect(more).toEqual([]);
    expect(point).toMatchObject({ at: seconds(START, 60), status: 200, code: '' });
    expect(point).toMatchObject({ requests: 3, promptTokens: 21, completionTokens: 15 });
    const counts = (of: number[]) => of.flatMap((count, i) => (count === 0 ? [] : [[i, count]]));
    expect(counts(point!.ttft)).toEqual([
      [bucketOf(90), 1],
      [bucketOf(2_000), 1],
    ]);
    expect(counts(point!.duration)).toEqual([[bucketOf(800), 3]]);
  });

  it('adds no batch twice', async () => {
    const batch = trafficBatch('a', [ended()]);
    await ledger.add(batch);
    await ledger.add(batch);
    expect(await requestsIn()).toEqual([[seconds(START, 60), 1, 200, '']]);
    expect(await ledger.requests({ tenant: 'me', limit: 9 })).toHaveLength(1);
  });

  it('keeps tenants, names, keys, statuses and codes apart', async () => {
    await ledger.add(
      trafficBatch('a', [
        ended(),
        ended({ name: 'other' }),
        ended({ key_id: 'key_2', status: 429, code: 'queue_full' }),
        ended({ tenant: 'you', key_id: 'key_3' }),
      ]),
    );
    const at = seconds(START, 60);
    expect(await requestsIn()).toEqual([
      [at, 2, 200, ''],
      [at, 1, 429, 'queue_full'],
    ]);
    expect(await requestsIn({ name: 'notes' })).toEqual([
      [at, 1, 200, ''],
      [at, 1, 429, 'queue_full'],
    ]);
    expect(await requestsIn({ keyId: 'key_2' })).toEqual([[at, 1, 429, 'queue_full']]);
    expect(await requestsIn({ name: 'other', keyId: 'key_2' })).toEqual([]);
    expect(await requestsIn({ tenant: 'you' })).toEqual([[at, 1, 200, '']]);
    expect(await requestsIn({ tenant: null })).toEqual([
      [at, 3, 200, ''],
      [at, 1, 429, 'queue_full'],
    ]);
    expect(await requestsIn({ tenant: null, name: 'notes' })).toEqual([
      [at, 2, 200, ''],
      [at, 1, 429, 'queue_full'],
    ]);
  });

  it('returns steps of any length, summed by the schedule or not', async () => {
    const later = START + 2 * HOUR_MS;
    await ledger.add(trafficBatch('a', [ended(), ended({ at: START + 60_000 }), ended({ at: later })]));
    const expected = {
      60: [START, START + 60_000, later].map((at) => [seconds(at, 60), 1, 200, '']),
      300: [
        [seconds(START, 300), 2, 200, ''],
        [seconds(later, 300), 1, 200, ''],
      ],
      3600: [
        [seconds(START, 3600), 2, 200, ''],
        [seconds(later, 3600), 1, 200, ''],
      ],
      86400: [
        [seconds(START, 86400), 2, 200, ''],
        [seconds(later, 86400), 1, 200, ''],
      ],
    };
    for (const hour of [0, 1, 2, 3, 24, 26, 27, 49]) {
      for (const [step, points] of Object.entries(expected)) {
        // Minutes are kept for a day.
        if (Number(step) < 3600 && hour > 24) continue;
        expect([hour, step, await requestsIn({ step: Number(step) })]).toEqual([hour, step, points]);
        expect(await requestsIn({ step: Number(step), name: 'notes' })).toEqual(points);
      }
      await ledger.tend(START + hour * HOUR_MS);
    }
  });

  it('includes late traffic in hours and days that were summed before', async () => {
    // Half an hour before midnight; the database is down at midnight, and the collector keeps what arrives.
    const midnight = 1000 * seconds(START + 24 * HOUR_MS, 86400);
    const at = midnight - HOUR_MS / 2;
    await ledger.add(trafficBatch('a', [ended({ at })]));
    const all = { tenant: 'me', name: null, keyId: null, to: seconds(midnight + 24 * HOUR_MS, 86400) };
    const read = async (step: number) =>
      (await ledger.read({ ...all, from: seconds(at, step), step })).map(({ requests }) => requests);
    for (let minute = 30; minute < 33; minute += 1) await ledger.tend(midnight + 60_000 * minute);
    const late = [ended({ at: at + 60_000 }), ended({ at: midnight + 60_000 })];
    await ledger.add(trafficBatch('late', late));
    for (let minute = 33; minute < 200; minute += 40) {
      await ledger.tend(midnight + 60_000 * minute);
      expect([await read(3600), await read(86400)]).toEqual([
        [2, 1],
        [2, 1],
      ]);
    }
    // When the minutes are gone too.
    for (let hour = 20; hour < 60; hour += 1) await ledger.tend(midnight + hour * HOUR_MS);
    expect([await read(3600), await read(86400)]).toEqual([
      [2, 1],
      [2, 1],
    ]);
  });

  it('returns the latest requests, newest first, and no more than are kept per tenant', async () => {
    const many = (from: number) =>
      Array.from({ length: 90 }, (_, i) => ended({ id: `r${from + i}`, at: START + from + i }));
    for (let i = 0; i < 15; i += 1) await ledger.add(trafficBatch(`b${i}`, many(90 * i)));
    await ledger.add(trafficBatch('you', [ended({ tenant: 'you', id: 'theirs', at: START + 5 })]));
    const ids = async (tenant: string | null, limit: number) =>
      (await ledger.requests({ tenant, limit })).flatMap(({ requests }) => requests.map(({ id }) => id));
    const mine = await ids('me', 5_000);
    expect(mine.slice(0, 2)).toEqual(['r1349', 'r1348']);
    expect(mine.length).toBeGreaterThanOrEqual(MAX_KEPT_REQUESTS);
    expect(mine.length).toBeLessThan(MAX_KEPT_REQUESTS + 90);
    expect(await ids('me', 90)).toEqual(mine.slice(0, 90));
    expect(await ids('you', 9)).toEqual(['theirs']);
    expect(await ids('nobody', 9)).toEqual([]);
    expect(await ids(null, 5_000)).toContain('theirs');
    const [first] = await ledger.requests({ tenant: 'you', limit: 9 });
    expect(first).toEqual({
      tenant: 'you',
      requests: [ended({ tenant: 'you', id: 'theirs', at: START + 5 })],
      leftOut: 0,
    });
  });

  it('forgets what is too old', async () => {
    await ledger.add(trafficBatch('a', [ended()]));
    for (let run = 0; run < 60; run += 1) await ledger.tend(START + 401 * 24 * HOUR_MS);
    expect(await read({ step: 86400 })).toEqual([]);
    expect(await ledger.requests({ tenant: 'me', limit: 9 })).toEqual([]);
  });
});

const count = async (step: number): Promise<number> =>
  (await db.prepare('SELECT COUNT(*) AS n FROM traffic WHERE step = ?').bind(step).first<{ n: number }>())!.n;

it('keeps minutes for a day, hours for a month, and only the busiest names', async () => {
  db = await openDatabase();
  const traffic = createD1Traffic(db);
  const { at } = ended();
  const names = MAX_NAMED_SERIES + 50;
  for (let from = 0; from < names; from += 210)
    await traffic.add(
      trafficBatch(
        `b${from}`,
        Array.from({ length: Math.min(210, names - from) }, (_, i) => ended({ name: `n${from + i}` })),
      ),
    );
  // The busiest is named, however late it arrives.
  await traffic.add(trafficBatch('z', [ended({ name: 'zz' }), ended({ name: 'zz' })]));
  const minutes = await count(60);
  expect(minutes).toBe(names + 3);
  await traffic.tend(at + 3_600_000);
  // Two totals, the names, and the rest in one.
  expect(await count(3600)).toBe(2 + MAX_NAMED_SERIES + 1);
  const all = { tenant: 'me', keyId: null, from: 3600 * Math.floor(at / 3_600_000), step: 3600 };
  const read = async (name: string | null) =>
    (await traffic.read({ ...all, name, to: all.from + 3600 })).map(({ requests }) => requests);
  expect(await read(null)).toEqual([names + 2]);
  expect(await read('zz')).toEqual([2]);
  expect(await read('*')).toEqual([51]);
  await traffic.tend(at + 1000 * KEPT_S[60] + 120_000);
  expect(await count(60)).toBe(0);
  expect(await count(3600)).toBe(2 + MAX_NAMED_SERIES + 1);
  await traffic.tend(at + 1000 * (KEPT_S[3600] + 7_200));
  expect(await count(3600)).toBe(0);
  expect(await count(86400)).toBe(2 + MAX_NAMED_SERIES + 1);
  expect((await traffic.read({ ...all, name: null, from: 0, to: 2e9, step: 86400 }))[0]?.requests).toBe(
    names + 2,
  );
});

/** A hundred requests per tenant, as in a busy time with one object for all isolates. */
const busyTenants = (tenants: number) =>
  trafficBatch(
    `of ${tenants}`,
    Array.from({ length: 100 * tenants }, (_, i) =>
      ended({
        ...{ id: `request-${i}`.padEnd(64, '-'), tenant: `tenant-${Math.floor(i / 100)}` },
        name: `tenant-${Math.floor(i / 100)}/`.padEnd(128, 'n'),
        phases: ['key', 'name', 'origin', 'origin-prompt', 'origin-first', 'origin-queue'].map((name) => ({
          ...{ name, ms: 1_234.5 },
        })),
      }),
    ),
  );

it('writes the traffic of many tenants, however much it is', async () => {
  db = await openDatabase();
  const recorded = recordStatements(db);
  const batch = busyTenants(45);
  // D1's limit for one value.
  expect(JSON.stringify(batch.chunks).length).toBeGreaterThan(2_000_000);
  await createD1Traffic(recorded.db).add(batch);
  const values = recorded.asked.flatMap(({ values }) => values).filter((value) => typeof value === 'string');
  expect(Math.max(...values.map((value) => value.length))).toBeLessThanOrEqual(1_000_000);
  const from = 60 * Math.floor(ended().at / 60_000);
  const all = { name: null, keyId: null, from, to: from + 60, step: 60 };
  const read = async (tenant: string | null) =>
    (await createD1Traffic(db).read({ ...all, tenant })).map(({ requests }) => requests);
  expect(await read(null)).toEqual([4_500]);
  expect(await read('tenant-44')).toEqual([100]);
  // A repeat is not counted again.
  await createD1Traffic(db).add(batch);
  expect(await read(null)).toEqual([4_500]);
});

it('reads only as many of all tenants’ requests as are asked for', async () => {
  db = await openDatabase();
  await createD1Traffic(db).add(busyTenants(30));
  let texts = 0;
  const counting: SqlDatabase = {
    ...db,
    prepare: (query) => {
      const statement = db.prepare(query);
      const wrap = (inner: typeof statement): typeof statement => ({
        ...inner,
        bind: (...values) => wrap(inner.bind(...values)),
        async all<T>() {
          const answer = await inner.all<T>();
          texts += JSON.stringify(answer.results).length;
          return answer;
        },
      });
      return wrap(statement);
    },
  };
  const chunks = await createD1Traffic(counting).requests({ tenant: null, limit: 200 });
  expect(chunks.map(({ requests }) => requests.length)).toEqual([100, 100]);
  expect(texts).toBeLessThan(200 * 1_500);
});
