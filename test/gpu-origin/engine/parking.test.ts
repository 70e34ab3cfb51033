/** Rows that are preempted for other tenants: nobody can tell from the answers. */
import { describe, expect, it } from 'vitest';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { seededRandom, GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, generate, request, rig, start, until, type Rig } from './harness.ts';

const sampling = (maxTokens: number) => ({ ...GREEDY, maxTokens, ignoreEos: true });

/** Alice in all slots, past the tokens that a row stays for; Bob wants one. */
async function preemptedOne(options: Parameters<typeof rig>[0] = {}, changes: Partial<EngineRequest> = {}) {
  const built = rig({ ...options, runner: { slots: 2, context: 512, ...options.runner } });
  const ask = (tenant: string, maxTokens: number) =>
    start(built.engine, { tenant, sampling: sampling(maxTokens), ...(tenant === 'alice' ? changes : {}) });
  const alice = [await ask('alice', 300), await ask('alice', 300)];
  await until(() => built.runner.steps > 80);
  const bob = await ask('bob', 200);
  await until(() => built.engine.stats().preempted === 1);
  return { built, alice, bob };
}

const answersOf = async (built: Rig, changes: Partial<EngineRequest>) =>
  (await generate(built.engine, changes)).ids;

describe('a row that is preempted', () => {
  it('goes on where it was, with the same tokens', async () => {
    const { built, alice, bob } = await preemptedOne();
    const all = await Promise.all([...alice, bob].map(collect));
    const alone = rig({ runner: { context: 512 } });
    const whole = await answersOf(alone, { sampling: sampling(300) });
    expect(all.map(({ ids }) => ids)).toEqual([whole, whole, whole.slice(0, 200)]);
    expect(built.runner.misuses).toEqual([]);
    expect(built.engine.stats()).toMatchObject({ running: 0, preempted: 0, waiting: 0, kvTokens: 0 });
  });

  it('takes no place in the queue, and counts as tokens in the cache', async () => {
    const { built } = await preemptedOne();
    const { preempted, waiting, running, kvTokens, kvCapacity } = built.engine.stats();
    expect({ preempted, waiting, running, kvCapacity }).toEqual({
      ...{ preempted: 1, waiting: 0, running: 2 },
      kvCapacity: (2 + 2) * 512,
    });
    expect(kvTokens).toBeGreaterThan(128);
    await built.engine.close();
  });

  it.each([
    [
      'is aborted',
      async ({ alice }: Awaited<ReturnType<typeof preemptedOne>>) => alice[1]!.abort(),
      'aborted',
    ],
    [
      'is left by its reader',
      async ({ alice }: Awaited<ReturnType<typeof preemptedOne>>) => {
        for await (const _event of alice[1]!.events) break;
      },
      'left',
    ],
    [
      'reaches its deadline',
      async ({ built }: Awaited<ReturnType<typeof preemptedOne>>) => built.clock.advance(1_000),
      'error',
    ],
    [
      'stops with the engine',
      async ({ built }: Awaited<ReturnType<typeof preemptedOne>>) => built.engine.close(),
      'aborted',
    ],
  ] as const)('gives its place back when it %s', async (_what, act, outcome) => {
    const rows = await preemptedOne({}, { budgetMs: 1_000 });
    const { built, alice } = rows;
    const before = built.runner.occupied.length;
    await act(rows);
    await until(() => built.engine.stats().preempted === 0);
    expect(built.runner.occupied.length).toBeLessThan(before);
    if (outcome !== 'left') {
      const { final } = await collect(alice[1]!);
      expect(final.kind).toBe(outcome);
      if (final.kind === 'error') expect(final.error.code).toBe('deadline_exceeded');
    }
    expect(built.runner.misuses).toEqual([]);
    await built.engine.close();
    expect(built.runner.occupied).toEqual([]);
  });

  it('holds its adapters', async () => {
    const built = rig({ runner: { slots: 1, context: 512 }, adapterBudgetBytes: 1_500 });
    const entry = await built.adapter('mine');
    const other = await built.adapter('other');
    const alice = await start(built.engine, { tenant: 'alice', chain: [entry], sampling: sampling(400) });
    await until(() => built.runner.steps > 270);
    const bob = await start(built.engine, { tenant: 'bob', sampling: sampling(20) });
    await until(() => built.engine.stats().preempted === 1);
    // There is no room for another one until she has ended.
    const carol = await start(built.engine, { tenant: 'carol', chain: [other], sampling: sampling(2) });
    const ended = await Promise.all([alice, bob, carol].map(collect));
    expect(ended.map(({ final }) => final.kind)).toEqual(['end', 'end', 'end']);
    expect(built.runner.misuses).toEqual([]);
  });

  it('fails alone when the runner cannot move it', async () => {
    const faults: string[] = [];
    const built = rig({
      runner: { slots: 2, context: 512 },
      observer: { onFault: ({ where }) => faults.push(where) },
    });
    const move = built.runner.move.bind(built.runner);
    built.runner.move = (from, to, length) => {
      if (to >= 2) throw new Error('no memory');
      move(from, to, length);
    };
    const handles = [];
    for (let row = 0; row < 2; row += 1)
      handles.push(await start(built.engine, { tenant: 'alice', sampling: sampling(300) }));
    await until(() => built.runner.steps > 80);
    handles.push(await start(built.engine, { tenant: 'bob', sampling: sampling(10) }));
    const kinds = (await Promise.all(handles.map(collect))).map(({ final }) => final.kind);
    expect([kinds, faults]).toEqual([['end', 'error', 'end'], ['swap']]);
    expect(built.runner.occupied).toEqual([]);
  });
});

