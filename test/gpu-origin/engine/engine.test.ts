import { describe, expect, it } from 'vitest';
import { MAX_UNREAD_EVENTS } from '../../../gpu-origin/engine/sequence.ts';
import { wantedPositions } from '../../../gpu-origin/engine/model-executor.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, gate, generate, letterOf, request, rig, start, until } from './harness.ts';

const sampling = (changes: object) => ({ ...GREEDY, maxTokens: 8, ignoreEos: true, ...changes });
const range = (length: number): number[] => Array.from({ length }, (_, index) => (index % 63) + 1);

describe('a request', () => {
  it('gets its tokens, their text and its usage', async () => {
    const { engine, runner } = rig();
    const { ids, text, final } = await generate(engine);
    expect(ids).toHaveLength(8);
    expect(text).toBe(
      ids
        .filter((id) => id !== 0)
        .map(letterOf)
        .join(''),
    );
    expect(final).toEqual({
      kind: 'end',
      finishReason: 'length',
      usage: { prompt_tokens: 3, completion_tokens: 8, total_tokens: 11 },
      tokenIds: ids,
    });
    expect(runner.occupied).toEqual([]);
    expect(runner.misuses).toEqual([]);
  });

  it.each([1, 7, 8, 9, 16, 17, 100])(
    'has the same tokens whatever the chunk, prompt of %i',
    async (length) => {
      const prompt = range(length);
      const small = await generate(rig({ runner: { chunk: 8 } }).engine, { prompt });
      const large = await generate(rig({ runner: { chunk: 128 } }).engine, { prompt });
      expect(small.ids).toEqual(large.ids);
    },
  );

  it('ends at an end-of-sequence token, which is counted but not shown', async () => {
    const { engine } = rig();
    const { ids } = await generate(engine, { sampling: sampling({ maxTokens: 30 }) });
    const ended = rig({ eosTokenIds: [ids[4]!] });
    const first = ids.indexOf(ids[4]!);
    const result = await generate(ended.engine, { sampling: sampling({ ignoreEos: false }) });
    expect(result.ids).toEqual(ids.slice(0, first));
    expect(result.final).toMatchObject({
      finishReason: 'stop',
      usage: { completion_tokens: first + 1 },
      tokenIds: ids.slice(0, first + 1),
    });
  });

  it('fills the context when it has no limit, without one token more', async () => {
    const { engine, runner } = rig({ runner: { context: 40 } });
    const handle = await start(engine, { prompt: range(30), sampling: sampling({ maxTokens: null }) });
    expect(handle).toMatchObject({ promptTokens: 30, maxTokens: 10 });
    expect((await collect(handle)).ids).toHaveLength(10);
    expect(runner.misuses).toEqual([]);
  });

  it('stops at a stop string that lies across tokens', async () => {
    const { engine } = rig();
    const whole = await generate(engine, { sampling: sampling({ maxTokens: 30 }) });
    const at = whole.text.length - 9;
    const stop = whole.text.slice(at, at + 3);
    const shown = whole.text.slice(0, whole.text.indexOf(stop));
    const result = await generate(engine, { sampling: sampling({ maxTokens: 30, stop: ['nothing', stop] }) });
    expect(result.text).toBe(shown);
    expect(result.final).toMatchObject({
      finishReason: 'stop',
      usage: { completion_tokens: shown.length + 3 },
    });
    expect(result.ids).toEqual(whole.ids.slice(0, shown.length));
    // Nothing of it was shown and taken back: the pieces are a growing beginning of the text.
    let text = '';
    for (const event of result.events) if (event.kind === 'tokens') text += event.text;
    expect(shown.startsWith(text)).toBe(true);
  });

  it('shows the text held back for a stop string when it ends otherwise', async () => {
    const { engine } = rig();
    const whole = await generate(engine);
    const stop = `${whole.text.slice(-2)}never`;
    const result = await generate(engine, { sampling: sampling({ stop: [stop] }) });
    expect(result.text).toBe(whole.text);
    expect(result.ids).toEqual(whole.ids);
    expect(result.final).toMatchObject({ finishReason: 'length' });
  });

  it('repeats with a seed beside unseeded requests', async () => {
    const { engine } = rig();
    const seeded = { sampling: sampling({ temperature: 1, seed: 11, maxTokens: 20 }) };
    const [first, , second] = await Promise.all([
      generate(engine, seeded),
      generate(engine, { sampling: sampling({ temperature: 1, maxTokens: 20 }) }),
      generate(engine, seeded),
    ]);
    expect(first!.ids).toEqual(second!.ids);
  });

  it('gives log-probabilities with each token', async () => {
    const { engine } = rig();
    const { events } = await generate(engine, { sampling: sampling({ logprobs: 3 }) });
    for (const event of events)
      if (event.kind === 'tokens')
        for (const token of event.tokens) {
          expect(token.top).toHaveLength(3);
          expect(token.top[0]).toEqual({ id: token.id, logprob: token.logprob });
        }
  });
});

