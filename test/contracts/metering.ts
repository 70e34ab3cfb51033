import { beforeEach, describe, expect, it } from 'vitest';
import type { KeyLimits } from '../../protocol/admin-api/keys.ts';
import { BLOCK_MS } from '../../worker/metering/limits.ts';
import type { AskedCounter, QuotaDecision, Quotas, ReachedShare } from '../../worker/metering/ports.ts';

/** 2026-03-31T23:59:30Z: half a minute before a day and a month end. */
const START = Date.UTC(2026, 2, 31, 23, 59, 30);
const SECOND = 1_000;

/** @param make counters that nobody has used. */
export function quotasContract(backend: string, make: () => Promise<Quotas>): void {
  describe(`Quotas on ${backend}`, () => {
    let quotas: Quotas;
    let leases = 0;
    const admit = async (asked: readonly AskedCounter[], lease: string, at: number) => {
      const decisions = await quotas.admit('alice', { asked, lease, at });
      expect(decisions).toHaveLength(asked.length);
      return decisions;
    };
    const ask = async (limits: KeyLimits, at: number, counter = 'key_1') => {
      leases += 1;
      const lease = `lease-${leases}`;
      const [decision] = await admit([{ counter, limits }], lease, at);
      return { lease, ...(decision as QuotaDecision) };
    };
    const passes = async (limits: KeyLimits, at: number, counter?: string) =>
      (await ask(limits, at, counter)).refused === null;
    const settle = async (
      lease: string,
      tokens: number,
      at: number,
      again = false,
      limits: KeyLimits = {},
    ) => {
      const asked = [{ counter: 'key_1', limits }];
      return (await quotas.settle('alice', { asked, lease, tokens, again, at }))[0] ?? [];
    };
    const renew = (lease: string, at: number) => quotas.renew('alice', { counters: ['key_1'], lease, at });
    const spendOf = async (limits: KeyLimits, job: string, from: number, total: number, at: number) => {
      const asked = [{ counter: 'key_1', limits }];
      return (await quotas.spend('alice', { asked, job, from, total, at }))[0]?.least;
    };
    beforeEach(async () => {
      quotas = await make();
    });

    it('lets exactly as many pass as the limit says, however many ask at once', async () => {
      const limits = { requests_per_minute: 50 };
      const asked = await Promise.all(Array.from({ length: 200 }, () => ask(limits, START)));
      expect(asked.filter(({ refused }) => refused === null)).toHaveLength(50);
      expect(asked.filter(({ refused }) => refused?.reason === 'requests')).toHaveLength(150);
    });

    it('keeps counters apart', async () => {
      const limits = { requests_per_minute: 1 };
      expect(await passes(limits, START, 'key_1')).toBe(true);
      expect(await passes(limits, START, 'key_1')).toBe(false);
      expect(await passes(limits, START, 'key_2')).toBe(true);
    });

    it('says what is left and when it comes back', async () => {
      const limits = { requests_per_minute: 2, tokens_per_minute: 100 };
      const first = await ask(limits, START + 200);
      expect(first).toMatchObject({
        refused: null,
        requests: { limit: 2, remaining: 1, resetMs: 60_800 },
        tokens: { limit: 100, remaining: 100, resetMs: 0 },
      });
      await settle(first.lease, 30, START + 5 * SECOND);
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
      const limits = { requests_per_minute: 4 };
      const passed: number[] = [];
      for (let at = START; at < START + 400 * SECOND; at += 2_100)
        if (await passes(limits, at)) passed.push(at);
      for (const from of passed)
        expect(passed.filter((at) => at >= from && at < from + 60 * SECOND).length).toBeLessThanOrEqual(4);
      expect(passed.length).toBeGreaterThan(24);
    });

    it('refuses once the tokens of a minute are used, and no sooner', async () => {
      const limits = { tokens_per_minute: 100 };
      const first = await ask(limits, START);
      await settle(first.lease, 99, START);
      const second = await ask(limits, START);
      expect(second.refused).toBeNull();
      await settle(second.lease, 500, START + SECOND);
      expect((await ask(limits, START + SECOND)).refused).toEqual({
        reason: 'tokens',
        limit: 100,
        retryAfterMs: 61_000,
      });
    });

    it('counts the tokens of a lease once', async () => {
      const limits = { tokens_per_minute: 100 };
      const { lease } = await ask(limits, START);
      for (const again of [false, true, true]) await settle(lease, 40, START, again);
      expect((await ask(limits, START)).tokens).toMatchObject({ remaining: 60 });
    });

    it('counts the tokens of a lease that it has forgotten, and holds its place once it is renewed', async () => {
      const limits = { tokens_per_minute: 100, concurrent: 1 };
      await settle('forgotten', 40, START);
      // It may have been counted the first time.
      await settle('forgotten too', 40, START, true);
      await renew('runs', START);
      expect(await ask(limits, START)).toMatchObject({
        refused: { reason: 'concurrent' },
        tokens: { remaining: 60 },
      });
      await settle('runs', 10, START + SECOND);
      expect(await ask(limits, START + SECOND)).toMatchObject({ refused: null, tokens: { remaining: 50 } });
    });

    it('does not count a lease that is asked for twice', async () => {
      const limits = { requests_per_minute: 5, concurrent: 1 };
      const asked = [{ counter: 'key_1', limits }];
      await admit(asked, 'same', START);
      expect(await admit(asked, 'same', START)).toMatchObject([
        { refused: null, requests: { remaining: 4 } },
      ]);
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
      await settle(first.lease, 0, START);
      expect(await passes(limits, START)).toBe(true);
      await renew(second.lease, START + 45 * SECOND);
      // The third one's isolate has died; the second's is alive.
      expect(await passes(limits, START + 59_999)).toBe(false);
      expect(await passes(limits, START + 60 * SECOND)).toBe(true);
      expect(await passes(limits, START + 60 * SECOND)).toBe(false);
      // What comes late is counted all the same.
      await settle(second.lease, 7, START + 200 * SECOND);
      const both = { tokens_per_minute: 10 };
      expect((await ask(both, START + 200 * SECOND)).tokens).toMatchObject({ remaining: 3 });
    });

    it('renews a budget with the day and the month', async () => {
      const limits = { tokens_per_day: 100, tokens_per_month: 150 };
      const spend = async (tokens: number, at: number) => {
        const { lease, refused } = await ask(limits, at);
        expect(refused).toBeNull();
        await settle(lease, tokens, at);
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

    it('counts the tokens of a job once, against the budgets of day and month alone', async () => {
      const limits = { tokens_per_day: 100, tokens_per_month: 150, tokens_per_minute: 10 };
      const spend = (total: number, from = 0, at = START, job = 'ftjob-1') =>
        spendOf(limits, job, from, total, at);
      expect(await spendOf({}, 'a', 0, 0, START)).toBeNull();
      const day = { reason: 'day', limit: 100, renewedInMs: 30_000 };
      expect(await spend(0)).toEqual({ ...day, left: 100 });
      for (let i = 0; i < 2; i += 1) expect(await spend(30)).toEqual({ ...day, left: 70 });
      expect(await spend(40, 30)).toEqual({ ...day, left: 60 });
      // The caller has not heard that they are counted; or knows of more than the counter.
      expect(await spend(40, 30)).toEqual({ ...day, left: 60 });
      expect(await spend(15, 10, START, 'ftjob-2')).toEqual({ ...day, left: 55 });
      // It begins anew, and is counted once it has come further.
      expect(await spend(5, 40)).toEqual({ ...day, left: 55 });
      expect(await ask(limits, START)).toMatchObject({ refused: null, tokens: { remaining: 10 } });
      expect(await spend(500, 40)).toMatchObject({ reason: 'month', limit: 150, left: 0 });
      expect((await ask(limits, START)).refused).toMatchObject({ reason: 'month' });
      const april = START + 30 * SECOND;
      expect(await spend(510, 500, april)).toMatchObject({ reason: 'day', left: 90 });
      // Long afterwards only the caller knows.
      expect(await spend(520, 510, april + 3 * 86_400 * SECOND)).toMatchObject({ reason: 'day', left: 90 });
      expect(await spend(520, 510, april + 3 * 86_400 * SECOND)).toMatchObject({ reason: 'day', left: 90 });
    });

    it('counts a request in all counters that are asked, or in none', async () => {
      const both = (key: KeyLimits, tenant: KeyLimits, lease: string) =>
        admit(
          [
            { counter: 'key_1', limits: key },
            { counter: 'tenant:alice', limits: tenant },
          ],
          lease,
          START,
        );
      const limits = { requests_per_minute: 9, concurrent: 9 };
      expect(await both(limits, { concurrent: 1 }, 'a')).toMatchObject([
        { refused: null, requests: { remaining: 8 } },
        { refused: null, requests: null },
      ]);
      for (const lease of ['b', 'c'])
        expect(await both(limits, { concurrent: 1 }, lease)).toMatchObject([
          { refused: null, requests: { remaining: 8 } },
          { refused: { reason: 'concurrent' } },
        ]);
      const ended = ['key_1', 'tenant:alice'].map((counter) => ({ counter, limits }));
      await quotas.settle('alice', { asked: ended, lease: 'a', tokens: 30, again: false, at: START });
      // Places are free again in both, and both have its tokens.
      expect(
        await both({ concurrent: 1, tokens_per_minute: 90 }, { tokens_per_minute: 40 }, 'd'),
      ).toMatchObject([
        { refused: null, tokens: { remaining: 60 } },
        { refused: null, tokens: { remaining: 10 } },
      ]);
      // Of another tenant.
      const asked = [{ counter: 'key_1', limits: { tokens_per_minute: 90 } }];
      expect(await quotas.admit('bob', { asked, lease: 'e', at: START })).toMatchObject([
        { tokens: { remaining: 90 } },
      ]);
    });

    it('gives several requests at once, a tenth of what is left, and the last ones one by one', async () => {
      const asked = [
        { counter: 'key_1', limits: { requests_per_minute: 1_000 } },
        { counter: 'tenant:alice', limits: { requests_per_minute: 800 } },
      ];
      const takeAt = async (at: number) => (await quotas.take('alice', { asked, count: 10, at })).granted;
      const first = await quotas.take('alice', { asked, count: 10, at: START });
      expect(first).toMatchObject({
        granted: 10,
        decisions: [{ requests: { remaining: 990 } }, { requests: { remaining: 790 } }],
      });
      const granted: number[] = [first.granted];
      while (granted.at(-1) !== 0) granted.push(await takeAt(START));
      expect(granted.reduce((sum, one) => sum + one, 0)).toBe(800);
      expect(granted.filter((one) => one === 10)).toHaveLength(71);
      expect(granted.slice(-10)).toEqual([...Array<number>(9).fill(1), 0]);
      const { decisions } = await quotas.take('alice', { asked, count: 10, at: START });
      expect(decisions).toMatchObject([{ refused: null }, { refused: { reason: 'requests', limit: 800 } }]);
      // Those of blocks may have begun a second later, and count until that is 60 s ago.
      expect(await takeAt(START + 61 * SECOND)).toBeLessThan(10);
      expect(await takeAt(START + 62 * SECOND)).toBe(10);
    });

    it('never lets more than the limit begin in any 60 s, in blocks and one by one', async () => {
      const limits = { requests_per_minute: 610 };
      const begun: number[] = [];
      for (let at = START; at < START + 75 * SECOND; at += 700) {
        const { granted } = await quotas.take('alice', {
          asked: [{ counter: 'key_1', limits }],
          count: 10,
          at,
        });
        // As late as possible.
        for (let i = 0; i < granted; i += 1) begun.push(granted === 1 ? at : at + BLOCK_MS - 1);
        for (let i = 0; i < 4; i += 1) if (await passes(limits, at)) begun.push(at);
      }
      begun.sort((a, b) => a - b);
      let oldest = 0;
      for (const [place, at] of begun.entries()) {
        while ((begun[oldest] ?? 0) <= at - 60 * SECOND) oldest += 1;
        expect(place - oldest + 1).toBeLessThanOrEqual(610);
      }
      expect(begun.length).toBeGreaterThan(610);
    });

    it('counts the tokens of a job in all counters that are asked', async () => {
      const asked = [
        { counter: 'key_1', limits: { tokens_per_day: 100 } },
        { counter: 'tenant:alice', limits: { tokens_per_day: 50 } },
        { counter: 'key_2', limits: { requests_per_minute: 5 } },
      ];
      const job = { job: 'ftjob-1', from: 0, total: 20, at: START };
      expect(await quotas.spend('alice', { asked, ...job })).toMatchObject([
        { least: { left: 80 }, reached: [] },
        { least: { left: 30 }, reached: [] },
        { least: null, reached: [] },
      ]);
    });

    describe('shares of budgets', () => {
      const limits = { tokens_per_day: 100, tokens_per_month: 1_000 };
      const DAY = 86_400 * SECOND;
      let used = 0;
      /** A request of so many tokens. @returns what its end has reached, as `day 80`. */
      const use = async (tokens: number, at: number, of: KeyLimits = limits) =>
        settle(`use-${(used += 1)}`, tokens, at, false, of);
      const names = (shares: readonly ReachedShare[]) =>
        shares.map(({ period, percent }) => `${period} ${percent}`);
      const tell = (shares: readonly ReachedShare[]) =>
        quotas.told(
          'alice',
          shares.map(({ period, begun, limit, percent }) => ({
            counter: 'key_1',
            ...{ period, begun, limit, percent },
          })),
        );

      it('are reported once they are reached, until they were told, and again in the next period', async () => {
        expect(await use(79, START)).toEqual([]);
        const nearly = await use(1, START + 1);
        expect(nearly).toEqual([
          {
            period: 'day',
            begun: START,
            limit: 100,
            percent: 80,
            used: 80,
            renewedAt: Date.UTC(2026, 3, 1),
          },
        ]);
        // Whoever got it may have died.
        expect(names(await use(1, START + 2))).toEqual(['day 80']);
        await tell(nearly);
        expect(await use(1, START + 3)).toEqual([]);
        const all = await use(900, START + 4);
        expect(names(all)).toEqual(['day 100', 'month 80']);
        expect(all.map(({ used: tokens }) => tokens)).toEqual([982, 982]);
        // Nobody may ever end a request again.
        expect((await ask(limits, START + 5)).reached).toEqual(all);
        await tell(all);
        expect((await ask(limits, START + 6)).reached).toEqual([]);
        expect(names(await use(100, START + DAY))).toEqual(['day 80', 'day 100']);
      });

      it('are of a limit: of another one they are told anew', async () => {
        await tell(await use(90, START));
        expect(names(await use(1, START, { tokens_per_day: 200 }))).toEqual([]);
        expect(names(await use(1, START, { tokens_per_day: 90 }))).toEqual(['day 80', 'day 100']);
        expect(names(await use(0, START, { requests_per_minute: 5, tokens_per_minute: 1 }))).toEqual([]);
      });

      it('are told again after a reset, and an answer about what came before it changes nothing', async () => {
        const before = await use(100, START);
        await quotas.reset('alice', 'key_1');
        expect(names(await use(100, START + 1))).toEqual(['day 80', 'day 100']);
        await tell(before);
        expect(names(await use(0, START + 2))).toEqual(['day 80', 'day 100']);
      });

      it('are those of fine-tuning jobs too, and of each counter', async () => {
        const asked = [
          { counter: 'key_1', limits: { tokens_per_day: 100 } },
          { counter: 'tenant:alice', limits: { tokens_per_month: 400 } },
        ];
        const spent = await quotas.spend('alice', { asked, job: 'j', from: 0, total: 330, at: START });
        expect(spent.map(({ reached }) => names(reached))).toEqual([['day 80', 'day 100'], ['month 80']]);
        await tell(spent[0]?.reached ?? []);
        const again = await quotas.spend('alice', { asked, job: 'j', from: 0, total: 330, at: START });
        expect(again.map(({ reached }) => names(reached))).toEqual([[], ['month 80']]);
      });
    });

    it('forgets what was used when it is reset', async () => {
      const limits = { tokens_per_month: 5, concurrent: 1 };
      const first = await ask(limits, START);
      await settle(first.lease, 9, START);
      expect((await ask(limits, START)).refused).toMatchObject({ reason: 'month' });
      await quotas.reset('alice', 'key_2');
      expect(await passes(limits, START)).toBe(false);
      await quotas.reset('alice', 'key_1');
      expect(await passes(limits, START)).toBe(true);
      expect(await passes(limits, START, 'key_2')).toBe(true);
      await quotas.forget('alice', { but: [] });
      for (const counter of ['key_1', 'key_2']) expect(await passes(limits, START, counter)).toBe(true);
    });

    it('does not go back in time with a clock that is behind', async () => {
      const limits = { requests_per_minute: 1 };
      expect(await passes(limits, START + 10 * SECOND)).toBe(true);
      expect(await passes(limits, START)).toBe(false);
      expect(await passes(limits, START + 69 * SECOND)).toBe(false);
      expect(await passes(limits, START + 71 * SECOND)).toBe(true);
    });
  });
}
