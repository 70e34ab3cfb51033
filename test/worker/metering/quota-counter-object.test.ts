import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  QuotaCounter,
  type CounterStorage,
  createDoQuotas,
} from '../../../worker/metering/quota-counter-object.ts';
import {
  LEASE_MS,
  LEASE_RENEW_MS,
  QUOTA_WRITE_MS,
  RECENT_COUNTERS,
} from '../../../worker/metering/limits.ts';
import type { KeyLimits } from '../../../protocol/admin-api/keys.ts';
import type { QuotaDecision, Quotas, ReachedShare } from '../../../worker/metering/ports.ts';
import { WAIT_MS } from '../../setup/slow.ts';

const AT = Date.UTC(2026, 2, 31);
const limits = { tokens_per_month: 10 };

interface Rig {
  quotas: Quotas;
  admit: (limits: KeyLimits, lease: string, at?: number, counter?: string) => Promise<QuotaDecision>;
  settle: (lease: string, tokens: number, at?: number) => Promise<ReachedShare[]>;
  renew: (lease: string, at: number) => Promise<void>;
  disk: Map<string, unknown>;
  /** How often it was written to. */
  writes: () => number;
  /** A second passes. */
  second: () => Promise<void>;
  restart: () => void;
}

/** Storage of one object, and a way to restart it. */
function rig(stored?: unknown): Rig {
  const disk = new Map<string, unknown>(stored === undefined ? [] : [['recent', stored]]);
  let [writes, life] = [0, 0];
  const storage: CounterStorage = {
    get: async (key) => structuredClone(disk.get(key)),
    async put(key, value) {
      writes += 1;
      disk.set(key, structuredClone(value));
    },
    deleteAll: async () => disk.clear(),
  };
  let timers: (() => void)[] = [];
  const start = (): QuotaCounter => {
    life += 1;
    const begun = life;
    return new QuotaCounter({ storage }, undefined, {
      sleep: (ms) => {
        expect(ms).toBe(QUOTA_WRITE_MS);
        // Timers end with their object.
        return new Promise((resolve) => timers.push(() => (begun === life ? resolve() : undefined)));
      },
    });
  };
  let object = start();
  const namespace = {
    idFromName: (name: string) => name,
    get: () => ({ fetch: (url: string, init?: RequestInit) => object.fetch(new Request(url, init)) }),
  };
  const quotas = createDoQuotas({ namespace, timeoutMs: WAIT_MS });
  const counters = ['key_1'];
  return {
    quotas,
    async admit(limits, lease, at = AT, counter = 'key_1') {
      const decisions = await quotas.admit('alice', { asked: [{ counter, limits }], lease, at });
      return decisions[0] as QuotaDecision;
    },
    async settle(lease, tokens, at = AT) {
      const asked = [{ counter: 'key_1', limits }];
      return (await quotas.settle('alice', { asked, lease, tokens, again: false, at }))[0] ?? [];
    },
    renew: (lease, at) => quotas.renew('alice', { counters, lease, at }),
    disk,
    writes: () => writes,
    async second() {
      const due = timers;
      timers = [];
      for (const ring of due) ring();
      await new Promise((resolve) => setImmediate(resolve));
    },
    restart: () => void (object = start()),
  };
}

let logged: string[];
beforeEach(() => {
  logged = [];
  vi.spyOn(console, 'log').mockImplementation((line: string) => void logged.push(line));
  vi.spyOn(console, 'error').mockImplementation((line: string) => void logged.push(line));
});

const DAMAGED: [string, unknown][] = [
  ['nothing', null],
  ['a text', 'quota'],
  ['another form', { used: 9 }],
  ['a map of other values', new Map([['key_1', { used: 9 }]])],
  [
    'a field that is no number',
    new Map([['key_1', { at: 'now', seconds: [], leases: new Map(), day: {}, month: {} }]]),
  ],
];

