import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import {
  FULL_WRITE_ROWS,
  GATHERER_COMMIT_MS,
  GATHERER_QUIET_MS,
  GATHERER_RETRY_MS,
  GATHERER_SHOW_MS,
  GATHERER_SPREAD_MS,
  GATHERER_WRITE_MS,
  LARGE_TENANT_MINUTE_ROWS,
  PROMPT_WRITE_MS,
  SENDER_KEPT_MS,
  SENDER_LISTS,
} from '../../../worker/gathering/limits.ts';
import { Gatherer } from '../../../worker/gathering/gatherer-object.ts';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { USAGE_BATCH_MEMORY_MS } from '../../../worker/metering/limits.ts';
import type { UsageLedger, UsageRow } from '../../../worker/metering/ports.ts';
import { MAX_KEPT_REQUESTS, type RequestView } from '../../../protocol/admin-api/traffic.ts';
import { createD1KeptPrompts } from '../../../worker/prompts/d1-kept-prompts.ts';
import type { KeptPrompts, PromptRow } from '../../../worker/prompts/ports.ts';
import { createD1Traffic } from '../../../worker/traffic/d1-traffic.ts';
import {
  KEPT_S,
  MAX_BATCH_REQUESTS,
  REQUESTS_KEPT_MS,
  ROLL_UP_AFTER_S,
} from '../../../worker/traffic/limits.ts';
import { packRow } from '../../../worker/traffic/pack-traffic.ts';
import { readTraffic } from '../../../worker/traffic/parts.ts';
import type {
  RequestChunk,
  TrafficLedger,
  TrafficPoint,
  TrafficQuery,
} from '../../../worker/traffic/ports.ts';
import { rowOf } from '../../../worker/traffic/sum-traffic.ts';
import { ended, keyRow } from '../../contracts/sample-rows.ts';
import { gathererDisk, type GathererDisk } from '../../fakes/gatherers-in-process.ts';
import { openDatabase } from '../platform/database.ts';

const AT = Date.UTC(2026, 4, 1, 12, 30);
const HOUR = Math.floor(AT / 3_600_000);
const DAY_MS = 86_400_000;

const row = (more: Partial<UsageRow> = {}): UsageRow => ({
  ...{ hour: HOUR, tenant: 'acme', keyId: 'key_1', name: 'notes', version: 1, base: 'tiny' },
  ...{ requests: 1, errors: 0, promptTokens: 10, completionTokens: 5 },
  ...more,
});

class Killed extends Error {}

let now: number;
let disk: GathererDisk;
let ledger: UsageLedger;
let traffic: TrafficLedger;
let prompts: KeptPrompts;
let gatherer: Gatherer;
/** Called before and after each step outside of the object's memory: it may throw. */
let step: (what: string) => void;

/** Another life of the object, which knows what is on disk. An earlier one does nothing any more. */
function live(): void {
  let dead = false;
  const take = (what: string): void => {
    if (dead) throw new Killed();
    try {
      step(what);
    } catch (error) {
      dead = error instanceof Killed;
      throw error;
    }
  };
  const around = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    take(`before ${what}`);
    const value = await work();
    take(`after ${what}`);
    return value;
  };
  gatherer = new Gatherer(
    {
      storage: {
        sql: disk.sql,
        transactionSync(work) {
          take('before a transaction');
          const value = disk.transactionSync(work);
          take('after a transaction');
          return value;
        },
        sync: () => around('sync', () => disk.sync()),
        getAlarm: () => around('getAlarm', () => disk.getAlarm()),
        setAlarm: (at) => around('setAlarm', () => disk.setAlarm(at)),
      },
    },
    { DB: null as never },
    {
      now: () => now,
      sleep: async (ms) => {
        now += ms;
      },
      usage: { add: (batch) => around('the write to D1', () => ledger.add(batch)) },
      traffic: { writeHour: (hour) => around('the hour', () => traffic.writeHour(hour)) },
      keptPrompts: { add: (rows) => around('the prompts', () => prompts.add(rows)) },
    },
  );
}

const post = (call: object) =>
  gatherer.fetch(new Request('https://object.invalid/', { method: 'POST', body: JSON.stringify(call) }));
