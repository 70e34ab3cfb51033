/** The memory that a decode batch takes for its rows' deltas counts in the budget for adapters. */
import { describe, expect, it } from 'vitest';
import { Engine, type EngineStats } from '../../../gpu-origin/engine/engine.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { FAKE_RANK_BYTES, type FakeRunnerOptions, type FakeStep } from '../fake-runner.ts';
import { TINY_LLAMA, tinyModules } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';
import {
  collect,
  digestOf,
  generate,
  letters,
  MemorySource,
  request,
  rig,
  start,
  TestClock,
  until,
} from './harness.ts';

const sampling = (maxTokens: number) => ({ ...GREEDY, maxTokens, ignoreEos: true });
const SMALL = 8;
const BIG = 64;

/** The most bytes that adapters, composed deltas and the padded rows of a decode step took together. */
async function crowdedRig(params: { budget: number; ranks: Record<string, number> } & FakeRunnerOptions) {
  const { budget, ranks, ...runnerOptions } = params;
  const byDigest = new Map<string, number>();
  for (const [name, rank] of Object.entries(ranks)) byDigest.set(await digestOf(name), rank);
  const seen = { most: 0, widest: 0, widestWithBig: 0 };
  const built = rig({
    adapterBudgetBytes: budget,
    runner: {
      rank: (digest) => byDigest.get(digest) ?? SMALL,
      ...runnerOptions,
      duringStep: ({ kind, rows }: FakeStep) => {
        const adapters = built.runner.loaded.reduce((sum, adapter) => sum + adapter.bytes, 0);
        const widest = Math.max(0, ...rows.map(({ delta }) => byDigest.get(delta.split('*')[0]!) ?? 0));
        const padded = kind === 'decode' && rows.length > 1 ? rows.length * widest * FAKE_RANK_BYTES : 0;
        seen.most = Math.max(seen.most, adapters + padded);
        if (kind === 'decode') seen.widest = Math.max(seen.widest, rows.length);
        if (kind === 'decode' && widest === BIG)
          seen.widestWithBig = Math.max(seen.widestWithBig, rows.length);
      },
    },
  });
  return { ...built, seen };
}

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `small ${index}`);
const ranksOf = (small: number): Record<string, number> => ({
  ...Object.fromEntries(names(small).map((name) => [name, SMALL])),
  big: BIG,
});

