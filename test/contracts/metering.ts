import { beforeEach, describe, expect, it } from 'vitest';
import type { KeyLimits, Quotas, UsageLedger, UsageRow } from '../../worker/metering/ports.ts';

/** 2026-03-31T23:59:30Z: half a minute before a day and a month end. */
const START = Date.UTC(2026, 2, 31, 23, 59, 30);
const SECOND = 1_000;

/** @param make counters that nobody has used. */
export function quotasContract(backend: string, make: () => Promise<Quotas>): void {
  describe(`Quotas on ${backend}`, () => {
    let quotas: Quotas;
    let leases = 0;
    const ask = async (limits: KeyLimits, at: number, counter = 'key_1') => {
      leases += 1;
      const lease = `lease-${leases}`;
      return { lease, ...(await quotas.admit(counter, { limits, lease, at })) };
    };
    const passes = async (limits: KeyLimits, at: number, counter?: string) =>
      (await ask(limits, at, counter)).refused === null;
    beforeEach(async () => {
      quotas = await make();
    });

    it('lets exactly as many pass as the limit says, however many ask at once', async () => {
      const limits = { requestsPerMinute: 50 };
      const asked = await Promise.all(Array.from({ length: 200 }, () => ask(limits, START)));
      expect(asked.filter(({ refused }) => refused === null)).toHaveLength(50);
      expect(asked.filter(({ refused }) => refused?.reason === 'requests')).toHaveLength(150);
    });

    it('keeps counters apart', async () => {
      const limits = { requestsPerMinute: 1 };
      expect(await passes(limits, START, 'key_1')).toBe(true);
      expect(await passes(limits, START, 'key_1')).toBe(false);
      expect(await passes(limits, START, 'key_2')).toBe(true);
    });

    it('says what is left and when it comes back', async () => {
      const limits = { requestsPerMinute: 2, tokensPerMinute: 100 };
      const first = await ask(limits, START + 200);
      expect(first).toMatchObject({
        refused: null,
        requests: { limit: 2, remaining: 1, resetMs: 60_800 },
        tokens: { limit: 100, remaining: 100, resetMs: 0 },
      });
      await quotas.settle('key_1', { lease: first.lease, tokens: 30, at: START + 5 * SECOND });
      expect(await ask(limits, START + 10 * SECOND)).toMatchObject({
        requests: { remaining: 0, resetMs: 61_000 },
        tokens: { remaining: 70, resetMs: 56_000 },
      });
      const refused = await ask(limits, START + 10 * SECOND);
      expect(refused.refused).toEqual({ reason: 'requests', limit: 2, retryAfterMs: 51_000 });
      expect(await passes(limits, START + 60_999)).toBe(false);
      expect(await passes(limits, START + 61_000)).toBe(true);
    });

    it('never lets more than the limit pass in any 60 s', async () => {
      const limits = { requestsPerMinute: 4 };
      const passed: number[] = [];
      for (let at = START; at < START + 400 * SECOND; at += 2_100)
        if (await passes(limits, at)) passed.push(at);
      for (const from of passed)
        expect(passed.filter((at) => at >= from && at < from + 60 * SECOND).length).toBeLessThanOrEqual(4);
      expect(passed.length).toBeGreaterThan(24);
    });

    it('refuses once the tokens of a minute are used, and no sooner', async () => {
      const limits = { tokensPerMinute: 100 };
      const first = await ask(limits, START);
      await quotas.settle('key_1', { lease: first.lease, tokens: 99, at: START });
      const second = await ask(limits, START);
      expect(second.refused).toBeNull();
      await quotas.settle('key_1', { lease: second.lease, tokens: 500, at: START + SECOND });
      expect((await ask(limits, START + SECOND)).refused).toEqual({
        reason: 'tokens',
        limit: 100,
        retryAfterMs: 61_000,
      });
    });

    it('counts the tokens of a lease once', async () => {
      const limits = { tokensPerMinute: 100 };
      const { lease } = await ask(limits, START);
      for (let i = 0; i < 3; i += 1) await quotas.settle('key_1', { lease, tokens: 40, at: START });
      await quotas.settle('key_1', { lease: 'another', tokens: 40, at: START });
      expect((await ask(limits, START)).tokens).toMatchObject({ remaining: 60 });
    });

    it('does not count a lease that is asked for twice', async () => {
      const limits = { requestsPerMinute: 5, concurrent: 1 };
      const again = { limits, lease: 'same', at: START };
      await quotas.admit('key_1', again);
      expect(await quotas.admit('key_1', again)).toMatchObject({ refused: null, requests: { remaining: 4 } });
    });

    it('frees a place when its request ends, or when nothing is heard of it for a minute', async () => {
      const limits = { concurrent: 2 };
      const first = await ask(limits, START);
      const second = await ask(limits, START);
      expect((await ask(limits, START)).refused).toEqual({
        reason: 'concurrent',
        limit: 2,
        retryAfterMs: 1_000,
      });
      await quotas.settle('key_1', { lease: first.lease, tokens: 0, at: START });
      expect(await passes(limits, START)).toBe(true);
      await quotas.renew('key_1', { lease: second.lease, at: START + 45 * SECOND });
      // The third one's isolate has died; the second's is alive.
      expect(await passes(limits, START + 59_999)).toBe(false);
      expect(await passes(limits, START + 60 * SECOND)).toBe(true);
      expect(await passes(limits, START + 60 * SECOND)).toBe(false);
      // What comes late is counted all the same.
      await quotas.settle('key_1', { lease: second.lease, tokens: 7, at: START + 200 * SECOND });
      const both = { tokensPerMinute: 10 };
      expect((await ask(both, START + 200 * SECOND)).tokens).toMatchObject({ remaining: 3 });
    });

    it('renews a budget with the day and the month', async () => {
      const limits = { tokensPerDay: 100, tokensPerMonth: 150 };
      const spend = async (tokens: number, at: number) => {
        const { lease, refused } = await ask(limits, at);
        expect(refused).toBeNull();
        await quotas.settle('key_1', { lease, tokens, at });
      };
      await spend(100, START);
      expect((await ask(limits, START)).refused).toEqual({ reason: 'day', limit: 100, retryAfterMs: 30_000 });
      // April: both are new.
      const april = START + 30 * SECOND;
      await spend(100, april);
      await spend(50, april + 86_400 * SECOND);
      const month = await ask(limits, april + 86_400 * SECOND);
      expect(month.refused).toEqual({ reason: 'month', limit: 150, retryAfterMs: 29 * 86_400 * SECOND });
    });

    it('takes an admission back, with its place and its request, and no other', async () => {
      const limits = { requestsPerMinute: 2, concurrent: 2 };
      const first = await ask(limits, START);
      const second = await ask(limits, START + 5 * SECOND);
      expect(await passes(limits, START + 5 * SECOND)).toBe(false);
      for (let i = 0; i < 3; i += 1)
        await quotas.undo('key_1', { lease: second.lease, at: START + 5 * SECOND });
      await quotas.undo('key_1', { lease: 'unknown', at: START });
      expect(await ask(limits, START + 5 * SECOND)).toMatchObject({
        refused: null,
        requests: { remaining: 0 },
      });
      await quotas.settle('key_1', { lease: first.lease, tokens: 5, at: START + 6 * SECOND });
      // What was taken back has no tokens.
      await quotas.settle('key_1', { lease: second.lease, tokens: 5, at: START + 6 * SECOND });
      expect(await ask({ tokensPerMinute: 9 }, START + 6 * SECOND)).toMatchObject({
        tokens: { remaining: 4 },
      });
    });

    it('forgets what was used when it is reset', async () => {
      const limits = { tokensPerMonth: 5, concurrent: 1 };
      const first = await ask(limits, START);
      await quotas.settle('key_1', { lease: first.lease, tokens: 9, at: START });
      expect((await ask(limits, START)).refused).toMatchObject({ reason: 'month' });
      await quotas.reset('key_1');
      expect(await passes(limits, START)).toBe(true);
    });

    it('does not go back in time with a clock that is behind', async () => {
      const limits = { requestsPerMinute: 1 };
      expect(await passes(limits, START + 10 * SECOND)).toBe(true);
      expect(await passes(limits, START)).toBe(false);
      expect(await passes(limits, START + 69 * SECOND)).toBe(false);
      expect(await passes(limits, START + 71 * SECOND)).toBe(true);
    });
  });
}