describe('a counter', () => {
  it('keeps its usage across a restart', async () => {
    const { admit, settle, second, restart } = rig();
    await admit(limits, 'a');
    await settle('a', 20);
    await second();
    restart();
    const { refused } = await admit(limits, 'b');
    expect(refused?.reason).toBe('month');
    expect(logged).toEqual([]);
  });

  it('writes once a second, however many requests begin and end in it, and not at all without any', async () => {
    const { admit, settle, second, writes } = rig();
    for (let i = 0; i < 3; i += 1) {
      for (let lease = 0; lease < 50; lease += 1) {
        await admit(limits, `${lease}`);
        await settle(`${lease}`, 0);
      }
      expect(writes()).toBe(i);
      await second();
      expect(writes()).toBe(i + 1);
    }
    await second();
    expect(writes()).toBe(3);
  });

  it('forgets a second’s requests and tokens when it restarts, and nothing else', async () => {
    const { admit, settle, second, restart } = rig();
    const each = { requests_per_minute: 100, tokens_per_minute: 100 };
    const use = async (lease: string) => {
      await admit(each, lease);
      await settle(lease, 5);
    };
    for (const lease of ['a', 'b']) await use(lease);
    await admit(each, 'long');
    await second();
    for (const lease of ['c', 'd']) await use(lease);
    await admit(each, 'late');
    restart();
    // Both ran on: what they use is counted, of the one that was forgotten too.
    await settle('long', 7);
    await settle('late', 30);
    expect(await admit(each, 'e')).toMatchObject({
      requests: { remaining: 96 },
      tokens: { remaining: 53 },
    });
  });

  it('forgets places taken in the last second until their next sign of life', async () => {
    const { admit, settle, renew, second, restart } = rig();
    const ask = async (lease: string, at: number) =>
      (await admit({ concurrent: 2 }, lease, at)).refused?.reason ?? null;
    expect(await ask('a', AT)).toBeNull();
    await second();
    expect(await ask('b', AT)).toBeNull();
    restart();
    // One more than allowed, …
    expect(await ask('c', AT)).toBeNull();
    expect(await ask('d', AT)).toBe('concurrent');
    for (const lease of ['a', 'b', 'c']) await renew(lease, AT + LEASE_RENEW_MS);
    await settle('c', 1, AT + LEASE_RENEW_MS);
    // … until two are left.
    expect(await ask('e', AT + LEASE_RENEW_MS)).toBe('concurrent');
  });

  it('holds a place whose end it forgot no longer than one whose isolate died', async () => {
    const { admit, settle, second, restart } = rig();
    const ask = async (lease: string, at: number) =>
      (await admit({ concurrent: 1 }, lease, at)).refused?.reason ?? null;
    expect(await ask('a', AT)).toBeNull();
    await second();
    await settle('a', 1);
    restart();
    expect(await ask('b', AT + LEASE_MS - 1)).toBe('concurrent');
    expect(await ask('c', AT + LEASE_MS)).toBeNull();
  });

  it('writes at once what a fine-tuning job has trained in a minute, and a reset', async () => {
    const { quotas, admit, renew, second, restart } = rig();
    const job = { asked: [{ counter: 'key_1', limits }], job: 'ftjob-1', from: 0, total: 20, at: AT };
    expect(await quotas.spend('alice', job)).toMatchObject([{ least: { left: 0 } }]);
    restart();
    expect((await admit(limits, 'a')).refused?.reason).toBe('month');
    // A write is due.
    await renew('b', AT);
    await quotas.reset('alice', 'key_1');
    await second();
    restart();
    expect((await admit(limits, 'a')).refused).toBeNull();
  });

  it('says that it could not write, goes on counting, and tries again', async () => {
    const { admit, disk, second } = rig();
    const set = vi.spyOn(disk, 'set').mockImplementationOnce(() => {
      throw new Error('full');
    });
    await admit(limits, 'a');
    await second();
    expect(logged.filter((line) => line.includes('quota_not_stored'))).toHaveLength(1);
    await second();
    expect([set.mock.calls.length, disk.has('recent')]).toEqual([2, true]);
  });

  it.each(DAMAGED)(
    'whose state is %s refuses everything, says so, and works after a reset',
    async (_, stored) => {
      const { quotas, admit, settle, renew, disk, second, restart } = rig(stored);
      const refusal = async (lease: string) => (await admit(limits, lease)).refused;
      expect(await refusal('a')).toMatchObject({ reason: 'damaged' });
      expect(logged.filter((line) => line.includes('quota_damaged'))).toHaveLength(1);
      await settle('a', 1);
      await renew('a', AT);
      await second();
      const job = { asked: [{ counter: 'key_1', limits }], job: 'ftjob-1', from: 0, total: 1, at: AT };
      expect(await quotas.spend('alice', job)).toMatchObject([{ least: { reason: 'damaged', left: 0 } }]);
      // The damaged state may still help whoever investigates.
      expect(disk.get('recent')).toEqual(stored);
      restart();
      expect(await refusal('b')).toMatchObject({ reason: 'damaged' });
      await quotas.reset('alice', 'key_1');
      expect(await refusal('c')).toBeNull();
      await second();
      restart();
      expect(await refusal('d')).toBeNull();
    },
  );

  it('whose neighbour is damaged still counts, unless both are asked', async () => {
    const { quotas, admit, disk, second } = rig(new Map([['key_1', { used: 9 }]]));
    expect((await admit(limits, 'a', AT, 'key_2')).refused).toBeNull();
    const asked = ['key_2', 'key_1'].map((counter) => ({ counter, limits }));
    expect(await quotas.admit('alice', { asked, lease: 'b', at: AT })).toMatchObject([
      { refused: null },
      { refused: { reason: 'damaged' } },
    ]);
    await second();
    expect((disk.get('recent') as Map<string, unknown>).get('key_1')).toEqual({ used: 9 });
  });

  it('is one of any number: those that changed last are written in one row, each other in its own', async () => {
    const { admit, disk, second, writes, restart } = rig();
    const each = { requests_per_minute: 5 };
    const count = RECENT_COUNTERS + 20;
    for (let i = 0; i < count; i += 1) await admit(each, 'a', AT, `key_${i}`);
    await second();
    expect(writes()).toBe(21);
    await admit(each, 'b', AT, `key_${count - 1}`);
    await second();
    expect(writes()).toBe(22);
    expect((disk.get('recent') as Map<string, unknown>).size).toBe(RECENT_COUNTERS);
    for (let life = 0; life < 2; life += 1) {
      const left: (number | undefined)[] = [];
      for (let i = 0; i < count; i += 1)
        left.push((await admit(each, `c${life}`, AT, `key_${i}`)).requests?.remaining);
      expect(left).toEqual(Array.from({ length: count }, (_, i) => (i === count - 1 ? 2 : 3) - life));
      await second();
      restart();
    }
  });

  it('of a tenant that is erased leaves nothing', async () => {
    const { quotas, admit, disk, second } = rig();
    for (let i = 0; i <= RECENT_COUNTERS; i += 1) await admit(limits, 'a', AT, `key_${i}`);
    await second();
    expect(disk.size).toBe(2);
    await quotas.forget('alice', { but: [] });
    expect(disk.size).toBe(0);
    expect((await admit(limits, 'b')).refused).toBeNull();
  });

  it('of a tenant that is erased keeps those of keys that were made meanwhile, also on disk', async () => {
    const { quotas, admit, disk, second, restart } = rig();
    const each = { requests_per_minute: 3 };
    for (let i = 0; i <= RECENT_COUNTERS; i += 1) await admit(each, 'a', AT, `key_${i}`);
    await second();
    // The first one has left the row of recent ones.
    await quotas.forget('alice', { but: ['key_0', `key_${RECENT_COUNTERS}`, 'key_unused'] });
    restart();
    expect(disk.size).toBe(1);
    const remaining = async (key: string) => (await admit(each, 'b', AT, key)).requests?.remaining;
    expect([await remaining('key_0'), await remaining(`key_${RECENT_COUNTERS}`)]).toEqual([1, 1]);
    expect(await remaining('key_1')).toBe(2);
  });
});
