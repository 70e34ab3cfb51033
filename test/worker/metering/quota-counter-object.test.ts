import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  QuotaCounter,
  type CounterStorage,
  type QuotaCall,
  createDoQuotas,
} from '../../../worker/metering/quota-counter-object.ts';
import { LEASE_MS, LEASE_RENEW_MS, QUOTA_WRITE_MS } from '../../../worker/metering/limits.ts';
import type { Quotas } from '../../../worker/metering/ports.ts';
import { WAIT_MS } from '../../setup/slow.ts';

const AT = Date.UTC(2026, 2, 31);
const limits = { tokens_per_month: 10 };

interface Rig {
  quotas: Quotas;
  disk: Map<string, unknown>;
  /** How often it was written to. */
  writes: () => number;
  /** A second passes. */
  second: () => Promise<void>;
  restart: () => void;
}

/** Storage of one object, and a way to restart it. */
function rig(stored?: unknown): Rig {
  const disk = new Map<string, unknown>(stored === undefined ? [] : [['quota', stored]]);
  let [writes, life] = [0, 0];
  const storage: CounterStorage = {
    get: async (key) => structuredClone(disk.get(key)),
    async put(key, value) {
      writes += 1;
      disk.set(key, structuredClone(value));
    },
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
  return {
    quotas: createDoQuotas({ namespace, timeoutMs: WAIT_MS }),
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
  ['a field that is no number', { at: 'now', seconds: [], leases: new Map(), day: {}, month: {} }],
];

describe('a counter', () => {
  it('keeps its usage across a restart', async () => {
    const { quotas, second, restart } = rig();
    await quotas.admit('key_1', { limits, lease: 'a', at: AT });
    await quotas.settle('key_1', { lease: 'a', tokens: 20, again: false, at: AT });
    await second();
    restart();
    const { refused } = await quotas.admit('key_1', { limits, lease: 'b', at: AT });
    expect(refused?.reason).toBe('month');
    expect(logged).toEqual([]);
  });

  it('writes once a second, however many requests begin and end in it, and not at all without any', async () => {
    const { quotas, second, writes } = rig();
    for (let i = 0; i < 3; i += 1) {
      for (let lease = 0; lease < 50; lease += 1) {
        await quotas.admit('key_1', { limits, lease: `${lease}`, at: AT });
        await quotas.settle('key_1', { lease: `${lease}`, tokens: 0, again: false, at: AT });
      }
      expect(writes()).toBe(i);
      await second();
      expect(writes()).toBe(i + 1);
    }
    await second();
    expect(writes()).toBe(3);
  });

  it('forgets a second’s requests and tokens when it restarts, and nothing else', async () => {
    const { quotas, second, restart } = rig();
    const each = { requests_per_minute: 100, tokens_per_minute: 100 };
    const use = async (lease: string) => {
      await quotas.admit('key_1', { limits: each, lease, at: AT });
      await quotas.settle('key_1', { lease, tokens: 5, again: false, at: AT });
    };
    for (const lease of ['a', 'b']) await use(lease);
    await quotas.admit('key_1', { limits: each, lease: 'long', at: AT });
    await second();
    for (const lease of ['c', 'd']) await use(lease);
    await quotas.admit('key_1', { limits: each, lease: 'late', at: AT });
    restart();
    // Both ran on: what they use is counted, of the one that was forgotten too.
    await quotas.settle('key_1', { lease: 'long', tokens: 7, again: false, at: AT });
    await quotas.settle('key_1', { lease: 'late', tokens: 30, again: false, at: AT });
    expect(await quotas.admit('key_1', { limits: each, lease: 'e', at: AT })).toMatchObject({
      requests: { remaining: 96 },
      tokens: { remaining: 53 },
    });
  });

  it('forgets places taken in the last second until their next sign of life', async () => {
    const { quotas, second, restart } = rig();
    const ask = async (lease: string, at: number) =>
      (await quotas.admit('key_1', { limits: { concurrent: 2 }, lease, at })).refused?.reason ?? null;
    expect(await ask('a', AT)).toBeNull();
    await second();
    expect(await ask('b', AT)).toBeNull();
    restart();
    // One more than allowed, …
    expect(await ask('c', AT)).toBeNull();
    expect(await ask('d', AT)).toBe('concurrent');
    for (const lease of ['a', 'b', 'c']) await quotas.renew('key_1', { lease, at: AT + LEASE_RENEW_MS });
    await quotas.settle('key_1', { lease: 'c', tokens: 1, again: false, at: AT + LEASE_RENEW_MS });
    // … until two are left.
    expect(await ask('e', AT + LEASE_RENEW_MS)).toBe('concurrent');
  });

  it('holds a place whose end it forgot no longer than one whose isolate died', async () => {
    const { quotas, second, restart } = rig();
    const ask = async (lease: string, at: number) =>
      (await quotas.admit('key_1', { limits: { concurrent: 1 }, lease, at })).refused?.reason ?? null;
    expect(await ask('a', AT)).toBeNull();
    await second();
    await quotas.settle('key_1', { lease: 'a', tokens: 1, again: false, at: AT });
    restart();
    expect(await ask('b', AT + LEASE_MS - 1)).toBe('concurrent');
    expect(await ask('c', AT + LEASE_MS)).toBeNull();
  });

  it('writes at once what a fine-tuning job has trained in a minute, and a reset', async () => {
    const { quotas, restart, second } = rig();
    const job = { limits, job: 'ftjob-1', from: 0, total: 20, at: AT };
    expect(await quotas.spend('key_1', job)).toMatchObject({ left: 0 });
    restart();
    expect((await quotas.admit('key_1', { limits, lease: 'a', at: AT })).refused?.reason).toBe('month');
    // A write is due.
    await quotas.renew('key_1', { lease: 'b', at: AT });
    await quotas.reset('key_1');
    await second();
    restart();
    expect((await quotas.admit('key_1', { limits, lease: 'a', at: AT })).refused).toBeNull();
  });

  it('says that it could not write, goes on counting, and tries again', async () => {
    const { quotas, disk, second } = rig();
    const set = vi.spyOn(disk, 'set').mockImplementationOnce(() => {
      throw new Error('full');
    });
    await quotas.admit('key_1', { limits, lease: 'a', at: AT });
    await second();
    expect(logged.filter((line) => line.includes('quota_not_stored'))).toHaveLength(1);
    await second();
    expect([set.mock.calls.length, disk.has('quota')]).toEqual([2, true]);
  });

  it.each(DAMAGED)(
    'whose state is %s refuses everything, says so, and works after a reset',
    async (_, stored) => {
      const { quotas, disk, second, restart } = rig(stored);
      const admit = async (lease: string) => (await quotas.admit('key_1', { limits, lease, at: AT })).refused;
      expect(await admit('a')).toMatchObject({ reason: 'damaged' });
      expect(logged.filter((line) => line.includes('quota_damaged'))).toHaveLength(1);
      const others: Exclude<QuotaCall['call'], 'admit' | 'reset' | 'spend'>[] = ['undo', 'renew', 'settle'];
      for (const call of others) await quotas[call]('key_1', { lease: 'a', tokens: 1, again: false, at: AT });
      const job = { limits, job: 'ftjob-1', from: 0, total: 1, at: AT };
      expect(await quotas.spend('key_1', job)).toMatchObject({ reason: 'damaged', left: 0 });
      // The damaged state may still help whoever investigates.
      expect(disk.get('quota')).toEqual(stored);
      restart();
      expect(await admit('b')).toMatchObject({ reason: 'damaged' });
      await quotas.reset('key_1');
      expect(await admit('c')).toBeNull();
      await second();
      restart();
      expect(await admit('d')).toBeNull();
    },
  );
});