const prompt = (length: number) => Array.from({ length }, (_, index) => 1 + (index % 60));

describe('a prompt that is read', () => {
  /** Alice's prompt of 50 chunks, a tenth of it read. */
  async function reading(slots = 4, waiting = 0) {
    const order: string[] = [];
    let preempted = 0;
    const built = rig({
      runner: { slots, context: 1_024, chunk: 8 },
      observer: { onFinish: ({ tenant }) => order.push(tenant), onPreempt: () => (preempted += 1) },
    });
    const long = { tenant: 'alice', prompt: prompt(400), sampling: sampling(3) };
    const alice = await start(built.engine, long);
    for (let more = 0; more < waiting; more += 1) void collect(await start(built.engine, long));
    await until(() => built.runner.steps >= 5);
    return { built, alice, long, order, preempted: () => preempted };
  }

  it.each([0, 5])('makes room for a short one of another tenant (%i more of hers wait)', async (waiting) => {
    const { built, alice, long, order, preempted } = await reading(4, waiting);
    const from = built.runner.steps;
    const bob = await start(built.engine, { tenant: 'bob', prompt: prompt(20), sampling: sampling(1) });
    const answer = await collect(bob);
    expect(built.runner.steps - from).toBeLessThanOrEqual(2 + 3);
    const hers = await collect(alice);
    expect([order.slice(0, 2), preempted()]).toEqual([['bob', 'alice'], 1]);
    await built.engine.close();
    const alone = rig({ runner: { context: 1_024, chunk: 8 } });
    expect(hers.events).toEqual((await generate(alone.engine, long)).events);
    expect(answer.final.kind).toBe('end');
    expect(built.runner.misuses).toEqual([]);
  });

  it('goes on before one that is as long, and before those of its own tenant', async () => {
    const { built, alice, long, order, preempted } = await reading();
    const more = [
      await start(built.engine, { ...long, tenant: 'bob' }),
      await start(built.engine, { tenant: 'alice', prompt: prompt(8), sampling: sampling(1) }),
    ];
    await Promise.all([alice, ...more].map(collect));
    expect([order[0], preempted()]).toEqual(['alice', 0]);
  });

  it('gets on as much as the short ones do together, however many come', async () => {
    const { built, alice, preempted } = await reading();
    let asked = 0;
    let over = false;
    const hurry = async () => {
      while (!over) {
        asked += 1;
        await collect(await start(built.engine, { tenant: 'bob', prompt: prompt(2), sampling: sampling(1) }));
      }
    };
    const crowd = Promise.all([hurry(), hurry(), hurry()]);
    await collect(alice);
    over = true;
    await crowd;
    // Her prompt counts 400 tokens, each of theirs two and one that is generated, which counts twice.
    expect(preempted()).toBeGreaterThan(5);
    expect(preempted()).toBeLessThan(50);
    expect(asked).toBeGreaterThan(50);
    expect(asked).toBeLessThan(400 / 4 + 20);
  });

  it('may end while it is preempted', async () => {
    const { built, alice } = await reading();
    const bob = await start(built.engine, { tenant: 'bob', prompt: prompt(100), sampling: sampling(50) });
    await until(() => built.engine.stats().preempted === 1);
    alice.abort();
    await collect(bob);
    expect((await collect(alice)).final).toMatchObject({ kind: 'aborted' });
    expect(built.runner.misuses).toEqual([]);
    expect(built.runner.occupied).toEqual([]);
  });
});