describe('the memory of a decode batch', () => {
  it('counts in the budget: one row of a high rank does not make the others overrun it', async () => {
    // 15 small adapters and the big one are 23,000 bytes; 16 rows padded to the big one's rank would be 128,000 more.
    const budget = 70_000;
    const { engine, runner, adapter, seen } = await crowdedRig({ budget, ranks: ranksOf(15) });
    for (const name of [...names(15), 'big'])
      await generate(engine, { chain: [await adapter(name)], sampling: sampling(2) });
    const chains = await Promise.all(
      [...names(7), 'big', ...names(15).slice(7)].map((name) => adapter(name)),
    );
    const answers = await Promise.all(
      chains.map((entry) => generate(engine, { chain: [entry], sampling: sampling(40) })),
    );
    for (const { final } of answers) expect(final.kind).toBe('end');
    expect(seen.most).toBeLessThanOrEqual(budget);
    // Beside the big one as many run as fit, and without it all others.
    expect(seen.widestWithBig).toBeGreaterThanOrEqual(4);
    expect(seen.widest).toBeGreaterThanOrEqual(8);
    expect(runner.misuses).toEqual([]);
  });

  it('counts for rows of the base model as well', async () => {
    const budget = 30_000;
    const { engine, adapter, seen } = await crowdedRig({ budget, ranks: ranksOf(0) });
    const big = { chain: [await adapter('big')], sampling: sampling(60) };
    const rows = [big, ...Array.from({ length: 15 }, () => ({ sampling: sampling(60) }))];
    const answers = await Promise.all(rows.map((row) => generate(engine, row)));
    for (const { final } of answers) expect(final.kind).toBe('end');
    expect(seen.most).toBeLessThanOrEqual(budget);
    expect(seen.widest).toBe(15);
  });

  it('keeps nobody out forever: a row that fits only alone is served in its turn', async () => {
    // The big one and one more row padded to its rank do not fit.
    const { engine, adapter, seen } = await crowdedRig({ budget: 20_000, ranks: ranksOf(4), slots: 4 });
    const small = await Promise.all(names(4).map((name) => adapter(name)));
    let stop = false;
    let served = 0;
    const traffic = small
      .flatMap((entry) => [entry, entry])
      .map(async (entry, index) => {
        while (!stop) {
          await generate(engine, { chain: [entry], tenant: `t${index % 4}`, sampling: sampling(12) });
          served += 1;
        }
      });
    await until(() => served > 40);
    const before = served;
    const answer = await generate(engine, { chain: [await adapter('big')], tenant: 'big' });
    expect(answer.final.kind).toBe('end');
    // Eight may pass it before it holds its adapter and eight after, up to eight held theirs, four ran, some end beside it.
    expect(served - before).toBeLessThanOrEqual(40);
    expect(seen.widestWithBig).toBe(1);
    expect(seen.widest).toBe(4);
    expect(seen.most).toBeLessThanOrEqual(20_000);
    stop = true;
    await Promise.all(traffic);
  });

  it('lets one run that is larger than the budget, alone', async () => {
    const { engine, adapter, seen } = await crowdedRig({ budget: 3_000, ranks: ranksOf(2) });
    const chains = await Promise.all(['big', ...names(2), 'big'].map((name) => adapter(name)));
    const answers = await Promise.all(chains.map((entry) => generate(engine, { chain: [entry] })));
    for (const { final } of answers) expect(final.kind).toBe('end');
    expect(seen.widestWithBig).toBe(1);
  });

  it('lets a chain run beside adapters that are pinned', async () => {
    const { engine, adapter } = await crowdedRig({ budget: 10_000, ranks: ranksOf(4) });
    // Its size is known from now on.
    await generate(engine, { chain: [await adapter('big')] });
    for (const name of names(4))
      expect((await engine.prefetch((await adapter(name)).digest, { pinned: true })).ok).toBe(true);
    expect((await generate(engine, { chain: [await adapter('big')] })).final.kind).toBe('end');
  });

  it('does not go to adapters that only wait: a full batch of those that fit runs', async () => {
    // Four rows of 1,000 bytes and as much again for the batch; look-ahead alone could hold all of it.
    const ranks = Object.fromEntries(names(12).map((name) => [name, SMALL]));
    const { engine, adapter, seen } = await crowdedRig({ budget: 8_000, ranks, slots: 4 });
    const chains = await Promise.all(names(12).map((name) => adapter(name)));
    for (const entry of chains) await generate(engine, { chain: [entry], sampling: sampling(2) });
    const rows = [...chains, ...chains, ...chains].map((entry) =>
      start(engine, { chain: [entry], sampling: sampling(20) }),
    );
    for (const { final } of await Promise.all((await Promise.all(rows)).map(collect)))
      expect(final.kind).toBe('end');
    expect(seen.widest).toBe(4);
    expect(seen.most).toBeLessThanOrEqual(8_000);
  });

  it("is shared by turns: a row is preempted when another tenant's row has a slot but no memory", async () => {
    let preempted = 0;
    const finished: string[] = [];
    const big = await digestOf('big');
    const { engine, adapter } = rig({
      // The big adapter, and six rows that are padded to its rank.
      adapterBudgetBytes: 60_000,
      observer: { onPreempt: () => (preempted += 1), onFinish: ({ tenant }) => finished.push(tenant) },
      runner: { rank: (digest) => (digest === big ? BIG : SMALL), context: 1_024 },
    });
    const chain = [await adapter('big')];
    const crowd = await Promise.all(
      Array.from({ length: 12 }, () => start(engine, { tenant: 'crowd', chain, sampling: sampling(900) })),
    );
    await until(() => engine.stats().running === 6);
    const other = await generate(engine, { tenant: 'other', sampling: sampling(5) });
    expect(other.final.kind).toBe('end');
    expect(finished).toEqual(['other']);
    expect(preempted).toBe(1);
    for (const handle of crowd) handle.abort();
    await Promise.all(crowd.map(collect));
  });

  it('counts as used while it is held, and is freed before adapters once most of it is unneeded', async () => {
    const { engine, runner, adapter } = await crowdedRig({
      ...{ budget: 30_000, ranks: ranksOf(8), context: 1_024 },
    });
    const big = { chain: [await adapter('big')], sampling: sampling(900) };
    const pair = await Promise.all([start(engine, big), start(engine, big)]);
    await until(() => runner.batchHeldBytes > 0);
    for (const handle of pair) handle.abort();
    await Promise.all(pair.map(collect));
    expect(runner.batchHeldBytes).toBe(2 * BIG * FAKE_RANK_BYTES);
    expect(engine.residents().used_bytes).toBe(3 * BIG * FAKE_RANK_BYTES);
    for (const name of names(8)) await generate(engine, { chain: [await adapter(name)] });
    expect(runner.batchHeldBytes).toBe(0);
    expect(engine.residents()).toMatchObject({ used_bytes: 16_000, adapters: { length: 9 } });
  });
});

