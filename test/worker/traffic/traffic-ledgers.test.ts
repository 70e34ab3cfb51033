import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { createD1Traffic } from '../../../worker/traffic/d1-traffic.ts';
import { KEPT_S, MAX_NAMED_SERIES, MAX_VALUE_BYTES } from '../../../worker/traffic/limits.ts';
import { ended, trafficBatch, trafficLedgerContract } from '../../contracts/traffic.ts';
import { createFakeTraffic } from '../../fakes/fake-traffic.ts';
import { openRealDatabase, startDatabases } from '../platform/real-database.ts';
import { recordStatements } from '../platform/recording-database.ts';

let miniflare: Miniflare;
let db: SqlDatabase;
beforeAll(() => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

trafficLedgerContract('the fake', async () => createFakeTraffic());
trafficLedgerContract('D1', async () => createD1Traffic((db = await openRealDatabase(miniflare))));

const count = async (step: number): Promise<number> =>
  (await db.prepare('SELECT COUNT(*) AS n FROM traffic WHERE step = ?').bind(step).first<{ n: number }>())!.n;

it('keeps minutes for a day, hours for a month, and the busiest names alone', async () => {
  db = await openRealDatabase(miniflare);
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
  // The busiest is named, however late it comes.
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

/** Of each a hundred requests, as one object of all isolates has them when many ask. */
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

it('writes what many tenants have asked, however much it is', async () => {
  db = await openRealDatabase(miniflare);
  const recorded = recordStatements(db);
  const batch = busyTenants(45);
  // What D1 takes as one value.
  expect(JSON.stringify(batch.chunks).length).toBeGreaterThan(2_000_000);
  await createD1Traffic(recorded.db).add(batch);
  const values = recorded.asked.flatMap(({ values }) => values).filter((value) => typeof value === 'string');
  expect(Math.max(...values.map((value) => value.length))).toBeLessThanOrEqual(MAX_VALUE_BYTES);
  const from = 60 * Math.floor(ended().at / 60_000);
  const all = { name: null, keyId: null, from, to: from + 60, step: 60 };
  const read = async (tenant: string | null) =>
    (await createD1Traffic(db).read({ ...all, tenant })).map(({ requests }) => requests);
  expect(await read(null)).toEqual([4_500]);
  expect(await read('tenant-44')).toEqual([100]);
  // Sent again it is not counted again.
  await createD1Traffic(db).add(batch);
  expect(await read(null)).toEqual([4_500]);
});

it('reads no more of all tenants’ last requests than are asked for', async () => {
  db = await openRealDatabase(miniflare);
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