const send = async (sender: string, number: number, usage: UsageRow[], requests: RequestView[] = []) =>
  (
    await post({
      ...{ call: 'add', sender, number, usage, traffic: requests.map((one) => packRow(rowOf(one))) },
      requests: requests.map((one): RequestChunk => ({ tenant: one.tenant, requests: [one], leftOut: 0 })),
    })
  ).status;
/** Of a key that keeps them. */
const prompt = (id: string, more: Partial<PromptRow> = {}): PromptRow => ({
  ...{ tenant: 'acme', at: AT, id, keyId: 'key_1', name: 'notes', sealed: 'abc', user: 'u', ...more },
});
const keep = async (rows: PromptRow[]) => (await post({ call: 'keep', prompts: rows })).status;
const kept = async (id: string) => (await prompts.read({ tenant: 'acme', id, at: null, now: AT })) !== null;
/** Of now. */
const request = (more: Partial<RequestView> = {}) => ended({ at: now, tenant: 'acme', ...more });
const ask = async <T>(call: object): Promise<T> => (await (await post(call)).json()) as T;
const listed = async (tenant: string | null, limit = MAX_KEPT_REQUESTS) =>
  (await ask<RequestChunk[]>({ call: 'requests', tenant, limit })).flatMap(({ requests }) =>
    requests.map(({ id }) => id),
  );
const points = (more: Partial<TrafficQuery> = {}): Promise<TrafficPoint[]> =>
  readTraffic(
    { traffic, now: () => now, gatherers: { traffic: (query) => ask({ call: 'traffic', ...query }) } },
    {
      ...{ tenant: 'acme', name: null, keyId: null, step: 60 },
      ...{ from: 86_400 * Math.floor(AT / DAY_MS - 1), to: 86_400 * Math.floor(AT / DAY_MS + 9) },
      ...more,
    },
  );
const counted = async (more: Partial<TrafficQuery> = {}) =>
  (await points(more)).reduce((sum, { requests }) => sum + requests, 0);
/** When the gatherer writes the hour of AT, at the latest. */
const HOUR_WRITTEN = 3_600_000 * (HOUR + 1) + 2_000 * ROLL_UP_AFTER_S;
/** Rings the alarm when it is due. @returns how long that took. */
const ring = async () => {
  const { alarm } = disk;
  if (alarm === null) return null;
  const ms = alarm - now;
  now = Math.max(now, alarm);
  disk.alarm = null;
  await gatherer.alarm();
  return ms;
};
const total = async () => {
  const { sums } = await ledger.sum({ by: 'tenant', tenant: null, from: 0, to: HOUR + 99, place: null });
  return sums.reduce((all, { requests }) => all + requests, 0);
};
async function openD1(): Promise<void> {
  const db = await openDatabase();
  ledger = createD1Usage(db, USAGE_BATCH_MEMORY_MS);
  traffic = createD1Traffic(db);
  prompts = createD1KeptPrompts(db);
  await createD1KeyLedger(db).add(keyRow('key_1', { tenant: 'acme', keep_prompts: 2 }));
}
const rowsIn = (table: string) => disk.sql.exec(`SELECT COUNT(*) AS n FROM ${table}`).toArray()[0]?.['n'];

