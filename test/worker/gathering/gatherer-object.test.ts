import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  FULL_WRITE_ROWS,
  GATHERER_QUIET_MS,
  GATHERER_RETRY_MS,
  GATHERER_SPREAD_MS,
  GATHERER_WRITE_MS,
  SENDER_KEPT_MS,
} from '../../../worker/gathering/limits.ts';
import { Gatherer } from '../../../worker/gathering/gatherer-object.ts';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { USAGE_BATCH_MEMORY_MS } from '../../../worker/metering/limits.ts';
import type { UsageLedger, UsageRow } from '../../../worker/metering/ports.ts';
import { gathererDisk, type GathererDisk } from '../../fakes/gatherers-in-process.ts';
import { openDatabase } from '../platform/database.ts';

const AT = Date.UTC(2026, 4, 1, 12, 30);
const HOUR = Math.floor(AT / 3_600_000);

const row = (more: Partial<UsageRow> = {}): UsageRow => ({
  ...{ hour: HOUR, tenant: 'acme', keyId: 'key_1', name: 'notes', version: 1 },
  ...{ requests: 1, errors: 0, promptTokens: 10, completionTokens: 5 },
  ...more,
});

class Killed extends Error {}

let now: number;
let disk: GathererDisk;
let ledger: UsageLedger;
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
    },
  );
}

const post = (call: object) =>
  gatherer.fetch(new Request('https://object.invalid/', { method: 'POST', body: JSON.stringify(call) }));
const send = async (sender: string, number: number, usage: UsageRow[]) =>
  (await post({ call: 'add', sender, number, usage })).status;
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
  const [sum] = await ledger.sum({ by: 'tenant', tenant: null, from: 0, to: HOUR + 99, limit: 1 });
  return sum?.requests ?? 0;
};
const rowsIn = (table: string) => disk.sql.exec(`SELECT COUNT(*) AS n FROM ${table}`).toArray()[0]?.['n'];

beforeEach(async () => {
  now = AT;
  step = () => undefined;
  disk = gathererDisk();
  ledger = createD1Usage(await openDatabase(), USAGE_BATCH_MEMORY_MS);
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
    expect(ms).toBeGreaterThanOrEqual(GATHERER_QUIET_MS);
    expect(ms).toBeLessThanOrEqual(GATHERER_QUIET_MS + GATHERER_SPREAD_MS);
    expect(await total()).toBe(3);
    expect([rowsIn('batches'), rowsIn('senders')]).toEqual([0, 2]);
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

  it('stores what arrives at once as one row', async () => {
    const isolates = Array.from({ length: 40 }, (_, i) => `i${i}`);
    const sent = await Promise.all(isolates.map((isolate) => send(isolate, 1, [row()])));
    expect(new Set(sent)).toEqual(new Set([200]));
    expect(rowsIn('batches')).toBe(2);
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

  it('forgets an isolate that has sent nothing for a day', async () => {
    await send('old', 1, [row()]);
    await ring();
    now += SENDER_KEPT_MS + 1;
    await send('new', 1, [row()]);
    await ring();
    expect(rowsIn('senders')).toBe(1);
  });

  it('rejects what is no batch', async () => {
    await expect(send('i1', 1, [row({ requests: 0.5 })])).rejects.toThrow();
    await expect(send('i1', 0, [row()])).rejects.toThrow();
  });

  it('loses and doubles nothing, wherever it is killed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 12 }),
        fc.array(fc.constantFrom('a', 'b', 'ring', 'write', 'away', 'late'), { minLength: 1, maxLength: 20 }),
        async (kills, events) => {
          disk = gathererDisk();
          ledger = createD1Usage(await openDatabase(), USAGE_BATCH_MEMORY_MS);
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
          const numbers = { a: 0, b: 0 };
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
            else if (event === 'ring') await untilDone(ring);
            else if (event === 'write') await untilDone(() => post({ call: 'write' }));
            else {
              numbers[event] += 1;
              const number = numbers[event];
              // An isolate repeats it until it is acknowledged.
              await untilDone(() => send(event, number, [row({ keyId: `key_${event}` })]));
            }
          }
          step = () => undefined;
          live();
          // As the next batch does, or Cloudflare, which repeats an alarm that has failed.
          for (let times = 0; times < 3; times += 1) await gatherer.alarm();
          expect(await total()).toBe(numbers.a + numbers.b);
          expect([rowsIn('batches'), rowsIn('writing')]).toEqual([0, 0]);
        },
      ),
      { numRuns: 150 },
    );
  });
});
