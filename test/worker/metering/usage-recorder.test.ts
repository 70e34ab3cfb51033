import { afterEach, beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest';
import type { UsageEvent, UsageLedger } from '../../../worker/metering/ports.ts';
import { createUsageRecorder } from '../../../worker/metering/meter.ts';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { openDatabase } from '../platform/database.ts';

const HOUR_MS = 3_600_000;
const AT = Date.UTC(2026, 4, 1, 12, 30);

let ledger: UsageLedger;
let add: MockInstance<UsageLedger['add']>;
let now: number;
/** Ends the current sleep. */
let wake: () => void;
let work: Promise<unknown>[];

const settleAll = async () => {
  for (let turn = 0; turn < 50; turn += 1) {
    wake();
    await Promise.resolve();
  }
};
const recorder = (more: { maxRows?: number; maxUnsentRows?: number } = {}) => {
  let ids = 0;
  let waiting: (() => void)[] = [];
  wake = () => {
    const due = waiting;
    waiting = [];
    for (const resolve of due) resolve();
  };
  const sink = createUsageRecorder({
    ledger,
    now: () => now,
    sleep: () => new Promise((resolve) => waiting.push(resolve)),
    newId: () => `batch-${(ids += 1)}`,
    flushMs: 2_000,
    maxRows: 100,
    maxUnsentRows: 1_000,
    tries: 3,
    ...more,
  });
  return (event: Partial<UsageEvent> = {}) =>
    sink.recordUsage(
      {
        keyId: 'key_1',
        tenant: 'default',
        name: 'notes',
        version: 1,
        promptTokens: 10,
        completionTokens: 5,
        status: 200,
        at: AT,
        requestId: 'r',
        ...event,
      },
      (promise) => work.push(promise),
    );
};
const total = async () => {
  const hour = Math.floor(AT / HOUR_MS);
  const [sum] = await ledger.sum({ by: 'tenant', tenant: null, from: hour - 5, to: hour + 5, limit: 10 });
  return sum ?? { requests: 0, errors: 0, promptTokens: 0, completionTokens: 0 };
};

beforeEach(async () => {
  ledger = createD1Usage(await openDatabase(), 86_400_000);
  add = vi.spyOn(ledger, 'add');
  now = AT;
  work = [];
  vi.spyOn(console, 'error').mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

describe('recording usage', () => {
  it('writes everything within the delay at once, one row per key, name, version and hour', async () => {
    const record = recorder();
    for (let i = 0; i < 20; i += 1) record();
    record({ status: 502 });
    record({ status: 499 });
    record({ version: 2 });
    record({ at: AT + HOUR_MS });
    expect(work).toHaveLength(1);
    await settleAll();
    expect(add).toHaveBeenCalledTimes(1);
    expect(add.mock.calls[0]?.[0].rows).toHaveLength(3);
    expect(await total()).toMatchObject({
      requests: 24,
      errors: 1,
      promptTokens: 240,
      completionTokens: 120,
    });
  });

  it('starts a new write for what arrives during one', async () => {
    const record = recorder();
    record();
    await settleAll();
    record();
    expect(work).toHaveLength(2);
    await settleAll();
    expect(await total()).toMatchObject({ requests: 2 });
  });

  it('resends a batch with its id, so that a lost response counts nothing twice', async () => {
    const record = recorder();
    const real = createD1Usage(await openDatabase(), 86_400_000);
    add.mockImplementation(async (batch) => {
      await real.add(batch);
      if (add.mock.calls.length === 1) throw new Error('the answer was lost');
    });
    record();
    await settleAll();
    expect(add.mock.calls.map(([{ id }]) => id)).toEqual(['batch-1', 'batch-1']);
    ledger = real;
    expect(await total()).toMatchObject({ requests: 1 });
  });

  it('keeps what the database rejects for the next write', async () => {
    const record = recorder();
    add.mockRejectedValueOnce(new Error('down'));
    add.mockRejectedValueOnce(new Error('down'));
    add.mockRejectedValueOnce(new Error('down'));
    record();
    await settleAll();
    expect(await total()).toMatchObject({ requests: 0 });
    expect(console.error).toHaveBeenCalledWith(expect.stringContaining('usage_not_written'));
    record();
    await settleAll();
    expect(await total()).toMatchObject({ requests: 2 });
  });

  it('drops the oldest if too much waits, and reports how much', async () => {
    const record = recorder({ maxRows: 2, maxUnsentRows: 4 });
    add.mockRejectedValue(new Error('down'));
    for (let i = 0; i < 9; i += 1) record({ name: `n${i}` });
    await settleAll();
    expect(console.error).toHaveBeenCalledWith(expect.stringContaining('"event":"usage_lost","requests":2'));
    add.mockRestore();
    record({ name: 'last' });
    await settleAll();
    const { requests } = await total();
    expect(requests).toBeGreaterThan(1);
    expect(requests).toBeLessThanOrEqual(5);
  });

  it('does not wait for a flush that was cut off with its request', async () => {
    const record = recorder();
    record();
    now += 29_999;
    record();
    expect(work).toHaveLength(1);
    now += 1;
    record();
    expect(work).toHaveLength(2);
    await settleAll();
    expect(await total()).toMatchObject({ requests: 3 });
  });
});
