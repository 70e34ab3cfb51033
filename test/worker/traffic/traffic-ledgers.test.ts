import { beforeEach, describe, expect, it } from 'vitest';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { createD1Traffic } from '../../../worker/traffic/d1-traffic.ts';
import { DAY_AFTER_S, KEPT_S, MAX_NAMED_SERIES } from '../../../worker/traffic/limits.ts';
import type { TrafficLedger } from '../../../worker/traffic/ports.ts';
import { bucketOf } from '../../../worker/traffic/sum-traffic.ts';
import { ENDED_AT, ended, trafficHour } from '../../contracts/sample-rows.ts';
import { openDatabase } from '../platform/database.ts';
import { recordStatements } from '../platform/recording-database.ts';

let db: SqlDatabase;
let ledger: TrafficLedger;

const DAY_MS = 86_400_000;
const seconds = (ms: number, step: number): number => step * Math.floor(ms / 1000 / step);
const HOUR = seconds(ENDED_AT, 3_600);
const DAY = seconds(ENDED_AT, 86_400);
/** When its day is summed, unix ms. */
const SUMMED_AT = 1_000 * (DAY + 86_400 + DAY_AFTER_S);

const read = (more: Partial<Parameters<TrafficLedger['read']>[0]> = {}) =>
  ledger.read({
    ...{ tenant: 'me', name: null, keyId: null, step: 3_600, from: DAY, to: DAY + 2 * 86_400 },
    ...more,
  });
const requestsIn = async (more: Parameters<typeof read>[0] = {}) =>
  (await read(more)).map(({ at, requests, status, code }) => [at, requests, status, code]);

beforeEach(async () => {
  db = await openDatabase();
  ledger = createD1Traffic(db);
});