describe('scoring a prompt', () => {
  it.each([1, 2, 8, 9, 20])('of %i tokens gives what generating them gave', async (generated) => {
    const { engine } = rig();
    const prompt = range(5);
    const answer = await generate(engine, {
      prompt,
      sampling: sampling({ maxTokens: generated, logprobs: 2 }),
    });
    const scored = await generate(engine, {
      prompt: [...prompt, ...answer.ids],
      promptLogprobs: 2,
      sampling: sampling({ maxTokens: 0 }),
    });
    expect(scored.events.map((event) => event.kind)).toEqual(['prompt', 'end']);
    expect(scored.final).toMatchObject({ finishReason: 'length', usage: { completion_tokens: 0 } });
    const [event] = scored.events;
    if (event?.kind !== 'prompt') throw new Error('no scores');
    expect(event.tokens.map((token) => token.id)).toEqual([...prompt, ...answer.ids]);
    expect(event.tokens[0]).toEqual({ id: 1, logprob: null, top: [] });
    const generatedTokens = answer.events.flatMap((part) => (part.kind === 'tokens' ? part.tokens : []));
    expect(event.tokens.slice(5)).toEqual(generatedTokens);
  });

  it('goes on to generate when asked to', async () => {
    const { engine, runner } = rig();
    const plain = await generate(engine, { prompt: range(19) });
    const echoed = await generate(engine, { prompt: range(19), promptLogprobs: 0 });
    expect(echoed.ids).toEqual(plain.ids);
    expect(echoed.events[0]).toMatchObject({ kind: 'prompt' });
    expect(runner.misuses).toEqual([]);
  });

  it('of one token needs no logits, and without scores no step at all', async () => {
    const { engine, runner } = rig();
    const one = await generate(engine, {
      prompt: [4],
      promptLogprobs: 1,
      sampling: sampling({ maxTokens: 0 }),
    });
    expect(one.events[0]).toEqual({ kind: 'prompt', tokens: [{ id: 4, logprob: null, top: [] }] });
    const steps = runner.steps;
    const none = await generate(engine, { sampling: sampling({ maxTokens: 0 }) });
    expect(none.events).toHaveLength(1);
    expect(runner.steps).toBe(steps);
  });
});

describe('positions whose logits are asked for', () => {
  it.each([
    [8, null, 0, 8, []],
    [8, null, 16, 20, [3]],
    [8, 0, 0, 8, [0, 1, 2, 3, 4, 5, 6, 7]],
    [8, 0, 16, 20, [0, 1, 2, 3]],
    [0, 0, 16, 20, [0, 1, 2]],
    [0, 0, 19, 20, []],
  ])('max_tokens %i, scores %s, chunk %i-%i: %j', (maxTokens, promptLogprobs, from, to, wanted) => {
    const promptScores = promptLogprobs === null ? null : [];
    expect(wantedPositions({ prompt: range(20), maxTokens, promptScores }, from, to)).toEqual(wanted);
  });
});