it('the real runner keeps to the budget, and its rows to their tokens', async () => {
  const wide = tinyModules(TINY_LLAMA);
  const rankBytes = [...wide.values()].reduce((sum, [inputs, outputs]) => sum + 4 * (inputs + outputs), 0);
  const tiny = await makeTinyRunner({ slots: 8 });
  const targets = [...new Set([...wide.keys()].map((name) => name.split('.').at(-1)!))];
  const source = new MemorySource();
  const chains: { digest: string; scale: number }[][] = [];
  for (let seed = 0; seed < 8; seed += 1) {
    const rank = seed === 3 ? BIG : 4;
    const { bytes, digest } = await tiny.file(`adapter ${seed}`, {
      seed: seed + 20,
      rank,
      alpha: rank,
      targets,
    });
    source.files.set(digest, bytes);
    chains.push([{ digest, scale: 1 }]);
  }
  const run = async (budget: number) => {
    let most = 0;
    let bigRuns = false;
    let stats: EngineStats | null = null;
    const engine = new Engine({
      runner: tiny.runner,
      source,
      clock: new TestClock(),
      tokens: letters,
      eosTokenIds: [0],
      random: () => 0.5,
      observer: {
        onStep: ({ kind, batch }) => {
          const resident = engine.residents().adapters.reduce((sum, { bytes }) => sum + bytes, 0);
          const padded = kind === 'decode' && bigRuns && batch > 1 ? batch * BIG * rankBytes : 0;
          most = Math.max(most, resident + padded);
        },
      },
      maxQueue: 16,
      adapterBudgetBytes: budget,
    });
    const answers = await Promise.all(
      chains.map(async (chain, index) => {
        const added = await engine.add(request({ chain, prompt: [5, index + 1, 9], sampling: sampling(12) }));
        if (!added.ok) throw new Error(added.error.message);
        const ids: number[] = [];
        for await (const event of added.value.events) {
          if (event.kind === 'tokens') ids.push(...event.tokens.map(({ id }) => id));
          if (index === 3) bigRuns = event.kind === 'tokens' && ids.length < 11;
        }
        return ids;
      }),
    );
    stats = engine.stats();
    await engine.close();
    return { answers, most, stats };
  };
  // All adapters, and three rows that are padded to the big one's rank.
  const budget = (7 * 4 + BIG) * rankBytes + 3 * BIG * rankBytes;
  const roomy = await run(1e9);
  expect(roomy.most).toBeGreaterThan(budget);
  const tight = await run(budget);
  expect(tight.answers).toEqual(roomy.answers);
  expect(tight.most).toBeLessThanOrEqual(budget);
  await tiny.close();
});
