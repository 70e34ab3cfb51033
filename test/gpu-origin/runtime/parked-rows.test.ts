import { expect, it } from 'vitest';
import { Engine, type EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';
import { collect, letters, MemorySource, request, TestClock, until } from '../engine/harness.ts';

const asked = (tenant: string, first: number, maxTokens: number): EngineRequest =>
  request({
    tenant,
    prompt: [first, 7, 9, 11],
    sampling: { ...GREEDY, maxTokens, ignoreEos: true, logprobs: 3 },
  });

it('a preempted row of the real runner continues with the log-probabilities it has alone', async () => {
  const tiny = await makeTinyRunner({ slots: 2 });
  let preempted = 0;
  let steps = 0;
  const engine = new Engine({
    runner: tiny.runner,
    source: new MemorySource(),
    clock: new TestClock(),
    tokens: letters,
    eosTokenIds: [0],
    random: () => 0.5,
    observer: { onPreempt: () => (preempted += 1), onStep: () => (steps += 1) },
    maxQueue: 8,
    adapterBudgetBytes: 1_000,
  });
  const start = async (wanted: EngineRequest) => {
    const added = await engine.add(wanted);
    if (!added.ok) throw new Error(added.error.message);
    return collect(added.value);
  };
  const wanted = [asked('alice', 1, 130), asked('alice', 2, 130), asked('bob', 3, 20)] as const;
  const alice = wanted.slice(0, 2).map(start);
  await until(() => steps > 75);
  const crowded = await Promise.all([...alice, start(wanted[2])]);
  expect(preempted).toBe(1);
  for (const [row, each] of wanted.entries())
    expect(crowded[row]!.events).toEqual((await start(each)).events);
  await engine.close();
  await tiny.close();
});