describe('refusals before anything is queued', () => {
  it.each([
    [{ prompt: [] }, 'invalid_request'],
    [{ prompt: [1, 64] }, 'invalid_request'],
    [{ prompt: [1, -1] }, 'invalid_request'],
    [{ prompt: [1, 0.5] }, 'invalid_request'],
    [{ prompt: range(32), sampling: sampling({ maxTokens: null }) }, 'context_length_exceeded'],
    [{ prompt: range(32), sampling: sampling({ maxTokens: 8 }) }, 'context_length_exceeded'],
    [{ prompt: range(33), sampling: sampling({ maxTokens: 0 }) }, 'context_length_exceeded'],
  ])('%#: %o', async (changes, code) => {
    const { engine, runner } = rig({ runner: { context: 32 } });
    const added = await engine.add(request(changes));
    expect(added).toMatchObject({ ok: false, error: { code } });
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0 });
    expect(runner.steps).toBe(0);
  });

  it.each([
    { prompt: range(31), sampling: sampling({ maxTokens: null }) },
    { prompt: range(24), sampling: sampling({ maxTokens: 8 }) },
    { prompt: range(32), sampling: sampling({ maxTokens: 0 }), promptLogprobs: 0 },
  ])('admits what just fits: %#', async (changes) => {
    const { engine, runner } = rig({ runner: { context: 32 } });
    expect((await generate(engine, changes)).final.kind).toBe('end');
    expect(runner.misuses).toEqual([]);
  });

  it('lowers a limit to what fits', async () => {
    const { engine, runner } = rig({ runner: { context: 32 } });
    const wanted = { prompt: range(25), sampling: sampling({ maxTokens: 8 }) };
    const added = await engine.add(request(wanted));
    expect(added).toMatchObject({ ok: true, value: { maxTokens: 7 } });
    if (added.ok) added.value.abort();
    expect((await generate(engine, wanted)).final).toMatchObject({
      finishReason: 'length',
      usage: { total_tokens: 32 },
    });
    expect(runner.misuses).toEqual([]);
  });

  it('says both numbers', async () => {
    const added = await rig({ runner: { context: 32 } }).engine.add(request({ prompt: range(40) }));
    if (added.ok) throw new Error('admitted');
    expect(added.error.message).toContain('32');
    expect(added.error.message).toContain('40');
  });

  it('names missing adapters, and reports when one is on its way', async () => {
    const { engine, source, adapter } = rig();
    const held = await adapter('a');
    const missing = ['b', 'c'].map((letter) => ({ digest: letter.repeat(64), scale: 1 }));
    expect(await engine.add(request({ chain: [held, ...missing] }))).toMatchObject({
      ok: false,
      error: { code: 'adapter_missing', missing: missing.map((entry) => entry.digest) },
    });
    source.files.set(missing[0]!.digest, 'receiving');
    expect(await engine.add(request({ chain: [held, missing[0]!] }))).toMatchObject({
      ok: false,
      error: { code: 'adapter_loading' },
    });
    expect(source.reads).toBe(0);
  });
});

describe('the queue', () => {
  it('is full at its limit for a tenant, with a quarter for each of the others', async () => {
    const hold = gate();
    const { engine } = rig({
      maxQueue: 3,
      runner: { slots: 1, duringStep: () => hold.opened },
    });
    const handles = [await start(engine)];
    await until(() => engine.stats().running === 1);
    for (let place = 0; place < 3; place += 1) handles.push(await start(engine));
    expect(await engine.add(request())).toMatchObject({ ok: false, error: { code: 'queue_full' } });
    for (const tenant of ['other', 'third', 'fourth']) handles.push(await start(engine, { tenant }));
    for (const tenant of ['t', 'other', 'fifth'])
      expect(await engine.add(request({ tenant }))).toMatchObject({
        ok: false,
        error: { code: 'queue_full' },
      });
    hold.open();
    for (const { final } of await Promise.all(handles.map(collect))) expect(final.kind).toBe('end');
    expect((await generate(engine)).final.kind).toBe('end');
  });

  it('holds its limit when many come in the same turn', async () => {
    const hold = gate();
    const { engine } = rig({ maxQueue: 5, runner: { slots: 1, duringStep: () => hold.opened } });
    await start(engine);
    await until(() => engine.stats().running === 1);
    const added = await Promise.all(Array.from({ length: 20 }, () => engine.add(request())));
    expect(added.filter((result) => result.ok)).toHaveLength(5);
    expect(engine.stats().waiting).toBe(5);
    hold.open();
    await engine.close();
  });
});

