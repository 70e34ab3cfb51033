import { beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { openDatabase } from '../platform/database.ts';
import type { UsageLedger, UsageRow } from '../../../worker/metering/ports.ts';

/** 2026-03-31T23:59:30Z: half a minute before a day and a month end. */
const START = Date.UTC(2026, 2, 31, 23, 59, 30);
const HOUR = Math.floor(START / 3_600_000);

const usageRow = (more: Partial<UsageRow> = {}): UsageRow => ({
  hour: HOUR,
  tenant: 'default',
  keyId: 'key_1',
  name: 'notes',
  version: 1,
  base: 'tiny',
  requests: 1,
  errors: 0,
  promptTokens: 10,
  completionTokens: 5,
  ...more,
});

const make = async () => createD1Usage(await openDatabase(), 86_400_000);

describe('UsageLedger', () => {
  let ledger: UsageLedger;
  const sum = (by: Parameters<UsageLedger['sum']>[0]['by'], more: object = {}) =>
    ledger.sum({ by, tenant: null, from: HOUR - 100, to: HOUR + 100, limit: 100, ...more });
  beforeEach(async () => {
    ledger = await make();
  });

  it('sums rows with the same key', async () => {
    await ledger.add({ id: 'a', at: START, rows: [usageRow(), usageRow({ version: 2, errors: 1 })] });
    await ledger.add({ id: 'b', at: START, rows: [usageRow({ requests: 3, promptTokens: 100 })] });
    expect(await sum('name')).toEqual([
      { group: 'notes', requests: 5, errors: 1, promptTokens: 120, completionTokens: 15, lastHour: HOUR },
    ]);
    expect((await sum('version')).map(({ group, requests }) => [group, requests])).toEqual([
      ['notes@1', 4],
      ['notes@2', 1],
    ]);
  });

  it('adds a batch once', async () => {
    for (let i = 0; i < 3; i += 1) await ledger.add({ id: 'a', at: START + i, rows: [usageRow()] });
    expect((await sum('key')).map(({ requests }) => requests)).toEqual([1]);
  });

  it('groups, most tokens first, and times chronologically', async () => {
    const rows = [
      usageRow({ hour: HOUR + 1, keyId: 'key_2', tenant: 'other', name: 'base', version: 0 }),
      usageRow({ hour: HOUR, completionTokens: 50 }),
      usageRow({ hour: HOUR - 1, name: "o'neill;--", completionTokens: 0 }),
    ];
    await ledger.add({ id: 'a', at: START, rows });
    const groups = async (by: Parameters<typeof sum>[0], more?: object) =>
      (await sum(by, more)).map(({ group }) => group);
    expect(await groups('key')).toEqual(['key_1', 'key_2']);
    expect(await groups('tenant')).toEqual(['default', 'other']);
    expect(await groups('name')).toEqual(['notes', 'base', "o'neill;--"]);
    expect(await groups('version')).toEqual(['notes@1', 'base', "o'neill;--@1"]);
    expect(await groups('day')).toEqual(['2026-03-31', '2026-04-01']);
    expect(await groups('hour')).toEqual(['2026-03-31T22', '2026-03-31T23', '2026-04-01T00']);
    expect(await groups('key', { tenant: 'other' })).toEqual(['key_2']);
    expect(await groups('hour', { from: HOUR, to: HOUR + 1 })).toEqual(['2026-03-31T23']);
    expect(await groups('hour', { limit: 2 })).toHaveLength(2);
    expect(await groups('name', { tenant: 'nobody' })).toEqual([]);
  });

  it('has of all tenants what it has of each, whatever hours are asked for', async () => {
    const tenant = fc.constantFrom('a', 'b', 'c');
    const used = fc.record({
      tenant,
      hour: fc.integer({ min: HOUR - 60, max: HOUR + 60 }),
      keyId: fc.constantFrom('key_1', 'key_2'),
      name: fc.constantFrom('base', 'large', 'notes'),
      version: fc.constantFrom(0, 1),
      base: fc.constantFrom('base', 'large', 'tiny'),
      requests: fc.integer({ min: 1, max: 9 }),
      errors: fc.integer({ min: 0, max: 1 }),
      promptTokens: fc.integer({ min: 0, max: 1_000 }),
      completionTokens: fc.integer({ min: 0, max: 1_000 }),
    });
    const batches = fc.array(fc.array(used, { maxLength: 20 }), { minLength: 1, maxLength: 4 });
    const window = fc.tuple(fc.integer({ min: HOUR - 70, max: HOUR + 70 }), fc.integer({ min: 1, max: 140 }));
    const prices = {
      currency: 'EUR',
      prompt: 1,
      completion: 2,
      bases: { large: { prompt: 5, completion: 7 } },
    };
    await fc.assert(
      fc.asyncProperty(batches, window, async (added, [from, hours]) => {
        const usage = await make();
        for (const [i, rows] of added.entries()) await usage.add({ id: String(i), at: START, rows });
        const of = { from, to: from + hours, limit: 1_000 };
        const sums = { requests: 0, errors: 0, promptTokens: 0, completionTokens: 0 };
        const columns = Object.keys(sums) as (keyof typeof sums)[];
        let cost = 0;
        const all = await usage.sum({ by: 'tenant', tenant: null, ...of });
        const costs = await usage.costs({ by: 'tenant', tenant: null, ...of, prices });
        for (const one of ['a', 'b', 'c']) {
          const [own] = await usage.sum({ by: 'tenant', tenant: one, ...of });
          expect(all.find(({ group }) => group === one)).toEqual(own);
          const ownCosts = await usage.costs({ by: 'tenant', tenant: one, ...of, prices });
          expect(costs.get(one)).toEqual(
            ownCosts.get(one) === undefined ? undefined : expect.closeTo(ownCosts.get(one)!, 9),
          );
          cost += ownCosts.get(one) ?? 0;
          for (const column of columns) sums[column] += own?.[column] ?? 0;
        }
        const days = await usage.sum({ by: 'day', tenant: null, ...of });
        for (const column of columns)
          expect(days.reduce((sum, day) => sum + day[column], 0)).toBe(sums[column]);
        const dayCosts = await usage.costs({ by: 'day', tenant: null, ...of, prices });
        expect([...dayCosts.values()].reduce((sum, one) => sum + one, 0)).toBeCloseTo(cost, 9);
        const hourly = await usage.sum({ by: 'hour', tenant: null, ...of });
        expect([...new Set(hourly.map(({ group }) => group.slice(0, 10)))].sort()).toEqual(
          days.map(({ group }) => group),
        );
      }),
      { numRuns: 60 },
    );
  });

  it('returns the same groups’ costs', async () => {
    const rows = [
      usageRow({ promptTokens: 1_000_000, completionTokens: 500_000 }),
      usageRow({ version: 2, base: 'large', promptTokens: 1_000_000, completionTokens: 0 }),
      usageRow({ tenant: 'you', keyId: 'key_2', promptTokens: 4, completionTokens: 0 }),
    ];
    await ledger.add({ id: 'a', at: START, rows });
    const prices = {
      currency: 'EUR',
      prompt: 1,
      completion: 4,
      bases: { large: { prompt: 10, completion: 0 } },
    };
    const costs = async (by: Parameters<UsageLedger['sum']>[0]['by'], tenant: string | null = null) =>
      Object.fromEntries(
        await ledger.costs({ by, tenant, from: HOUR - 100, to: HOUR + 100, limit: 100, prices }),
      );
    expect(await costs('name')).toEqual({ notes: 13.000004 });
    expect(await costs('version', 'default')).toEqual({ 'notes@1': 3, 'notes@2': 10 });
    expect(await costs('key', 'default')).toEqual({ key_1: 13 });
    expect(await costs('tenant')).toEqual({ default: 13, you: 0.000004 });
    expect(Object.keys(await costs('hour'))).toEqual((await sum('hour')).map(({ group }) => group));
  });

  it('returns each group’s last hour within the range', async () => {
    const rows = [usageRow({ hour: HOUR + 2 }), usageRow({ hour: HOUR }), usageRow({ keyId: 'key_2' })];
    await ledger.add({ id: 'a', at: START, rows });
    const last = async (more?: object) =>
      Object.fromEntries((await sum('key', more)).map(({ group, lastHour }) => [group, lastHour]));
    expect(await last()).toEqual({ key_1: HOUR + 2, key_2: HOUR });
    expect(await last({ to: HOUR + 2 })).toEqual({ key_1: HOUR, key_2: HOUR });
  });

  it('accepts hundreds of rows at once', async () => {
    const rows = Array.from({ length: 500 }, (_, i) => usageRow({ keyId: `key_${i}` }));
    await ledger.add({ id: 'a', at: START, rows });
    expect((await sum('tenant'))[0]).toMatchObject({ requests: 500, promptTokens: 5_000 });
  });
});