beforeEach(async () => {
  now = AT;
  step = () => undefined;
  disk = gathererDisk();
  await openD1();
  live();
  vi.spyOn(console, 'error').mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

describe('a gatherer', () => {
  it('has a batch on disk before it acknowledges it, and in D1 some seconds later', async () => {
    await send('i1', 1, [row(), row({ version: 2 })]);
    live();
    await send('i2', 1, [row()]);
    expect(await total()).toBe(0);
    const ms = await ring();
    expect(ms).toBeGreaterThanOrEqual(GATHERER_QUIET_MS - GATHERER_COMMIT_MS);
    expect(ms).toBeLessThanOrEqual(GATHERER_QUIET_MS + GATHERER_SPREAD_MS);
    expect(await total()).toBe(3);
    expect([rowsIn('batches'), rowsIn('senders')]).toEqual([0, 1]);
    // Nothing wakes it.
    expect(disk.alarm).toBeNull();
  });

  it('writes once a minute while more arrives, one row per key, name, version and hour', async () => {
    const add = vi.spyOn(ledger, 'add');
    const many = Array.from({ length: FULL_WRITE_ROWS }, (_, i) => row({ name: `n${i}` }));
    await send('i1', 1, many);
    await ring();
    const written = now;
    for (let number = 2; number < 32; number += 1) {
      now += 1_000;
      await send('i1', number, [row()]);
    }
    const due = (disk.alarm ?? 0) - written;
    expect(due).toBeGreaterThanOrEqual(GATHERER_WRITE_MS);
    expect(due).toBeLessThanOrEqual(GATHERER_WRITE_MS + GATHERER_SPREAD_MS);
    await ring();
    expect(add.mock.calls.map(([{ rows }]) => rows.map(({ requests }) => requests))).toEqual([
      many.map(() => 1),
      [30],
    ]);
  });

  it('writes sooner while there is little', async () => {
    for (let number = 1; number < 5; number += 1) {
      await send('i1', number, [row()]);
      expect(await ring()).toBeLessThanOrEqual(GATHERER_QUIET_MS + GATHERER_SPREAD_MS);
    }
  });

  it('sums up many rows, and gives each to D1 less often, or once somebody asks', async () => {
    const add = vi.spyOn(ledger, 'add');
    const of = (tenant: string) =>
      Array.from({ length: FULL_WRITE_ROWS }, (_, i) => row({ tenant, name: `n${i}` }));
    const all = ['acme', 'you', 'they'].flatMap(of);
    await send('i1', 1, all);
    await ring();
    const [first] = add.mock.calls;
    const written = now;
    let number = 1;
    while (now < written + 2 * GATHERER_WRITE_MS) {
      await send('i1', (number += 1), all);
      expect(await ring()).toBeLessThanOrEqual(GATHERER_WRITE_MS + GATHERER_SPREAD_MS);
      live();
    }
    expect([first?.[0].rows.length, add.mock.calls.length, rowsIn('batches')]).toEqual([300, 1, 0]);
    await post({ call: 'show', tenant: 'nobody' });
    await post({ call: 'show', tenant: null });
    expect(add).toHaveBeenCalledTimes(1);
    for (let times = 0; times < 3; times += 1) await post({ call: 'show', tenant: 'you' });
    expect(add).toHaveBeenCalledTimes(2);
    const { sums } = await ledger.sum({ by: 'tenant', tenant: null, from: 0, to: HOUR + 9, place: null });
    expect(sums.map(({ group, requests }) => [group, requests / FULL_WRITE_ROWS])).toEqual([
      ['acme', 1],
      ['they', 1],
      ['you', number],
    ]);
    // Nothing more arrives.
    await ring();
    expect(now).toBeGreaterThanOrEqual(written + 3 * GATHERER_WRITE_MS);
    expect(now).toBeLessThanOrEqual(written + 3 * GATHERER_WRITE_MS + GATHERER_SPREAD_MS);
    expect([await total(), rowsIn('sums')]).toEqual([300 * number, 0]);
  });

  it('gives D1 the usage of an hour once that has ended, and what somebody asks for of all', async () => {
    const many = (from: number) =>
      Array.from({ length: 90 * FULL_WRITE_ROWS }, (_, i) => row({ name: `n${from + i}` }));
    await send('i1', 1, many(0));
    await ring();
    const written = now;
    await send('i1', 2, many(0));
    await ring();
    const half = await total();
    await post({ call: 'show', tenant: null });
    expect(await total()).toBe(half);
    now = written + GATHERER_SHOW_MS;
    await post({ call: 'show', tenant: null });
    expect(await total()).toBe(2 * half);
    await send('i1', 3, many(1));
    await ring();
    for (let rings = 0; rings < 9 && disk.alarm !== null; rings += 1) await ring();
    expect([await total(), now <= HOUR_WRITTEN]).toEqual([3 * half, true]);
  });

  it('gives D1 what is too much for a row at once', async () => {
    const long = (at: number) =>
      Array.from({ length: 1_500 }, (_, i) => row({ name: `${'n'.repeat(120)}${at}-${i}` }));
    for (let number = 1; number < 9; number += 1) {
      await send('i1', number, long(number));
      await ring();
    }
    expect(await total()).toBeGreaterThan(3 * 1_500);
    await post({ call: 'write' });
    expect(await total()).toBe(8 * 1_500);
  });

  it('stores what arrives at once as one row', async () => {
    const isolates = Array.from({ length: 40 }, (_, i) => `i${i}`);
    const sent = await Promise.all(isolates.map((isolate) => send(isolate, 1, [row()])));
    expect(new Set(sent)).toEqual(new Set([200]));
    expect(rowsIn('batches')).toBe(1);
    await ring();
    expect(await total()).toBe(40);
  });

  it('takes a batch once: at once, from disk, and when it is in D1', async () => {
    await Promise.all([send('i1', 1, [row()]), send('i1', 1, [row()])]);
    await send('i1', 1, [row()]);
    live();
    await send('i1', 1, [row()]);
    await ring();
    await send('i1', 1, [row()]);
    live();
    await send('i1', 1, [row()]);
    await send('i1', 2, [row()]);
    await ring();
    expect(await total()).toBe(2);
  });

  it('keeps what D1 does not take, says so, and writes it when D1 takes it', async () => {
    const add = vi.spyOn(ledger, 'add').mockRejectedValue(new Error('D1 is away'));
    for (let number = 1; number < 50; number += 1) {
      await send('i1', number, [row()]);
      await ring();
    }
    expect(await ring()).toBe(GATHERER_RETRY_MS);
    expect(console.error).toHaveBeenCalledWith(expect.stringContaining('usage_not_written'));
    // The same, under the same id.
    expect(new Set(add.mock.calls.map(([{ id, rows }]) => JSON.stringify([id, rows]))).size).toBe(1);
    expect((await post({ call: 'write' })).status).toBe(503);
    add.mockRestore();
    await ring();
    expect(await total()).toBe(49);
    expect(rowsIn('batches')).toBe(0);
  });

  it('writes what it has when it is asked to', async () => {
    await send('i1', 1, [row()]);
    expect((await post({ call: 'write' })).status).toBe(200);
    expect(await total()).toBe(1);
  });

  it('writes what an outage has left in several parts', async () => {
    const add = vi.spyOn(ledger, 'add');
    for (let number = 1; number <= 30; number += 1) {
      const usage = Array.from({ length: 1_500 }, (_, i) => row({ name: `n${number}-${i}` }));
      now += 1_000;
      await send('i1', number, usage);
    }
    await ring();
    expect(add.mock.calls.length).toBeGreaterThan(1);
    expect(await total()).toBe(45_000);
  });

  it('merges its lists of isolates, and forgets those that have sent nothing for a day', async () => {
    await send('old', 1, [row()]);
    await send('older', 1, [row()]);
    await ring();
    now += SENDER_KEPT_MS + 1;
    for (let number = 1; number <= SENDER_LISTS; number += 1) {
      await send('new', number, [row()]);
      await ring();
    }
    expect(rowsIn('senders')).toBe(1);
    live();
    await send('new', SENDER_LISTS, [row()]);
    await ring();
    expect(await total()).toBe(SENDER_LISTS + 2);
    await send('old', 1, [row()]);
    await ring();
    expect(await total()).toBe(SENDER_LISTS + 3);
  });

  it('calls a tenant large of which it has got many rows, for this minute and the next', async () => {
    const many = Array.from({ length: LARGE_TENANT_MINUTE_ROWS / 2 }, () => row());
    const large = async (number: number, usage: UsageRow[]) =>
      ask({ call: 'add', sender: 'i1', number, usage, traffic: [], requests: [] });
    expect(await large(1, [...many, row({ tenant: 'you' })])).toEqual([]);
    // Its answer was lost.
    expect(await large(1, [...many, row({ tenant: 'you' })])).toEqual([]);
    expect(await large(2, many)).toEqual(['acme']);
    expect(await large(3, [row({ tenant: 'you' })])).toEqual(['acme']);
    now += 60_000;
    expect(await large(4, [row()])).toEqual(['acme']);
    now += 60_000;
    expect(await large(5, [row()])).toEqual([]);
  });

  it('rejects what is no batch', async () => {
    await expect(send('i1', 1, [row({ requests: 0.5 })])).rejects.toThrow();
    await expect(send('i1', 0, [row()])).rejects.toThrow();
  });

  it('has the minutes of traffic, by tenant, name and key, and their sum', async () => {
    await send(
      'i1',
      1,
      [],
      [request(), request({ name: 'other' }), request({ tenant: 'you', key_id: 'key_2' })],
    );
    await send('i2', 1, [], [request({ status: 500, code: 'internal' })]);
    await ring();
    const at = 60 * Math.floor(AT / 60_000);
    expect((await points()).map((point) => [point.at, point.status, point.code, point.requests])).toEqual([
      [at, 200, '', 2],
      [at, 500, 'internal', 1],
    ]);
    expect(await counted({ tenant: null })).toBe(4);
    expect(await counted({ tenant: 'you' })).toBe(1);
    expect(await counted({ name: 'other' })).toBe(1);
    expect(await counted({ tenant: null, name: 'notes' })).toBe(3);
    expect(await counted({ keyId: 'key_2' })).toBe(0);
    expect(await counted({ tenant: null, keyId: 'key_2' })).toBe(1);
    expect((await points({ step: 86_400 }))[0]).toMatchObject({
      requests: 2,
      at: 86_400 * Math.floor(AT / DAY_MS),
    });
    expect((await points())[0]?.ttft.reduce((sum, count) => sum + count, 0)).toBe(2);
  });

  it('gives D1 each hour once it has ended, and again when some of it comes late', async () => {
    const steps = async () => [await counted({ step: 60 }), await counted({ step: 3_600 })];
    await send('i1', 1, [], [request()]);
    await ring();
    expect(await steps()).toEqual([1, 1]);
    for (let rings = 0; rings < 3 && now < HOUR_WRITTEN; rings += 1) await ring();
    expect([now <= HOUR_WRITTEN, rowsIn('hours'), disk.alarm]).toEqual([true, 0, null]);
    live();
    await send('i1', 2, [], [ended({ at: AT, tenant: 'acme' })]);
    await ring();
    await ring();
    expect(await steps()).toEqual([2, 2]);
    // An hour is read from D1 when its minutes are too old.
    for (const hours of [20, 23, 24, 25, 27, 60]) {
      now = AT + 3_600_000 * hours;
      expect([hours, await counted({ step: 3_600 })]).toEqual([hours, 2]);
    }
    now = AT + 1_000 * KEPT_S[60];
    await send('i1', 3, [], [request()]);
    await ring();
    await ring();
    // Of then and of all, of two minutes; the first ones are deleted.
    expect([rowsIn('minutes'), await counted({ step: 3_600 })]).toEqual([2, 3]);
  });

  it('counts what comes a day late as a day old, and changes nothing before', async () => {
    await send('i1', 1, [], [request()]);
    await ring();
    await post({ call: 'write' });
    now = AT + 1_000 * KEPT_S[3600];
    await send('i1', 2, [], [ended({ at: AT, tenant: 'acme' })]);
    await ring();
    await post({ call: 'write' });
    const of = { to: Math.ceil(now / DAY_MS) * 86_400, step: 3_600 };
    expect((await points(of)).map(({ requests }) => requests)).toEqual([1, 1]);
  });

  it('gives D1 the hour that has not ended when it is asked to write', async () => {
    await send('i1', 1, [], [request()]);
    await post({ call: 'write' });
    const all = { name: null, keyId: null, from: 3_600 * HOUR, to: 3_600 * HOUR + 3_600, step: 3_600 };
    expect(await traffic.read({ ...all, tenant: 'acme' })).toHaveLength(1);
    await send('i1', 2, [], [request()]);
    await post({ call: 'write' });
    expect((await traffic.read({ ...all, tenant: null })).map(({ requests }) => requests)).toEqual([2]);
  });

  it('lists the newest requests of each tenant, whatever others do', async () => {
    await send('i1', 1, [], [request({ tenant: 'quiet', id: 'q' })]);
    await ring();
    const ids: string[] = [];
    for (let number = 2; ids.length < MAX_KEPT_REQUESTS + 300; number += 1) {
      now += 10_000;
      const some = Array.from({ length: 30 }, (_, i) => request({ id: `r${ids.length + i}`, at: now + i }));
      ids.push(...some.map(({ id }) => id));
      await send('i1', number, [], some);
      await ring();
    }
    const mine = await listed('acme');
    expect(mine.slice(0, 2)).toEqual([ids.at(-1), ids.at(-2)]);
    expect(mine.length).toBeGreaterThanOrEqual(MAX_KEPT_REQUESTS);
    expect(mine.length).toBeLessThan(MAX_KEPT_REQUESTS + MAX_BATCH_REQUESTS);
    expect(new Set(mine)).toEqual(new Set(ids.slice(-mine.length)));
    // A few requests share a row, which is rewritten.
    expect(rowsIn('requests')).toBe(1 + Math.ceil(mine.length / 90));
    expect(await listed('quiet')).toEqual(['q']);
    expect(await listed(null, 10)).toEqual(mine.slice(0, (await listed(null, 10)).length));
    expect(await listed('nobody')).toEqual([]);
    now += REQUESTS_KEPT_MS;
    await send('i1', 999, [], [request({ tenant: 'you' })]);
    await post({ call: 'write' });
    expect(await listed(null)).toEqual(['r1']);
  });

  it('counts the requests that are too many to be listed', async () => {
    const many = Array.from({ length: 2 * MAX_BATCH_REQUESTS }, (_, i) => request({ at: now + i }));
    await send('i1', 1, [], many);
    await ring();
    const [chunk] = await ask<RequestChunk[]>({ call: 'requests', tenant: 'acme', limit: 1_000 });
    expect([chunk?.requests.length, chunk?.leftOut]).toEqual([MAX_BATCH_REQUESTS, MAX_BATCH_REQUESTS]);
    expect(await counted()).toBe(2 * MAX_BATCH_REQUESTS);
  });

  it('has prompts on disk before it acknowledges them, and in D1 some seconds later, all at once', async () => {
    const add = vi.spyOn(prompts, 'add');
    await send('i1', 1, [row()]);
    await ring();
    await send('i1', 2, [row()]);
    await keep([prompt('r1')]);
    live();
    await keep([prompt('r1'), prompt('r2'), prompt('r3', { keyId: 'key_2' })]);
    expect([await kept('r1'), rowsIn('prompts')]).toEqual([false, 2]);
    expect(await ring()).toBeLessThanOrEqual(PROMPT_WRITE_MS);
    expect(await Promise.all(['r1', 'r2', 'r3'].map(kept))).toEqual([true, true, false]);
    expect([add.mock.calls.length, rowsIn('prompts')]).toEqual([1, 0]);
    // Counts wait for their own time.
    for (let rings = 0; rings < 3 && disk.alarm !== null; rings += 1) await ring();
    expect([await total(), rowsIn('batches')]).toEqual([2, 0]);
  });

  it('writes prompts when it is asked to, and sums though D1 does not take prompts', async () => {
    await keep([prompt('r1')]);
    await post({ call: 'show-prompts' });
    expect(await kept('r1')).toBe(true);
    const add = vi.spyOn(prompts, 'add').mockRejectedValue(new Error('D1 is away'));
    await keep(Array.from({ length: 20 }, (_, i) => prompt(`long${i}`, { sealed: 'x'.repeat(130_000) })));
    await send('i1', 1, [row()]);
    for (const call of ['write', 'show-prompts']) expect((await post({ call })).status).toBe(503);
    await ring();
    expect(await ring()).toBe(GATHERER_RETRY_MS);
    expect(console.error).toHaveBeenCalledWith(expect.stringContaining('prompts_not_written'));
    expect([await total(), rowsIn('prompts')]).toEqual([1, 3]);
    add.mockRestore();
    await ring();
    expect([await kept('long0'), await kept('long19'), rowsIn('prompts')]).toEqual([true, true, 0]);
  });

  it('forgets a tenant, and names whoever used them, up to a time', async () => {
    const old = now;
    await send(
      'i1',
      1,
      [],
      [
        ...[request({ id: 'a1' }), request({ id: 'a2', name: 'other' })],
        ...[request({ id: 'y1', tenant: 'you' }), request({ id: 'y2', tenant: 'you', name: 'other' })],
      ],
    );
    now += 120_000;
    await send('i1', 2, [], [request({ id: 'a3' })]);
    await post({ call: 'write' });
    const forget = (more: object) =>
      ask({ call: 'forget', tenant: null, names: [], until: old + 60_000, ...more });
    expect(await forget({ names: ['other'] })).toEqual({ traffic: 2, requests: 2 });
    expect([await listed('acme'), await listed('you')]).toEqual([['a3', 'a1'], ['y1']]);
    expect(await counted({ tenant: null, name: 'other' })).toBe(0);
    expect([await counted({ tenant: 'you' }), await counted({ tenant: 'you', name: '*' })]).toEqual([2, 1]);
    expect(await forget({ tenant: 'acme' })).toEqual({ traffic: 2, requests: 1 });
    expect(await forget({ tenant: 'acme' })).toEqual({ traffic: 0, requests: 0 });
    expect([await listed(null), await counted()]).toEqual([['a3', 'y1'], 1]);
    // Sums of all name nobody.
    expect(await counted({ tenant: null })).toBe(5);
  });

  it('loses and doubles nothing, wherever it is killed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 12 }),
        fc.array(fc.constantFrom('a', 'b', 'many', 'keep', 'ring', 'write', 'show', 'away', 'late', 'hour'), {
          minLength: 1,
          maxLength: 20,
        }),
        async (kills, events) => {
          disk = gathererDisk();
          await openD1();
          now = AT;
          // After so many steps each.
          let left = [...kills];
          let fails = '';
          step = (what) => {
            if (what === fails) {
              fails = '';
              throw new Error(`${what}: D1 is away`);
            }
            if (left.length === 0) return;
            left[0] = (left[0] ?? 0) - 1;
            if (left[0] >= 0) return;
            left = left.slice(1);
            throw new Killed();
          };
          live();
          let texts = 0;
          const numbers = { a: 0, b: 0, many: 0 };
          const untilDone = async (work: () => Promise<unknown>) => {
            for (;;) {
              try {
                return await work();
              } catch (error) {
                if (error instanceof Killed) live();
              }
            }
          };
          for (const event of events) {
            if (event === 'away') fails = 'before the write to D1';
            else if (event === 'late') fails = 'after the write to D1';
            else if (event === 'hour') now += 3_000_000;
            else if (event === 'keep') {
              const id = `p${(texts += 1)}`;
              await untilDone(() => keep([prompt(id)]));
            } else if (event === 'ring') await untilDone(ring);
            else if (event === 'write') await untilDone(() => post({ call: 'write' }));
            else if (event === 'show') await untilDone(() => post({ call: 'show', tenant: 'acme' }));
            else {
              numbers[event] += 1;
              const number = numbers[event];
              // An isolate repeats it until it is acknowledged.
              const noted = request({ id: `${event}${number}`, name: event, at: AT });
              const others = Array.from({ length: event === 'many' ? 2 * FULL_WRITE_ROWS : 0 }, (_, i) =>
                row({ tenant: 'other', name: `n${i}` }),
              );
              const usage = [row({ keyId: `key_${event}` }), ...others];
              await untilDone(() => send(event, number, usage, [noted]));
            }
          }
          step = () => undefined;
          live();
          // As the next batch does, or Cloudflare, which repeats an alarm that has failed.
          for (let times = 0; times < 3; times += 1) await gatherer.alarm();
          await post({ call: 'show', tenant: 'acme' });
          const sent = numbers.a + numbers.b + numbers.many;
          const requests = async (tenant: string) => {
            const of = { by: 'tenant' as const, tenant, from: 0, to: HOUR + 99, place: null };
            return (await ledger.sum(of)).sums[0]?.requests ?? 0;
          };
          expect(await requests('acme')).toBe(sent);
          for (let text = 1; text <= texts; text += 1) expect(await kept(`p${text}`)).toBe(true);
          const list = await listed('acme');
          expect([list.length, new Set(list).size]).toEqual([sent, sent]);
          for (const step of [60, 3_600])
            for (const tenant of [null, 'acme']) expect(await counted({ step, tenant })).toBe(sent);
          now = Math.max(now, HOUR_WRITTEN);
          await gatherer.alarm();
          now = AT + 30 * 3_600_000;
          expect(await counted({ step: 3_600 })).toBe(sent);
          expect(await requests('other')).toBe(2 * FULL_WRITE_ROWS * numbers.many);
          expect(['batches', 'sums', 'prompts', 'writing'].map(rowsIn)).toEqual([0, 0, 0, 0]);
        },
      ),
      { numRuns: 150 },
    );
  });
});