describe('ending early', () => {
  it('an abort frees the row before the next step', async () => {
    const { engine, runner } = rig();
    const controller = new AbortController();
    const other = start(engine, { sampling: sampling({ maxTokens: 40 }) });
    const handle = await start(engine, {
      signal: controller.signal,
      sampling: sampling({ maxTokens: 100 }),
    });
    await until(() => engine.stats().running === 2 && runner.steps > 6);
    const steps = runner.steps;
    controller.abort();
    await until(() => engine.stats().running < 2);
    expect(runner.steps - steps).toBeLessThanOrEqual(1);
    expect((await collect(handle)).final.kind).toBe('aborted');
    expect((await collect(await other)).ids).toHaveLength(40);
  });

  it('leaving the events early aborts', async () => {
    const { engine } = rig();
    const handle = await start(engine, { sampling: sampling({ maxTokens: 200 }) });
    for await (const event of handle.events) if (event.kind === 'tokens') break;
    await until(() => engine.stats().running === 0);
  });

  it('a signal that was aborted before never runs', async () => {
    const { engine, runner } = rig();
    const { final } = await generate(engine, { signal: AbortSignal.abort() });
    expect(final).toMatchObject({ kind: 'aborted', usage: { completion_tokens: 0 } });
    expect(runner.steps).toBe(0);
  });

  it('a reader that does not read is cut off', async () => {
    const { engine } = rig({ runner: { context: 4_096 } });
    const handle = await start(engine, { sampling: sampling({ maxTokens: 4_000 }) });
    await until(() => engine.stats().running === 1);
    await until(() => engine.stats().running === 0);
    const { events, final } = await collect(handle);
    expect(final.kind).toBe('aborted');
    expect(events.length).toBeLessThanOrEqual(MAX_UNREAD_EVENTS + 3);
  });

  it('a deadline ends running, waiting and loading requests', async () => {
    const hold = gate();
    const { engine, clock, adapter, runner } = rig({ runner: { slots: 1, duringLoad: () => hold.opened } });
    const loading = await start(engine, { chain: [await adapter('a')], budgetMs: 50 });
    await until(() => clock.timers.size === 1);
    clock.advance(49);
    expect(engine.stats().loading).toBe(1);
    clock.advance(1);
    expect((await collect(loading)).final).toMatchObject({ error: { code: 'deadline_exceeded' } });

    const running = await start(engine, { budgetMs: 100, sampling: sampling({ maxTokens: 200 }) });
    await until(() => engine.stats().running === 1);
    const waiting = await start(engine, { budgetMs: 20 });
    clock.advance(20);
    expect((await collect(waiting)).final).toMatchObject({ error: { code: 'deadline_exceeded' } });
    expect(engine.stats().running).toBe(1);
    clock.advance(80);
    expect((await collect(running)).final).toMatchObject({ error: { code: 'deadline_exceeded' } });
    expect(runner.occupied).toEqual([]);
    hold.open();
    await until(() => engine.residents().adapters[0]?.state === 'ready');
  });

  it('closing aborts everything and refuses the rest', async () => {
    const { engine, runner } = rig({ runner: { slots: 2 } });
    const handles = await Promise.all(
      Array.from({ length: 5 }, () => start(engine, { sampling: sampling({ maxTokens: 200 }) })),
    );
    await until(() => engine.stats().running === 2);
    await engine.close();
    for (const handle of handles) expect((await collect(handle)).final.kind).toBe('aborted');
    expect(runner.occupied).toEqual([]);
    expect(await engine.add(request())).toMatchObject({ ok: false, error: { code: 'origin_unavailable' } });
  });
});