const HOUR = Math.floor(START / 3_600_000);

const usageRow = (more: Partial<UsageRow> = {}): UsageRow => ({
  hour: HOUR,
  tenant: 'default',
  keyId: 'key_1',
  name: 'notes',
  version: 1,
  requests: 1,
  errors: 0,
  promptTokens: 10,
  completionTokens: 5,
  ...more,
});

export function usageLedgerContract(backend: string, make: () => Promise<UsageLedger>): void {
  describe(`UsageLedger on ${backend}`, () => {
    let ledger: UsageLedger;
    const sum = (by: Parameters<UsageLedger['sum']>[0]['by'], more: object = {}) =>
      ledger.sum({ by, tenant: null, from: HOUR - 100, to: HOUR + 100, limit: 100, ...more });
    beforeEach(async () => {
      ledger = await make();
    });

    it('adds up what belongs together', async () => {
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

    it('groups, most tokens first, and times in their order', async () => {
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

    it('says what the same groups cost', async () => {
      const rows = [
        usageRow({ promptTokens: 1_000_000, completionTokens: 500_000 }),
        usageRow({ name: 'large', version: 0, promptTokens: 1_000_000, completionTokens: 0 }),
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
      expect(await costs('name')).toEqual({ notes: 3.000004, large: 10 });
      expect(await costs('key', 'default')).toEqual({ key_1: 13 });
      expect(await costs('tenant')).toEqual({ default: 13, you: 0.000004 });
      expect(Object.keys(await costs('hour'))).toEqual((await sum('hour')).map(({ group }) => group));
    });

    it('says when a group was counted last, of the hours that were asked for', async () => {
      const rows = [usageRow({ hour: HOUR + 2 }), usageRow({ hour: HOUR }), usageRow({ keyId: 'key_2' })];
      await ledger.add({ id: 'a', at: START, rows });
      const last = async (more?: object) =>
        Object.fromEntries((await sum('key', more)).map(({ group, lastHour }) => [group, lastHour]));
      expect(await last()).toEqual({ key_1: HOUR + 2, key_2: HOUR });
      expect(await last({ to: HOUR + 2 })).toEqual({ key_1: HOUR, key_2: HOUR });
    });

    it('takes hundreds of rows at once', async () => {
      const rows = Array.from({ length: 500 }, (_, i) => usageRow({ keyId: `key_${i}` }));
      await ledger.add({ id: 'a', at: START, rows });
      expect((await sum('tenant'))[0]).toMatchObject({ requests: 500, promptTokens: 5_000 });
    });
  });
}
