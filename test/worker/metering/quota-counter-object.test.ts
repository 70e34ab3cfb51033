import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  QuotaCounter,
  type CounterStorage,
  type QuotaCall,
  createDoQuotas,
} from '../../../worker/metering/quota-counter-object.ts';
import type { Quotas } from '../../../worker/metering/ports.ts';
import { WAIT_MS } from '../../setup/slow.ts';

const AT = Date.UTC(2026, 2, 31);
const limits = { tokens_per_month: 10 };

/** Storage of one object, and a way to restart it. */
function rig(stored: unknown): { quotas: Quotas; disk: Map<string, unknown>; restart: () => void } {
  const disk = new Map<string, unknown>(stored === undefined ? [] : [['quota', stored]]);
  const storage: CounterStorage = {
    get: async (key) => structuredClone(disk.get(key)),
    put: async (key, value) => void disk.set(key, structuredClone(value)),
  };
  let object = new QuotaCounter({ storage });
  const namespace = {
    idFromName: (name: string) => name,
    get: () => ({ fetch: (url: string, init?: RequestInit) => object.fetch(new Request(url, init)) }),
  };
  return {
    quotas: createDoQuotas({ namespace, timeoutMs: WAIT_MS }),
    disk,
    restart: () => void (object = new QuotaCounter({ storage })),
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
    const { quotas, restart } = rig(undefined);
    await quotas.admit('key_1', { limits, lease: 'a', at: AT });
    await quotas.settle('key_1', { lease: 'a', tokens: 20, at: AT });
    restart();
    const { refused } = await quotas.admit('key_1', { limits, lease: 'b', at: AT });
    expect(refused?.reason).toBe('month');
    expect(logged).toEqual([]);
  });

  it.each(DAMAGED)(
    'whose state is %s refuses everything, says so, and works after a reset',
    async (_, stored) => {
      const { quotas, disk, restart } = rig(stored);
      const admit = async (lease: string) => (await quotas.admit('key_1', { limits, lease, at: AT })).refused;
      expect(await admit('a')).toMatchObject({ reason: 'damaged' });
      expect(logged.filter((line) => line.includes('quota_damaged'))).toHaveLength(1);
      const others: Exclude<QuotaCall['call'], 'admit' | 'reset' | 'spend'>[] = ['undo', 'renew', 'settle'];
      for (const call of others) await quotas[call]('key_1', { lease: 'a', tokens: 1, at: AT });
      const job = { limits, job: 'ftjob-1', from: 0, total: 1, at: AT };
      expect(await quotas.spend('key_1', job)).toMatchObject({ reason: 'damaged', left: 0 });
      // The damaged state may still help whoever investigates.
      expect(disk.get('quota')).toEqual(stored);
      restart();
      expect(await admit('b')).toMatchObject({ reason: 'damaged' });
      await quotas.reset('key_1');
      expect(await admit('c')).toBeNull();
      restart();
      expect(await admit('d')).toBeNull();
    },
  );
});
