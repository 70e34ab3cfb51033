import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { createD1Traffic } from '../../../worker/traffic/d1-traffic.ts';
import { KEPT_S, MAX_NAMED_SERIES } from '../../../worker/traffic/limits.ts';
import { ended, trafficBatch, trafficLedgerContract } from '../../contracts/traffic.ts';
import { createFakeTraffic } from '../../fakes/fake-traffic.ts';
import { openRealDatabase, startDatabases } from '../platform/real-database.ts';

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
}, 60_000);
