import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAskQuota, type AskQuota, duration } from '../../../worker/metering/meter.ts';
import type { KeyLimits } from '../../../protocol/admin-api/keys.ts';
import type { LimitedCaller, Quotas } from '../../../worker/metering/ports.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { createFakeQuotas, type FakeQuotas } from '../../fakes/fake-metering.ts';

let clock: FakeClock;
let quotas: FakeQuotas;
let ask: (caller: LimitedCaller) => ReturnType<AskQuota>;

const create = (of: Quotas | null): typeof ask => {
  let ids = 0;
  const askQuota = createAskQuota({
    quotas: of,
    alerts: { tell: async () => undefined },
    now: clock.now,
    sleep: async () => undefined,
    newId: () => `lease-${(ids += 1)}`,
    retryAfterMs: 2_000,
    memoryMs: 1_000,
    maxEntries: 2,
  });
  return (caller) => askQuota(caller, () => undefined);
};
const asking = async (limits: KeyLimits | undefined, keyId = 'key_1', counter?: string) =>
  ask({ keyId, tenant: 'acme', limits, counter });
const refusal = async (limits: KeyLimits, keyId?: string) => {
  const asked = await asking(limits, keyId);
  return asked.ok ? null : asked.error;
};

beforeEach(() => {
  clock = new FakeClock();
  quotas = createFakeQuotas();
  ask = create(quotas);
  vi.spyOn(console, 'error').mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

describe('asking a quota', () => {
  it('does nothing for a key without limits', async () => {
    const asked = await asking(undefined);
    expect(asked.ok && asked.value.headers).toEqual([]);
    expect(asked.ok && [asked.value.renew, asked.value.settle]).toEqual([null, null]);
    expect(quotas.calls).toEqual([]);
  });

  it('returns what is left in OpenAI’s headers', async () => {
    const asked = await asking({ requests_per_minute: 3, tokens_per_minute: 50 });
    expect(asked.ok && Object.fromEntries(asked.value.headers)).toEqual({
      'x-ratelimit-limit-requests': '3',
      'x-ratelimit-remaining-requests': '2',
      'x-ratelimit-reset-requests': expect.stringMatching(/^1m/) as string,
      'x-ratelimit-limit-tokens': '50',
      'x-ratelimit-remaining-tokens': '50',
      'x-ratelimit-reset-tokens': '0ms',
    });
  });

  it('repeats a refusal for a moment without asking, with the remaining time', async () => {
    const limits = { requests_per_minute: 1 };
    await asking(limits);
    const first = await refusal(limits);
    expect(first?.error).toMatchObject({ code: 'rate_limit_exceeded' });
    clock.advance(400);
    const second = await refusal(limits);
    const msOf = (one: typeof first) => (one && 'retryAfterMs' in one.error ? one.error.retryAfterMs : 0);
    expect(msOf(first)).toBeGreaterThan(0);
    expect(msOf(second)).toBe((msOf(first) ?? 0) - 400);
    expect(quotas.calls).toEqual(['admit key_1', 'admit key_1']);
    // Another key's refusal does not affect this one, and raised limits apply at once.
    expect(await refusal(limits, 'key_2')).toBeNull();
    expect(await refusal({ requests_per_minute: 2 })).toBeNull();
    clock.advance(700);
    await refusal(limits);
    expect(quotas.calls).toHaveLength(5);
  });

  it('never repeats a refusal of concurrency, since slots can become free at any time', async () => {
    const limits = { concurrent: 1 };
    const held = await asking(limits);
    expect((await refusal(limits))?.error.code).toBe('rate_limit_exceeded');
    if (held.ok) await held.value.settle?.(0);
    expect(await refusal(limits)).toBeNull();
  });

  it('distinguishes an exhausted budget from a limit that resets', async () => {
    const limits = { tokens_per_day: 10 };
    const held = await asking(limits);
    if (held.ok) await held.value.settle?.(10);
    const spent = await refusal(limits);
    expect(spent?.error).toEqual({
      code: 'insufficient_quota',
      message: expect.stringContaining('budget of 10 tokens per day') as string,
    });
  });

  it('counts a rotated key against the first key’s counter', async () => {
    const limits = { requests_per_minute: 2 };
    expect((await asking(limits, 'key_1')).ok).toBe(true);
    expect((await asking(limits, 'key_2', 'key_1')).ok).toBe(true);
    expect((await asking(limits, 'key_3', 'key_1')).ok).toBe(false);
  });

  it.each([
    ['lets pass', undefined, true],
    ['lets pass', 'allow', true],
    ['refuses', 'refuse', false],
  ] as const)('%s when the counter does not answer and the key says %s', async (_, on_outage, passes) => {
    quotas.down = true;
    const limits = { requests_per_minute: 1, ...(on_outage === undefined ? {} : { on_outage }) };
    for (const from of [quotas, null]) {
      ask = create(from);
      const asked = await asking(limits);
      expect(asked.ok).toBe(passes);
      if (!asked.ok) expect(asked.error.error).toMatchObject({ code: 'registry_unavailable' });
      else expect(asked.value.headers).toEqual([]);
    }
    expect(console.error).toHaveBeenCalledWith(expect.stringContaining('quota_unavailable'));
  });

  it('retries when the counter did not receive the usage', async () => {
    const limits = { tokens_per_minute: 100 };
    const held = await asking(limits);
    quotas.down = true;
    const fails = vi.spyOn(quotas, 'settle').mockImplementationOnce(async () => {
      quotas.down = false;
      throw new Error('moved');
    });
    if (held.ok) await held.value.settle?.(60);
    expect(fails).toHaveBeenCalledTimes(2);
    const next = await asking(limits);
    expect(next.ok && Object.fromEntries(next.value.headers)).toMatchObject({
      'x-ratelimit-remaining-tokens': '40',
    });
  });
});

describe('asking the quotas of a key and its tenant', () => {
  const both = async (limits: KeyLimits | undefined, tenant_limits: KeyLimits, keyId = 'key_1') =>
    ask({ keyId, tenant: 'acme', limits, tenant_limits });
  const headersOf = (asked: Awaited<ReturnType<typeof both>>) =>
    Object.fromEntries(asked.ok ? asked.value.headers : asked.error.headers);

  it('admits what both admit, and reports the one with less left', async () => {
    const asked = await both({ requests_per_minute: 9, tokens_per_minute: 50 }, { requests_per_minute: 3 });
    expect(headersOf(asked)).toMatchObject({
      'x-ratelimit-limit-requests': '3',
      'x-ratelimit-remaining-requests': '2',
      'x-ratelimit-limit-tokens': '50',
    });
    expect(quotas.calls).toEqual(['admit key_1 tenant:acme']);
    // The tenant's counter has no use for tokens.
    if (asked.ok) await asked.value.settle?.(30);
    expect(quotas.calls.slice(1)).toEqual(['settle key_1']);
  });

  it('counts all keys of the tenant together, and none of another', async () => {
    const tenant_limits = { requests_per_minute: 2 };
    const passed = [];
    for (const keyId of ['key_1', 'key_2', 'key_3'])
      passed.push((await both(undefined, tenant_limits, keyId)).ok);
    expect(passed).toEqual([true, true, false]);
    expect((await ask({ keyId: 'key_1', tenant: 'other', tenant_limits })).ok).toBe(true);
  });

  it('says whose limits refused, and counts nothing in the other', async () => {
    const limits = { requests_per_minute: 5, concurrent: 1 };
    const refused = await both(limits, { tokens_per_day: 1, concurrent: 1 });
    if (refused.ok) await refused.value.settle?.(1);
    const spent = await both(limits, { tokens_per_day: 1, concurrent: 1 });
    expect(headersOf(spent)).toMatchObject({ 'x-graft-limited-by': 'tenant' });
    expect(spent.ok ? null : spent.error.error).toMatchObject({
      code: 'insufficient_quota',
      message: expect.stringContaining('for all of its keys') as string,
    });
    // Its slot and its request are free again.
    const next = await both(limits, { requests_per_minute: 100 });
    expect(headersOf(next)).toMatchObject({ 'x-ratelimit-remaining-requests': '3' });
    const own = await both(limits, { requests_per_minute: 100 });
    expect(headersOf(own)).toMatchObject({ 'x-graft-limited-by': 'key' });
    expect(own.ok ? null : own.error.error.message).toMatch(/^This key is limited to 1 requests at the same/);
    const left = await both(undefined, { requests_per_minute: 100 });
    expect(headersOf(left)).toMatchObject({ 'x-ratelimit-remaining-requests': '97' });
  });

  it('asks nothing of a counter whose limits it does not know to be hit, beside one that refused', async () => {
    const tenant_limits = { requests_per_minute: 1 };
    expect((await both({ concurrent: 5 }, tenant_limits)).ok).toBe(true);
    for (const keyId of ['key_1', 'key_2'])
      expect(headersOf(await both({ concurrent: 5 }, tenant_limits, keyId))).toMatchObject({
        'x-graft-limited-by': 'tenant',
      });
    expect(quotas.calls).toHaveLength(2);
  });

  it('refuses if one of them says so while they do not respond', async () => {
    quotas.down = true;
    expect((await both({ concurrent: 1 }, { requests_per_minute: 1 })).ok).toBe(true);
    const closed = await both({ concurrent: 1, on_outage: 'refuse' }, { requests_per_minute: 9 });
    expect(closed.ok ? null : closed.error.error.code).toBe('registry_unavailable');
  });

  it('renews places alone, and ends nothing before its renewal has ended', async () => {
    const unlimited = await both({ requests_per_minute: 9 }, { requests_per_minute: 9 });
    expect(unlimited.ok && [unlimited.value.renew, unlimited.value.settle]).toEqual([null, null]);
    const counted = await both({ tokens_per_day: 9 }, { requests_per_minute: 9 });
    expect(counted.ok && counted.value.renew).toBeNull();
    const placed = await both({ concurrent: 2 }, { requests_per_minute: 9 });
    if (!placed.ok) throw new Error('it was refused');
    let renewed: () => void = () => undefined;
    vi.spyOn(quotas, 'renew').mockReturnValue(new Promise((resolve) => (renewed = resolve)));
    quotas.calls.length = 0;
    void placed.value.renew?.();
    const settled = placed.value.settle?.(1);
    await Promise.resolve();
    expect(quotas.calls).toEqual([]);
    renewed();
    await settled;
    expect(quotas.calls).toEqual(['settle key_1']);
  });
});

describe('taking requests in blocks', () => {
  const many = { requests_per_minute: 100_000 };
  /** Requests one after the other. @returns the calls of counters. */
  const send = async (
    count: number,
    everyMs: number,
    limits: KeyLimits,
    tenant_limits: KeyLimits = many,
  ): Promise<string[]> => {
    quotas.calls.length = 0;
    for (let i = 0; i < count; i += 1) {
      expect((await ask({ keyId: 'key_1', tenant: 'acme', limits, tenant_limits })).ok).toBe(true);
      clock.advance(everyMs);
    }
    return quotas.calls;
  };

  it('asks for one in ten where an isolate has many requests a second', async () => {
    await send(100, 10, many);
    const calls = await send(1_000, 10, many);
    expect(new Set(calls)).toEqual(new Set(['take key_1 tenant:acme']));
    expect(calls).toHaveLength(100);
  });

  it('takes what is used in a second where there are few, and wastes next to nothing', async () => {
    const limits = { requests_per_minute: 1_000 };
    for (const [everyMs, mostCalls] of [
      [2_000, 20],
      [400, 9],
    ] as const) {
      ask = create((quotas = createFakeQuotas()));
      expect((await send(20, everyMs, limits)).length).toBeLessThanOrEqual(mostCalls);
      const asked = await quotas.admit('acme', {
        ...{
          asked: [{ counter: 'key_1', limits: { requests_per_minute: 1e6 } }],
          lease: 'x',
          at: clock.now(),
        },
      });
      const counted = 1e6 - (asked[0]?.requests?.remaining ?? 0) - 1;
      expect(counted).toBeGreaterThanOrEqual(20);
      expect(counted).toBeLessThanOrEqual(23);
    }
  });

  it.each<[string, KeyLimits, KeyLimits]>([
    ['600 a minute', { requests_per_minute: 600 }, many],
    ['600 a minute of the tenant', many, { requests_per_minute: 600 }],
    ['places', { ...many, concurrent: 500 }, many],
    ['a budget of the tenant', many, { ...many, tokens_per_day: 1e9 }],
    ['tokens a minute', { ...many, tokens_per_minute: 1e9 }, many],
    ['a budget alone', { tokens_per_month: 1e9 }, many],
  ])('asks for each request where there are %s', async (_, limits, tenant_limits) => {
    expect(await send(50, 1, limits, tenant_limits)).toEqual(
      Array<string>(50).fill('admit key_1 tenant:acme'),
    );
  });

  it('counts down in headers, and keeps nothing longer than a second', async () => {
    await send(40, 10, many);
    const left: number[] = [];
    for (let i = 0; i < 20; i += 1) {
      const asked = await ask({ keyId: 'key_1', tenant: 'acme', limits: many });
      const headers = Object.fromEntries(asked.ok ? asked.value.headers : []);
      left.push(Number(headers['x-ratelimit-remaining-requests']));
    }
    expect(left).toEqual(Array.from({ length: 20 }, (_, i) => (left[0] ?? 0) - i));
    quotas.calls.length = 0;
    clock.advance(1_000);
    await ask({ keyId: 'key_1', tenant: 'acme', limits: many });
    expect(quotas.calls).toEqual(['take key_1']);
  });

  it('takes one block, not one for each, when many requests come at once', async () => {
    await send(40, 10, many);
    quotas.calls.length = 0;
    const take = vi.spyOn(quotas, 'take');
    clock.advance(500);
    const all = Array.from({ length: 20 }, () =>
      ask({ keyId: 'key_1', tenant: 'acme', limits: many, tenant_limits: many }),
    );
    expect((await Promise.all(all)).every(({ ok }) => ok)).toBe(true);
    expect(take.mock.calls.filter(([, { count }]) => count > 1)).toHaveLength(1);
  });
});

describe('durations in headers', () => {
  it.each([
    [0, '0ms'],
    [119.2, '120ms'],
    [999, '999ms'],
    [1_000, '1s'],
    [1_001, '1.1s'],
    [59_999, '1m0s'],
    [60_500, '1m0.5s'],
    [3_600_000, '60m0s'],
  ])('%d ms is %s', (ms, text) => expect(duration(ms)).toBe(text));
});
