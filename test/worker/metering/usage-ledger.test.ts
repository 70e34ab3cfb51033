import { beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { openDatabase } from '../platform/database.ts';
import { USAGE_GROUPS, type UsageGroup } from '../../../protocol/admin-api/tenants.ts';
import type { UsageLedger, UsagePlace, UsageRow, UsageSum } from '../../../worker/metering/ports.ts';

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

type Sum = Parameters<UsageLedger['sum']>[0];

/** All pages; groups of several bases and pages are added up. */
async function sumAll(ledger: UsageLedger, of: Omit<Sum, 'place'>): Promise<Omit<UsageSum, 'base'>[]> {
  const groups = new Map<string, Omit<UsageSum, 'base'>>();
  let place: UsagePlace | null = null;
  do {
    const page: Awaited<ReturnType<UsageLedger['sum']>> = await ledger.sum({ ...of, place });
    for (const { base: _, ...sum } of page.sums) groups.set(sum.group, added(groups.get(sum.group), sum));
    place = page.next;
  } while (place !== null);
  return [...groups.values()].sort((a, b) => (a.group < b.group ? -1 : 1));
}

const added = (a: Omit<UsageSum, 'base'> | undefined, b: Omit<UsageSum, 'base'>): Omit<UsageSum, 'base'> =>
  a === undefined
    ? b
    : {
        group: a.group,
        requests: a.requests + b.requests,
        errors: a.errors + b.errors,
        promptTokens: a.promptTokens + b.promptTokens,
        completionTokens: a.completionTokens + b.completionTokens,
        lastHour: Math.max(a.lastHour, b.lastHour),
      };

const time = (hour: number, digits: number): string =>
  new Date(hour * 3_600_000).toISOString().slice(0, digits);
const GROUP_OF: Record<UsageGroup, (row: UsageRow) => string> = {
  key: (row) => row.keyId,
  tenant: (row) => row.tenant,
  name: (row) => row.name,
  version: (row) => (row.version === 0 ? row.name : `${row.name}@${row.version}`),
  day: (row) => time(row.hour, 10),
  hour: (row) => time(row.hour, 13),
};
/** The same sums, of the rows themselves. */
function sumRows(rows: readonly UsageRow[], { by, tenant, from, to }: Omit<Sum, 'place'>) {
  const groups = new Map<string, Omit<UsageSum, 'base'>>();
  for (const row of rows) {
    if ((tenant !== null && row.tenant !== tenant) || row.hour < from || row.hour >= to) continue;
    const { requests, errors, promptTokens, completionTokens, hour: lastHour } = row;
    const group = GROUP_OF[by](row);
    const sum = { group, requests, errors, promptTokens, completionTokens, lastHour };
    groups.set(group, added(groups.get(group), sum));
  }
  return [...groups.values()].sort((a, b) => (a.group < b.group ? -1 : 1));
}

describe('UsageLedger', () => {
  let ledger: UsageLedger;
  const sum = (by: UsageGroup, more: object = {}) =>
    sumAll(ledger, { by, tenant: null, from: HOUR - 100, to: HOUR + 100, ...more });
  beforeEach(async () => {
    ledger = createD1Usage(await openDatabase(), 86_400_000);
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

  it('groups by what is asked for', async () => {
    const rows = [
      usageRow({ hour: HOUR + 1, keyId: 'key_2', tenant: 'other', name: 'base', version: 0 }),
      usageRow({ hour: HOUR, completionTokens: 50 }),
      usageRow({ hour: HOUR - 1, name: "o'neill;--", completionTokens: 0 }),
    ];
    await ledger.add({ id: 'a', at: START, rows });
    const groups = async (by: UsageGroup, more?: object) => (await sum(by, more)).map(({ group }) => group);
    expect(await groups('key')).toEqual(['key_1', 'key_2']);
    expect(await groups('tenant')).toEqual(['default', 'other']);
    expect(await groups('name')).toEqual(['base', 'notes', "o'neill;--"]);
    expect(await groups('version')).toEqual(['base', 'notes@1', "o'neill;--@1"]);
    expect(await groups('day')).toEqual(['2026-03-31', '2026-04-01']);
    expect(await groups('hour')).toEqual(['2026-03-31T22', '2026-03-31T23', '2026-04-01T00']);
    expect(await groups('key', { tenant: 'other' })).toEqual(['key_2']);
    expect(await groups('hour', { from: HOUR, to: HOUR + 1 })).toEqual(['2026-03-31T23']);
    expect(await groups('name', { tenant: 'nobody' })).toEqual([]);
  });

  it('sums what was added, whatever hours are asked for and however small its pages are', async () => {
    const used = fc.record({
      tenant: fc.constantFrom('a', 'b', 'c', 'd'),
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
    const small = fc.integer({ min: 1, max: 12 });
    const size = fc.record({ hours: small, days: small, tenants: fc.integer({ min: 2, max: 5 }) });
    await fc.assert(
      fc.asyncProperty(batches, window, size, async (added, [from, hours], pages) => {
        const usage = createD1Usage(await openDatabase(), 86_400_000, pages);
        for (const [i, rows] of added.entries()) await usage.add({ id: String(i), at: START, rows });
        for (const by of USAGE_GROUPS)
          for (const tenant of [null, 'b']) {
            const of = { by, tenant, from, to: from + hours };
            expect(await sumAll(usage, of)).toEqual(sumRows(added.flat(), of));
          }
      }),
      { numRuns: 60 },
    );
  });

  it('reads no more than a page at once', async () => {
    const size = { hours: 10, days: 3, tenants: 4 };
    const usage = createD1Usage(await openDatabase(), 86_400_000, size);
    const rows = Array.from({ length: 30 }, (_, i) =>
      usageRow({ tenant: `t${i % 10}`, keyId: `key_${i}`, hour: HOUR + 24 * (i % 3) }),
    );
    await usage.add({ id: 'a', at: START, rows });
    const pages = async (by: UsageGroup, from: number): Promise<number[]> => {
      const read: number[] = [];
      for (let place: UsagePlace | null = null; ;) {
        const page: Awaited<ReturnType<UsageLedger['sum']>> = await usage.sum({
          ...{ by, tenant: null, from, to: HOUR + 100, place },
        });
        read.push(page.sums.reduce((sum, { requests }) => sum + requests, 0));
        place = page.next;
        if (place === null) return read;
      }
    };
    expect(await pages('key', HOUR - 100)).toEqual([10, 10, 10, 0]);
    // Nobody used anything then: four tenants each, the first of which ended the page before.
    expect(await pages('key', HOUR + 90)).toEqual([0, 0, 0, 0]);
    expect((await pages('tenant', HOUR - 100)).every((requests) => requests <= 3)).toBe(true);
  });

  it('returns what one name used, and since when', async () => {
    const rows = [
      usageRow({ hour: HOUR + 1, requests: 3 }),
      usageRow({ hour: HOUR - 2, version: 2 }),
      usageRow({ hour: HOUR - 3, name: 'base' }),
      usageRow({ tenant: 'other' }),
    ];
    await ledger.add({ id: 'a', at: START, rows });
    const of = { tenant: 'default', name: 'notes', from: HOUR - 50, to: HOUR + 2 };
    const counts = { requests: 4, promptTokens: 20, completionTokens: 10 };
    expect(await ledger.ofName(of)).toEqual({ since: HOUR - 2, ...counts });
    expect(await ledger.ofName({ ...of, to: HOUR - 2 })).toBeNull();
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