describe('TrafficLedger', () => {
  it('sums what several gatherers have of an hour, and their times', async () => {
    await ledger.writeHour(trafficHour([ended(), ended({ ttft_ms: 2_000, prompt_tokens: 1 })], 1));
    await ledger.writeHour(trafficHour([ended({ ttft_ms: null })], 2));
    const [point, ...more] = await read();
    expect(more).toEqual([]);
    expect(point).toMatchObject({ at: HOUR, status: 200, code: '' });
    expect(point).toMatchObject({ requests: 3, promptTokens: 21, completionTokens: 15 });
    const counts = (of: number[]) => of.flatMap((count, i) => (count === 0 ? [] : [[i, count]]));
    expect(counts(point!.ttft)).toEqual([
      [bucketOf(90), 1],
      [bucketOf(2_000), 1],
    ]);
    expect(counts(point!.duration)).toEqual([[bucketOf(800), 3]]);
  });

  it('replaces what the same gatherer has given of the hour', async () => {
    await ledger.writeHour(trafficHour([ended(), ended({ name: 'erased since' })], 1));
    await ledger.writeHour(trafficHour([ended({ tenant: 'you' })], 2));
    for (let i = 0; i < 2; i += 1) await ledger.writeHour(trafficHour([ended(), ended(), ended()], 1));
    expect(await requestsIn()).toEqual([[HOUR, 3, 200, '']]);
    expect(await requestsIn({ name: 'erased since' })).toEqual([]);
    expect(await requestsIn({ tenant: null })).toEqual([[HOUR, 4, 200, '']]);
  });

  it('keeps tenants, names, keys, statuses and codes apart', async () => {
    await ledger.writeHour(
      trafficHour([
        ended(),
        ended({ name: 'other' }),
        ended({ key_id: 'key_2', status: 429, code: 'queue_full' }),
        ended({ tenant: 'you', key_id: 'key_3' }),
      ]),
    );
    expect(await requestsIn()).toEqual([
      [HOUR, 2, 200, ''],
      [HOUR, 1, 429, 'queue_full'],
    ]);
    expect(await requestsIn({ name: 'notes' })).toEqual([
      [HOUR, 1, 200, ''],
      [HOUR, 1, 429, 'queue_full'],
    ]);
    expect(await requestsIn({ keyId: 'key_2' })).toEqual([[HOUR, 1, 429, 'queue_full']]);
    expect(await requestsIn({ name: 'other', keyId: 'key_2' })).toEqual([]);
    expect(await requestsIn({ tenant: 'you' })).toEqual([[HOUR, 1, 200, '']]);
    expect(await requestsIn({ tenant: null })).toEqual([
      [HOUR, 3, 200, ''],
      [HOUR, 1, 429, 'queue_full'],
    ]);
    expect(await requestsIn({ tenant: null, name: 'notes' })).toEqual([
      [HOUR, 2, 200, ''],
      [HOUR, 1, 429, 'queue_full'],
    ]);
  });

  it('sums a day once it has ended, and again when an hour comes late', async () => {
    await ledger.writeHour(trafficHour([ended()], 1));
    const days = () => requestsIn({ step: 86_400 });
    for (const at of [ENDED_AT, SUMMED_AT - 1_000, SUMMED_AT]) {
      await ledger.tend(at);
      expect(await days()).toEqual([[DAY, 1, 200, '']]);
    }
    await ledger.writeHour(trafficHour([ended(), ended()], 1));
    await ledger.writeHour(trafficHour([ended()], 2));
    expect(await days()).toEqual([[DAY, 3, 200, '']]);
    await ledger.tend(SUMMED_AT);
    // When the hours are gone too.
    for (let run = 0; run < 40; run += 1) await ledger.tend(SUMMED_AT + 1_000 * KEPT_S[3600]);
    expect(await requestsIn()).toEqual([]);
    expect(await days()).toEqual([[DAY, 3, 200, '']]);
    // Up to within the day: what is younger is read elsewhere.
    expect(await requestsIn({ step: 86_400, to: DAY + 3_600 })).toEqual([]);
  });

  it('keeps of a day only the busiest names', async () => {
    const names = Array.from({ length: MAX_NAMED_SERIES + 50 }, (_, i) => ended({ name: `n${i}` }));
    await ledger.writeHour(trafficHour([...names, ended({ name: 'zz' }), ended({ name: 'zz' })]));
    await ledger.tend(SUMMED_AT);
    const ofDay = async (name: string | null) =>
      (await read({ step: 86_400, name })).map(({ requests }) => requests);
    expect(await ofDay(null)).toEqual([names.length + 2]);
    expect(await ofDay('zz')).toEqual([2]);
    expect(await ofDay('*')).toEqual([51]);
  });

  it('forgets what is too old', async () => {
    await ledger.writeHour(trafficHour([ended()]));
    for (let run = 0; run < 60; run += 1) await ledger.tend(ENDED_AT + 401 * DAY_MS);
    expect(await read({ step: 86_400 })).toEqual([]);
  });

  it('forgets a tenant, and names whoever asked for them, and keeps the sums of all', async () => {
    const used = [ended({ name: 'me/a' }), ended({ tenant: 'you', name: 'me/a' }), ended({ tenant: 'you' })];
    await ledger.writeHour(trafficHour(used));
    const rows = async () => (await db.prepare('SELECT 1 FROM traffic').all()).results.length;
    const before = await rows();
    const of = { tenant: 'me', names: ['me/a'], step: 3_600 };
    expect(await ledger.forget({ ...of, from: HOUR - 7_200, to: HOUR })).toBe(0);
    const forgotten = await ledger.forget({ ...of, from: HOUR - 1, to: HOUR + 1 });
    expect(forgotten).toBe(before - (await rows()));
    expect(await requestsIn()).toEqual([]);
    expect(await requestsIn({ tenant: 'you', name: 'me/a' })).toEqual([]);
    expect(await requestsIn({ tenant: 'you' })).toEqual([[HOUR, 2, 200, '']]);
    expect(await requestsIn({ tenant: null })).toEqual([[HOUR, 3, 200, '']]);
  });

  it('forgets names alone, or a tenant alone', async () => {
    await ledger.writeHour(trafficHour([ended({ name: 'me/a' }), ended({ tenant: 'you', name: 'you/b' })]));
    const when = { step: 3_600, from: HOUR, to: HOUR + 3_600 };
    expect(await ledger.forget({ ...when, tenant: null, names: [] })).toBe(0);
    expect(await ledger.forget({ ...when, tenant: null, names: ['me/a'] })).toBeGreaterThan(0);
    expect(await requestsIn({ name: 'me/a' })).toEqual([]);
    expect(await requestsIn()).toEqual([[HOUR, 1, 200, '']]);
    expect(await ledger.forget({ ...when, tenant: 'you', names: [] })).toBeGreaterThan(0);
    expect(await requestsIn({ tenant: 'you' })).toEqual([]);
    expect(await requestsIn({ tenant: null })).toEqual([[HOUR, 2, 200, '']]);
  });

  it('writes the hour of many tenants, however much it is', async () => {
    const many = Array.from({ length: 9_000 }, (_, i) => ended({ tenant: `tenant-${i}`.padEnd(64, '-') }));
    const recorded = recordStatements(db);
    await createD1Traffic(recorded.db).writeHour(trafficHour(many));
    const values = recorded.asked
      .flatMap(({ values }) => values)
      .filter((value) => typeof value === 'string');
    expect(Math.max(...values.map((value) => value.length))).toBeLessThanOrEqual(1_000_000);
    expect(await requestsIn({ tenant: null })).toEqual([[HOUR, 9_000, 200, '']]);
  });
});
