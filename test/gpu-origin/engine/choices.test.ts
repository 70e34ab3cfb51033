import { describe, expect, it } from 'vitest';
import type { EngineHandle, EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { choiceSeeds, GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, gate, generate, request, rig, start, until, type Rig } from './harness.ts';

const drawn = { ...GREEDY, temperature: 1, maxTokens: 12, ignoreEos: true };

async function choices(built: Rig, changes: Partial<EngineRequest>, seeds: readonly (number | null)[]) {
  const added = await built.engine.addChoices(request(changes), seeds);
  if (!added.ok) throw new Error(added.error.message);
  return added.value;
}
const all = (handles: readonly EngineHandle[]) => Promise.all(handles.map(collect));

describe('several answers to one request', () => {
  it('each equal a single request with that seed', async () => {
    const built = rig();
    const entry = await built.adapter('a');
    const changes = { sampling: { ...drawn, logprobs: 2 }, chain: [entry] };
    const answers = await all(await choices(built, changes, choiceSeeds(40, 8)));
    for (const [choice, answer] of answers.entries()) {
      const sampling = { ...changes.sampling, seed: 40 + choice };
      expect(answer.events).toEqual((await generate(built.engine, { ...changes, sampling })).events);
    }
    expect(new Set(answers.map(({ text }) => text)).size).toBe(8);
    expect(built.engine.residents().adapters[0]?.references).toBe(0);
    expect(built.runner.misuses).toEqual([]);
  });

  it('run one after the other when there are fewer slots', async () => {
    const built = rig({ runner: { slots: 1 }, maxQueue: 8 });
    const answers = await all(await choices(built, { sampling: drawn }, choiceSeeds(1, 8)));
    expect(answers.every(({ final }) => final.kind === 'end')).toBe(true);
  });

  it('end together when the client goes', async () => {
    const built = rig({ runner: { slots: 2, context: 4_000 } });
    const gone = new AbortController();
    const handles = await choices(
      built,
      { sampling: { ...drawn, maxTokens: 3_000 }, signal: gone.signal },
      choiceSeeds(null, 5),
    );
    await until(() => built.engine.stats().running === 2);
    gone.abort();
    expect((await all(handles)).map(({ final }) => final.kind)).toEqual(new Array(5).fill('aborted'));
    expect(built.engine.stats()).toMatchObject({ running: 0, waiting: 0, kvTokens: 0 });
  });

  it('stop each where its own text does', async () => {
    const built = rig();
    const free = await all(await choices(built, { sampling: drawn }, choiceSeeds(3, 4)));
    const stop = [free[1]!.text[4]!];
    const stopped = await all(await choices(built, { sampling: { ...drawn, stop } }, choiceSeeds(3, 4)));
    for (const [choice, answer] of stopped.entries()) {
      const at = free[choice]!.text.indexOf(stop[0]!);
      expect(answer.text).toBe(at < 0 ? free[choice]!.text : free[choice]!.text.slice(0, at));
    }
  });

  it('are counted as so many by the queue, all or none', async () => {
    const { opened, open } = gate();
    const refused: string[] = [];
    const built = rig({
      runner: { slots: 1, duringStep: () => opened },
      maxQueue: 4,
      observer: { onRefuse: ({ error }) => refused.push(error.code) },
    });
    const running = await start(built.engine);
    await until(() => built.engine.stats().running === 1);
    const add = (rows: number, tenant = 't') =>
      built.engine.addChoices(request({ tenant }), choiceSeeds(null, rows));
    const three = await add(3);
    expect(three.ok).toBe(true);
    expect(await add(2)).toMatchObject({
      ok: false,
      error: { code: 'queue_full', retryAfterMs: expect.any(Number) },
    });
    expect(built.engine.stats().waiting).toBe(3);
    expect((await add(1)).ok).toBe(true);
    // A newcomer's first request gets in, within twice the queue's size.
    expect((await add(5, 'new')).ok).toBe(false);
    expect((await add(4, 'new')).ok).toBe(true);
    expect((await add(1, 'new')).ok).toBe(false);
    expect(refused).toEqual(['queue_full', 'queue_full', 'queue_full']);
    open();
    await collect(running);
    await built.engine.close();
  });

  it('are refused permanently when they never fit', async () => {
    const built = rig({ runner: { slots: 2 }, maxQueue: 5 });
    const add = (rows: number) => built.engine.addChoices(request(), choiceSeeds(null, rows));
    expect(await add(8)).toMatchObject({ error: { code: 'queue_full', retryAfterMs: null } });
    const seven = await add(7);
    expect(seven.ok).toBe(true);
    await built.engine.close();
  });
});

describe('adjusted logits in a batch', () => {
  it('leave the neighbours bit-equal', async () => {
    const sampling = { ...drawn, maxTokens: 24, logprobs: 4 };
    const wild = {
      ...sampling,
      minP: 0.3,
      adjustments: {
        bias: [[5, 100] as const, [6, -100] as const],
        repetition: 2,
        frequency: 2,
        presence: -2,
      },
    };
    const canary = { prompt: [9, 8, 7], sampling: { ...sampling, seed: 11 } };
    const built = rig();
    const alone = await generate(built.engine, canary);
    const rows = [canary, ...Array.from({ length: 6 }, () => ({ sampling: wild })), canary];
    const answers = await all(await Promise.all(rows.map((changes) => start(built.engine, changes))));
    expect(answers[0]!.events).toEqual(alone.events);
    expect(answers.at(-1)!.events).toEqual(alone.events);
  });

  it('name a token that the base does not have', async () => {
    const { engine } = rig();
    const adjustments = (id: number) => ({
      bias: [[id, 1] as const],
      repetition: 1,
      frequency: 0,
      presence: 0,
    });
    const added = (id: number) =>
      engine.add(request({ sampling: { ...drawn, adjustments: adjustments(id) } }));
    expect((await added(63)).ok).toBe(true);
    expect(await added(64)).toMatchObject({ error: { code: 'invalid_request', param: 'logit_bias.64' } });
  });

  it('never say twice what presence forbids', async () => {
    const { engine } = rig();
    const adjustments = { bias: [], repetition: 1, frequency: 0, presence: 100 };
    const { ids } = await generate(engine, {
      sampling: { ...GREEDY, ignoreEos: true, maxTokens: 60, adjustments },
    });
    expect(new Set(ids).size).toBe(60);
  });
});