describe('preemption', () => {
  it('preempts nobody when all swap slots are taken', async () => {
    const { built, alice, bob } = await preemptedOne({ runner: { swapSlots: 1 } });
    const carol = await start(built.engine, { tenant: 'carol', sampling: sampling(5) });
    const ends: string[] = [];
    const watch = (name: string, handle: typeof carol) => collect(handle).then(() => ends.push(name));
    await Promise.all([
      ...[watch('alice', alice[0]!), watch('preempted', alice[1]!)],
      ...[watch('bob', bob), watch('carol', carol)],
    ]);
    expect([...ends].sort()).toEqual(['alice', 'bob', 'carol', 'preempted']);
    expect(ends.indexOf('carol')).toBe(1);
    expect(built.runner.misuses).toEqual([]);
  });

  it('does not preempt a row that advanced by less than a sixteenth', async () => {
    const order: string[] = [];
    const built = rig({
      runner: { slots: 1, context: 512 },
      observer: { onFinish: ({ tenant }) => order.push(tenant) },
    });
    const alice = await start(built.engine, { tenant: 'alice', prompt: prompt(320), sampling: sampling(20) });
    await until(() => built.engine.stats().kvTokens > 320);
    const bob = await start(built.engine, { tenant: 'bob', sampling: sampling(2) });
    await Promise.all([alice, bob].map(collect));
    expect(order).toEqual(['alice', 'bob']);
  });

  it('takes turns where there are more tenants than rows', async () => {
    const preempted: string[] = [];
    const order: string[] = [];
    const built = rig({
      runner: { slots: 1, swapSlots: 2, context: 2_048 },
      observer: {
        onPreempt: ({ tenant }) => preempted.push(tenant),
        onFinish: ({ tenant }) => order.push(tenant),
      },
    });
    const handles = [];
    for (const tenant of ['alice', 'bob', 'carol'])
      handles.push(await start(built.engine, { tenant, sampling: sampling(tenant === 'carol' ? 10 : 600) }));
    await Promise.all(handles.map(collect));
    expect(preempted.slice(0, 2)).toEqual(['alice', 'bob']);
    expect(order[0]).toBe('carol');
    expect(built.runner.misuses).toEqual([]);
  });
});

const below = (random: () => number, limit: number): number => Math.floor(random() * limit);

function randomRequest(random: () => number, entries: readonly ChainEntry[]): Partial<EngineRequest> {
  const temperature = random() < 0.5 ? { temperature: 0.5 + random(), seed: below(random, 1_000) } : {};
  const penalties = { bias: [], repetition: 1.3, frequency: 0.2, presence: 0 };
  return request({
    tenant: `tenant ${below(random, 2 + below(random, 5))}`,
    prompt: Array.from({ length: 1 + below(random, random() < 0.2 ? 100 : 30) }, () => 1 + below(random, 63)),
    chain: random() < 0.5 ? [entries[below(random, entries.length)]!] : [],
    sampling: {
      ...sampling(1 + below(random, random() < 0.4 ? 400 : 40)),
      ...temperature,
      ...(random() < 0.3 ? { adjustments: penalties } : {}),
    },
  });
}

describe('random tenants', () => {
  let preempted = 0;
  it.each(Array.from({ length: 8 }, (_, seed) => seed))(
    'get what each row gives alone, and all of them in the end (seed %i)',
    async (seed) => {
      const random = seededRandom(seed);
      const runner = { slots: 1 + (seed % 5), swapSlots: seed % 4, context: 512, chunk: 8 };
      const crowd = rig({
        runner,
        observer: { onPreempt: () => (preempted += 1) },
        adapterBudgetBytes: 5_000,
      });
      const alone = rig({ runner: { ...runner, slots: 1, swapSlots: 0 } });
      const entries: ChainEntry[] = [];
      for (const name of ['a', 'b', 'c']) {
        entries.push(await crowd.adapter(name));
        await alone.adapter(name);
      }
      const jobs = Array.from({ length: 24 }, async () => {
        for (let turn = below(random, 600); turn > 0; turn -= 1)
          await new Promise((resolve) => setImmediate(resolve));
        const wanted = randomRequest(random, entries);
        const handle = await start(crowd.engine, wanted);
        if (random() < 0.15) {
          for (let turn = below(random, 300); turn > 0; turn -= 1)
            await new Promise((resolve) => setImmediate(resolve));
          handle.abort();
        }
        return { wanted, result: await collect(handle) };
      });
      for (const { wanted, result } of await Promise.all(jobs)) {
        const reference = await generate(alone.engine, wanted);
        if (result.final.kind === 'end') expect(result.events).toEqual(reference.events);
        else expect(reference.ids.slice(0, result.ids.length)).toEqual(result.ids);
      }
      expect(crowd.runner.misuses).toEqual([]);
      expect(crowd.runner.occupied).toEqual([]);
      expect(crowd.engine.stats()).toMatchObject({ running: 0, waiting: 0, preempted: 0, kvTokens: 0 });
      for (const adapter of crowd.engine.residents().adapters) expect(adapter.references).toBe(0);
    },
  );

  it('preempt one another', () => {
    expect(preempted).toBeGreaterThan(0);
  });
});