describe('faults', () => {
  it('an observer that throws is told once and stops nothing', async () => {
    const faults: string[] = [];
    const broken = () => {
      throw new Error('observer');
    };
    const { engine, adapter } = rig({
      observer: {
        onStep: broken,
        onFirstToken: broken,
        onToken: broken,
        onFinish: broken,
        onAdapterLoad: broken,
        onFault: ({ where }) => {
          faults.push(where);
          broken();
        },
      },
    });
    const chain = [await adapter('a')];
    const alone = await generate(rig().engine, { prompt: range(12) });
    for (let repeat = 0; repeat < 2; repeat += 1) {
      expect((await generate(engine, { prompt: range(12) })).ids).toEqual(alone.ids);
      expect((await generate(engine, { chain })).final.kind).toBe('end');
    }
    expect(faults.toSorted()).toEqual(
      ['onAdapterLoad', 'onFinish', 'onFirstToken', 'onStep', 'onToken'].map((name) => `observer ${name}`),
    );
  });

  it('a row with NaN ends alone, in decode and in prefill', async () => {
    const faults: string[] = [];
    const { engine, runner } = rig({
      runner: { poisoned: (tokens) => tokens[0] === 9 && tokens.length > (tokens[1] ?? 9) },
      observer: { onFault: ({ where }) => faults.push(where) },
    });
    const alone = await generate(rig().engine, { prompt: range(12) });
    const [late, early, ...rest] = await Promise.all([
      generate(engine, { prompt: [9, 4] }),
      generate(engine, { prompt: [9, 1] }),
      ...Array.from({ length: 6 }, () => generate(engine, { prompt: range(12) })),
    ]);
    expect(late!.final).toMatchObject({ error: { code: 'internal_error' }, usage: { completion_tokens: 3 } });
    expect(early!.final).toMatchObject({
      error: { code: 'internal_error' },
      usage: { completion_tokens: 0 },
    });
    for (const other of rest) expect(other.ids).toEqual(alone.ids);
    expect(faults).toEqual(['logits', 'logits']);
    expect(runner.misuses).toEqual([]);
    expect(
      (await generate(engine, { prompt: [9, 1], promptLogprobs: 1, sampling: sampling({ maxTokens: 0 }) }))
        .final,
    ).toMatchObject({ kind: 'end' });
    expect(
      (
        await generate(engine, {
          prompt: [9, 1, 2, 3],
          promptLogprobs: 1,
          sampling: sampling({ maxTokens: 0 }),
        })
      ).final,
    ).toMatchObject({ error: { code: 'internal_error' } });
  });

  it.each(['decode', 'prefill'] as const)(
    'an exception in %s fails its rows, and the engine goes on',
    async (kind) => {
      let broken = false;
      const { engine, runner } = rig({
        runner: {
          duringStep: (step) => {
            if (broken && step.kind === kind) throw new Error('out of memory');
          },
        },
      });
      const handles = await Promise.all(
        Array.from({ length: 4 }, () => start(engine, { sampling: sampling({ maxTokens: 60 }) })),
      );
      await until(() => engine.stats().running === 4 && runner.steps > 10);
      broken = true;
      const late = kind === 'prefill' ? await start(engine) : null;
      if (late === null) {
        for (const handle of handles)
          expect((await collect(handle)).final).toMatchObject({ error: { code: 'internal_error' } });
      } else {
        expect((await collect(late)).final).toMatchObject({ error: { code: 'internal_error' } });
        for (const handle of handles) expect((await collect(handle)).final.kind).toBe('end');
      }
      broken = false;
      expect((await generate(engine)).final.kind).toBe('end');
      expect(runner.occupied).toEqual([]);
      expect(runner.misuses).toEqual([]);
    },
  );
});
