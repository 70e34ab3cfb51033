import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createCountRecorder } from '../../../worker/gathering/parts.ts';
import { LARGE_TENANT_MS, LARGE_TENANT_ROWS } from '../../../worker/gathering/limits.ts';
import type { CountBatch } from '../../../worker/gathering/ports.ts';
import type { UsageEvent } from '../../../worker/metering/ports.ts';
import { MAX_BATCH_REQUESTS, MAX_UNSENT_REQUESTS } from '../../../worker/traffic/limits.ts';
import type { EndedCompletion } from '../../../worker/traffic/ports.ts';
import { ended } from '../../contracts/sample-rows.ts';

const HOUR_MS = 3_600_000;
const AT = Date.UTC(2026, 4, 1, 12, 30);

let sent: { shard: number; batch: CountBatch }[];
/** Fails the calls of a shard while it is set. */
let down: Set<number>;
/** What each gatherer that takes a batch calls large. */
let large: string[];
let shards: number;
let now: number;
/** Ends the current sleep. */
let wake: () => void;
let work: Promise<unknown>[];
/** Of the last recorder. */
let list: (more?: Partial<EndedCompletion>) => void;

const settleAll = async () => {
  for (let turn = 0; turn < 50; turn += 1) {
    wake();
    await Promise.resolve();
  }
};
const recorder = (more: { maxRows?: number } = {}) => {
  let waiting: (() => void)[] = [];
  wake = () => {
    const due = waiting;
    waiting = [];
    for (const resolve of due) resolve();
  };
  const sink = createCountRecorder({
    gatherers: {
      async add(shard, batch) {
        sent.push({ shard, batch: structuredClone(batch) });
        if (down.has(shard)) throw new Error('down');
        return large;
      },
    },
    sender: 'isolate',
    // The last letter's place in the alphabet.
    shardOf: (record) => record.charCodeAt(record.length - 1) % shards,
    now: () => now,
    sleep: () => new Promise((resolve) => waiting.push(resolve)),
    flushMs: 2_000,
    maxRows: 100,
    tries: 3,
    ...more,
  });
  list = (more) => sink.record(ended(more), (promise) => work.push(promise));
  return (event: Partial<UsageEvent> = {}) =>
    sink.recordUsage(
      {
        keyId: 'key_1',
        tenant: 'a',
        name: 'notes',
        version: 1,
        base: 'tiny',
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
/** What gatherers have: each batch once. */
const total = () => {
  const taken = new Map<string, CountBatch>();
  for (const { shard, batch } of sent)
    if (!down.has(shard))
      taken.set(`${shard} ${batch.number}`, taken.get(`${shard} ${batch.number}`) ?? batch);
  const rows = [...taken.values()].flatMap(({ usage }) => usage);
  const sum = (count: 'requests' | 'errors' | 'promptTokens' | 'completionTokens') =>
    rows.reduce((before, row) => before + row[count], 0);
  return [sum('requests'), sum('errors'), sum('promptTokens'), sum('completionTokens')];
};
const numbers = () => sent.map(({ batch }) => batch.number);

beforeEach(() => {
  sent = [];
  down = new Set();
  large = [];
  shards = 1;
  now = AT;
  work = [];
  vi.spyOn(console, 'error').mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

describe('counting in an isolate', () => {
  it('sends everything within the delay at once, one row per key, name, version and hour', async () => {
    const record = recorder();
    for (let i = 0; i < 20; i += 1) record();
    record({ status: 502 });
    record({ status: 499 });
    record({ version: 2 });
    record({ at: AT + HOUR_MS });
    expect(work).toHaveLength(1);
    await settleAll();
    expect(sent.map(({ batch }) => batch.usage.length)).toEqual([3]);
    expect(total()).toEqual([24, 1, 240, 120]);
  });

  it('sends each tenant to its gatherer, and a large one by key', async () => {
    shards = 26;
    const record = recorder();
    record({ tenant: 'a' });
    record({ tenant: 'b' });
    for (let i = 0; i < LARGE_TENANT_ROWS + 20; i += 1)
      record({ tenant: 'c', keyId: i % 2 === 0 ? 'key_x' : 'key_y', name: `n${i}` });
    await settleAll();
    const rows = new Map(sent.map(({ shard, batch }) => [shard, batch.usage.length]));
    const shardOf = (letter: string) => letter.charCodeAt(0) % 26;
    expect(rows).toEqual(
      new Map([
        [shardOf('a'), 1],
        [shardOf('b'), 1],
        [shardOf('c'), LARGE_TENANT_ROWS],
        [shardOf('x'), 10],
        [shardOf('y'), 10],
      ]),
    );
    expect(new Set(numbers())).toEqual(new Set([1]));
  });

  it('spreads a tenant by key that a gatherer calls large, until none has for a while', async () => {
    shards = 26;
    const record = recorder();
    const shardsOf = async () => {
      sent = [];
      record({ tenant: 'a', keyId: 'key_x' });
      record({ tenant: 'a', keyId: 'key_y' });
      record({ tenant: 'b', keyId: 'key_z' });
      await settleAll();
      return new Set(
        [...'abxyz'].filter((letter) => sent.some(({ shard }) => shard === letter.charCodeAt(0) % 26)),
      );
    };
    large = ['a'];
    expect(await shardsOf()).toEqual(new Set(['a', 'b']));
    large = [];
    expect(await shardsOf()).toEqual(new Set(['x', 'y', 'b']));
    now += LARGE_TENANT_MS - 1;
    large = ['a'];
    expect(await shardsOf()).toEqual(new Set(['x', 'y', 'b']));
    large = [];
    now += LARGE_TENANT_MS - 1;
    expect(await shardsOf()).toEqual(new Set(['x', 'y', 'b']));
    now += 1;
    expect(await shardsOf()).toEqual(new Set(['a', 'b']));
  });

  it('counts each request once, whatever is large or away meanwhile, and repeats a batch where it was sent', async () => {
    const event = fc.oneof(
      { weight: 4, arbitrary: fc.record({ record: fc.constantFrom('key_a', 'key_b', 'key_c') }) },
      fc.record({ large: fc.boolean() }),
      fc.record({ turn: fc.nat(2) }),
      fc.record({ later: fc.constantFrom(1_000, LARGE_TENANT_MS) }),
      fc.constant('settle' as const),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 40 }), async (events) => {
        [sent, down, large, shards, now] = [[], new Set(), [], 3, AT];
        const taken = new Map<string, { shard: number; usage: CountBatch['usage'] }>();
        const record = recorder();
        const see = () => {
          for (const { shard, batch } of sent) {
            const id = `${shard} ${batch.number}`;
            const before = taken.get(id);
            if (before !== undefined) expect(batch.usage).toEqual(before.usage);
            taken.set(id, { shard, usage: batch.usage });
          }
        };
        let records = 0;
        for (const one of events) {
          if (one === 'settle') await settleAll();
          else if ('large' in one) large = one.large ? ['a'] : [];
          else if ('later' in one) now += one.later;
          else if ('turn' in one) down = new Set(down.has(one.turn) ? [] : [one.turn]);
          else {
            records += 1;
            record({ keyId: one.record });
          }
        }
        [down, large] = [new Set(), []];
        now += 30_000;
        record({ tenant: 'b' });
        for (let times = 0; times < 3; times += 1) await settleAll();
        see();
        const rows = [...taken.values()].flatMap(({ usage }) => usage);
        expect(rows.reduce((sum, { requests }) => sum + requests, 0)).toBe(records + 1);
        // All that a shard has got is numbered without a gap.
        for (const shard of [0, 1, 2]) {
          const own = [...taken.values()].filter((one) => one.shard === shard).length;
          for (let number = 1; number <= own; number += 1) expect(taken.has(`${shard} ${number}`)).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('starts a new flush for what arrives during one', async () => {
    const record = recorder();
    record();
    await settleAll();
    record();
    expect(work).toHaveLength(2);
    await settleAll();
    expect(numbers()).toEqual([1, 2]);
    expect(total()).toEqual([2, 0, 20, 10]);
  });

  it('repeats a batch as it was until it is taken, and sends what was counted meanwhile behind it', async () => {
    const record = recorder();
    down.add(0);
    record();
    await settleAll();
    record();
    record();
    await settleAll();
    expect(numbers()).toEqual([1, 1, 1, 1, 1, 1]);
    expect(sent.map(({ batch }) => batch.usage[0]?.requests)).toEqual([1, 1, 1, 1, 1, 1]);
    expect(console.error).toHaveBeenCalledWith(expect.stringContaining('usage_not_written'));
    down.clear();
    sent = [];
    record();
    await settleAll();
    expect(numbers()).toEqual([1, 2]);
    expect(total()).toEqual([4, 0, 40, 20]);
  });

  it('repeats a batch at the gatherer that it was first sent to, also after there are more of them', async () => {
    const record = recorder();
    down.add(0);
    record({ tenant: 'a' });
    await settleAll();
    shards = 26;
    down.clear();
    sent = [];
    record({ tenant: 'a' });
    await settleAll();
    expect(sent.map(({ shard, batch }) => [shard, batch.number])).toEqual([
      [0, 1],
      ['a'.charCodeAt(0) % 26, 1],
    ]);
    expect(total()).toEqual([2, 0, 20, 10]);
  });

  it('keeps everything while a gatherer is away: memory grows with rows, not with requests', async () => {
    const record = recorder({ maxRows: 2 });
    down.add(0);
    for (let i = 0; i < 900; i += 1) {
      record({ name: `n${i % 9}` });
      if (i % 100 === 0) await settleAll();
    }
    await settleAll();
    down.clear();
    sent = [];
    record({ name: 'n0' });
    await settleAll();
    // The first one, and nine names, two in a batch.
    expect(sent.map(({ batch }) => batch.usage.length)).toEqual([1, 2, 2, 2, 2, 1]);
    expect(total()).toEqual([901, 0, 9_010, 4_505]);
  });

  it('lets one gatherer that is away delay no other', async () => {
    shards = 2;
    const record = recorder();
    down.add('a'.charCodeAt(0) % 2);
    record({ tenant: 'a' });
    record({ tenant: 'b' });
    await settleAll();
    expect(total()).toEqual([1, 0, 10, 5]);
  });

  it('sends what a completion used, its traffic and the completion itself in one batch', async () => {
    const record = recorder();
    record();
    for (let i = 0; i < 3; i += 1) list({ tenant: 'a', id: `r${i}`, status: i === 2 ? 500 : 200 });
    expect(work).toHaveLength(1);
    await settleAll();
    expect(numbers()).toEqual([1]);
    const { usage, traffic, requests } = sent[0]!.batch;
    expect(usage).toHaveLength(1);
    expect(traffic.map(({ status, requests: count }) => [status, count])).toEqual([
      [200, 2],
      [500, 1],
    ]);
    expect(requests.map(({ tenant, requests: some }) => [tenant, some.length])).toEqual([['a', 3]]);
  });

  it('drops requests while a gatherer is away, the tenant’s own oldest first, and never a sum', async () => {
    recorder();
    down.add(0);
    list({ tenant: 'first', id: 'lost' });
    await settleAll();
    for (let tenant = 0; tenant < MAX_UNSENT_REQUESTS / MAX_BATCH_REQUESTS; tenant += 1)
      for (let i = 0; i < MAX_BATCH_REQUESTS; i += 1) list({ tenant: `t${tenant}`, id: `${i}`, at: AT + i });
    for (let i = 0; i < 5; i += 1) list({ tenant: 't3', id: `new${i}`, at: AT + 1_000 + i });
    list({ tenant: 'late' });
    down.clear();
    sent = [];
    await settleAll();
    const batches = sent.map(({ batch }) => batch);
    const listedOf = (tenant: string) =>
      batches.flatMap(({ requests }) => requests).find((chunk) => chunk.tenant === tenant);
    expect(listedOf('t2')).toMatchObject({ leftOut: 0, requests: { length: MAX_BATCH_REQUESTS } });
    expect(listedOf('t3')).toMatchObject({ leftOut: 5, requests: { length: MAX_BATCH_REQUESTS } });
    expect(listedOf('t3')?.requests[0]?.id).toBe('new4');
    expect(listedOf('late')).toMatchObject({ leftOut: 1, requests: [] });
    const counted = batches
      .flatMap(({ traffic }) => traffic)
      .reduce((sum, { requests }) => sum + requests, 0);
    expect(counted).toBe(1 + MAX_UNSENT_REQUESTS + 6);
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
    expect(total()).toEqual([3, 0, 30, 15]);
  });
});
