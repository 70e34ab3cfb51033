/** Activated adapters: which delta acts on which token, and who shares what is read before it acts. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { stagesOf } from '../../../gpu-origin/engine/adapters/activation.ts';
import type { EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { lastOccurrence } from '../../../protocol/activation.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { FakeRunnerOptions } from '../fake-runner.ts';
import { collect, digestOf, generate, rig, start, until, type Rig } from './harness.ts';

const CHUNK = 8;
/** What activates `alice`, `bob` and `carol`; `dave` waits for something else. */
const CALL = [61, 62];
const DEEPER = [63];
const tokens = (length: number, seed = 0): number[] =>
  Array.from({ length }, (_, i) => 1 + ((i * 7 + seed * 13 + i * i) % 60));
const SYSTEM = tokens(3 * CHUNK + 3);

const INVOCATIONS: Record<string, readonly number[]> = {
  alice: CALL,
  bob: CALL,
  carol: CALL,
  'on medicine': CALL,
  deeper: DEEPER,
};
const STACKED = new Set(['on medicine', 'deeper', 'plain child']);
const names = ['medicine', 'plain child', ...Object.keys(INVOCATIONS)];
const byDigest = new Map(await Promise.all(names.map(async (name) => [await digestOf(name), name] as const)));
const nameOf = (digest: string): string => byDigest.get(digest)!;

describe('activated adapters', () => {
  let opened: Rig[] = [];
  afterEach(async () => {
    for (const { engine, runner } of opened) {
      await engine.close();
      expect(runner.misuses).toEqual([]);
      expect(runner.occupied).toEqual([]);
    }
    opened = [];
  });

  /** Also counts the tokens that the model reads of prompts, and what acts on the rows. */
  function counting(options: FakeRunnerOptions = {}) {
    const seen = { read: 0, deltas: [] as string[], preempted: new Set<string>() };
    const made = rig({
      observer: { onPreempt: ({ tenant }) => seen.preempted.add(tenant) },
      runner: {
        ...{ blocks: 64, chunk: CHUNK },
        invocation: (digest) => INVOCATIONS[nameOf(digest)] ?? null,
        stacked: (digest) => STACKED.has(nameOf(digest)),
        duringStep: ({ rows }) => {
          for (const { delta } of rows)
            seen.deltas.push(delta.replaceAll(/[0-9a-f]{64}/g, (digest) => nameOf(digest)));
        },
        ...options,
      },
    });
    const prefill = made.runner.prefill.bind(made.runner);
    made.runner.prefill = (params) => {
      if ((params.parts?.from ?? 0) === 0) seen.read += params.tokens.length;
      return prefill(params);
    };
    opened.push(made);
    return { ...made, seen };
  }
  type Counting = ReturnType<typeof counting>;

  const chainOf = (made: Counting, ...chain: string[]): Promise<ChainEntry[]> =>
    Promise.all(chain.map((name) => made.adapter(name)));

  /** @returns tokens that were read for the prompt, the answer, and what acted in the last step. */
  async function ask(made: Counting, chain: readonly string[], changes: Partial<EngineRequest>) {
    made.seen.read = 0;
    made.seen.deltas = [];
    const { ids, final } = await generate(made.engine, { ...changes, chain: await chainOf(made, ...chain) });
    if (final.kind !== 'end') throw new Error(JSON.stringify(final));
    const cached = final.usage.prompt_tokens_details?.cached_tokens ?? 0;
    return { read: made.seen.read, cached, ids, acts: made.seen.deltas.at(-1)! };
  }

  it('act from the first invocation token on, and on the whole answer', async () => {
    const made = counting();
    const prompt = [...SYSTEM, ...CALL, 5, 6];
    const { acts, read } = await ask(made, ['alice'], { prompt });
    expect([acts, read]).toEqual([`|${SYSTEM.length}:alice*1`, prompt.length]);
    // The base reads whole chunks, then up to the border.
    expect(made.seen.deltas.slice(0, 5)).toEqual(['', '', '', '', `|${SYSTEM.length}:alice*1`]);
  });

  it("share what is read before: the second user's prompt is read from the border on", async () => {
    const made = counting();
    const prompt = [...SYSTEM, ...CALL, 5, 6];
    const first = await ask(made, ['alice'], { prompt });
    expect([first.read, first.cached]).toEqual([prompt.length, 0]);
    for (const name of ['bob', 'carol']) {
      const second = await ask(made, [name], { prompt });
      expect([second.read, second.cached]).toEqual([CALL.length + 2, SYSTEM.length]);
      expect(second).toEqual({
        ...(await ask(counting({ blocks: 0 }), [name], { prompt })),
        read: 4,
        cached: 27,
      });
    }
  });

  it("share with the base's own requests, in whole chunks", async () => {
    const made = counting();
    await ask(made, [], { prompt: [...SYSTEM, 5, 6] });
    const activated = await ask(made, ['alice'], { prompt: [...SYSTEM, ...CALL] });
    expect(activated.cached).toBe(3 * CHUNK);
    expect((await ask(made, [], { prompt: [...SYSTEM, 7] })).cached).toBe(3 * CHUNK);
  });

  it('never share with another tenant, whoever owns the adapter', async () => {
    const made = counting();
    const prompt = [...SYSTEM, ...CALL];
    await ask(made, ['alice'], { prompt, tenant: 'hospital' });
    expect(await ask(made, ['alice'], { prompt, tenant: 'clinic' })).toMatchObject({
      read: prompt.length,
      cached: 0,
    });
    expect(await ask(made, ['bob'], { prompt, tenant: 'clinic' })).toMatchObject({
      read: 2,
      cached: SYSTEM.length,
    });
  });

  it('share nothing behind the border', async () => {
    const made = counting();
    const prompt = [...SYSTEM, ...CALL, ...tokens(3 * CHUNK, 4)];
    await ask(made, ['alice'], { prompt });
    expect(await ask(made, ['bob'], { prompt })).toMatchObject({ cached: SYSTEM.length });
    // The same adapter's are its own.
    expect((await ask(made, ['alice'], { prompt })).cached).toBe(
      Math.floor((prompt.length - 1) / CHUNK) * CHUNK,
    );
  });

  it('do not act without their invocation, nor on that of an answer', async () => {
    const made = counting();
    const base = await ask(made, [], { prompt: SYSTEM });
    const silent = await ask(made, ['alice'], { prompt: SYSTEM });
    expect([silent.acts, silent.ids]).toEqual(['', base.ids]);
    expect(silent.cached).toBe(3 * CHUNK);
    const prompt = [...SYSTEM, ...CALL, 5, ...CALL, 6];
    const forced = { prompt, promptLogprobs: 0, sampling: { ...GREEDY, maxTokens: 0 } };
    expect((await ask(made, ['alice'], forced)).acts).toBe(`|${SYSTEM.length + 3}:alice*1`);
    const answer = { ...forced, answerFrom: SYSTEM.length + 2 };
    expect((await ask(made, ['alice'], answer)).acts).toBe(`|${SYSTEM.length}:alice*1`);
  });

  it('act from the first token on, if the prompt begins with their invocation', async () => {
    const made = counting();
    expect((await ask(made, ['alice'], { prompt: [...CALL, 5] })).acts).toBe('alice*1');
  });

  it('lie on plain parents, whose prefix is shared by all that lie on them', async () => {
    const made = counting();
    const prompt = [...SYSTEM, ...CALL, 5];
    await ask(made, ['medicine'], { prompt: [...SYSTEM, 9] });
    const { cached, acts } = await ask(made, ['medicine', 'on medicine'], { prompt });
    expect([cached, acts]).toEqual([3 * CHUNK, `medicine*1|${SYSTEM.length}:medicine*1+on medicine*1`]);
    expect((await ask(made, ['alice'], { prompt })).cached).toBe(0);
  });

  it('form chains with a border each, a child never before its parent', async () => {
    const made = counting();
    const at = SYSTEM.length;
    const both = [...SYSTEM, ...CALL, 5, 6, ...DEEPER, 7];
    expect((await ask(made, ['alice', 'deeper'], { prompt: both })).acts).toBe(
      `|${at}:alice*1|${at + 4}:alice*1+deeper*1`,
    );
    const reversed = [...SYSTEM, ...DEEPER, 5, ...CALL, 7];
    expect((await ask(made, ['alice', 'deeper'], { prompt: reversed })).acts).toBe(
      `|${at + 2}:alice*1+deeper*1`,
    );
    // The child waits for a parent that never acts; a sibling does not.
    const childOnly = [...SYSTEM, ...DEEPER, 7];
    expect((await ask(made, ['alice', 'deeper'], { prompt: childOnly })).acts).toBe('');
    expect((await ask(made, ['alice', 'medicine'], { prompt: childOnly })).acts).toBe('medicine*1');
  });

  it('refuse a plain child of an activated parent', async () => {
    const made = counting();
    const chain = await chainOf(made, 'alice', 'plain child');
    const { final } = await generate(made.engine, { chain, prompt: SYSTEM });
    expect(final).toMatchObject({
      kind: 'error',
      error: { code: 'adapter_invalid', reason: 'parent_mismatch' },
    });
    expect(made.engine.residents().adapters.map(({ references }) => references)).toEqual([0, 0]);
  });

  it('are read in parts, preempted and continued with the same answers', async () => {
    const prompt = [...tokens(20 * CHUNK + 3), ...CALL, ...tokens(CHUNK, 3)];
    const alone = await ask(counting({ blocks: 0, context: 512 }), ['alice'], { prompt });
    const made = counting({ parts: 3, slots: 2, swapSlots: 2, blocks: 0, context: 512 });
    const sampling = { ...GREEDY, maxTokens: 100, ignoreEos: true };
    const chain = await chainOf(made, 'alice');
    // Two rows that decode, then a long prompt; another tenant's short ones come in between.
    const others = [await start(made.engine, { tenant: 'x', sampling, prompt: [1, 2] })];
    const long = await start(made.engine, { tenant: 'long', prompt, chain });
    await until(() => made.engine.stats().kvTokens > 6 * CHUNK);
    for (let i = 0; i < 6; i += 1) {
      others.push(await start(made.engine, { tenant: `y${i}`, prompt: [3, 4, ...CALL], chain }));
      const before = made.runner.steps;
      await until(() => made.runner.steps > before + 3);
    }
    const [{ ids }] = await Promise.all([collect(long), ...others.map(collect)]);
    expect(ids).toEqual(alone.ids);
    expect([...made.seen.preempted]).toContain('long');
  });

  it('give each token what acts there, whatever the prompt, chain, cache and parts', async () => {
    const chains = [
      ['alice'],
      ['medicine', 'on medicine'],
      ['alice', 'deeper'],
      ['medicine', 'on medicine', 'deeper'],
    ];
    const pieces = fc.array(
      fc.oneof(
        { weight: 3, arbitrary: fc.integer({ min: 0, max: 12 }).map((length) => tokens(length, length % 3)) },
        fc.constantFrom(CALL, DEEPER, [61]),
      ),
      { minLength: 1, maxLength: 6 },
    );
    const asked = fc.array(fc.record({ chain: fc.constantFrom(...chains), prompt: pieces }), {
      minLength: 1,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(
        asked,
        fc.constantFrom(0, 3, 64),
        fc.integer({ min: 1, max: 3 }),
        async (all, blocks, parts) => {
          const made = counting({ blocks, parts });
          for (const { chain, prompt: some } of all) {
            const prompt = [...some.flat(), 1];
            const adapters = new Map(
              await Promise.all(
                chain.map(async (name) => {
                  const acting = { invocation: INVOCATIONS[name] ?? null, stacked: STACKED.has(name) };
                  return [await digestOf(name), acting] as const;
                }),
              ),
            );
            const wanted = stagesOf(await chainOf(made, ...chain), adapters, prompt)
              .map(({ from, chain: acting }) => {
                const key = acting.map(({ digest }) => `${nameOf(digest)}*1`).join('+');
                return from === 0 ? key : `|${from}:${key}`;
              })
              .join('');
            expect((await ask(made, chain, { prompt })).acts).toBe(wanted);
          }
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });
});

describe('the last occurrence', () => {
  it('is where a naive search from the end finds it', () => {
    const small = (most: number) =>
      fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: most });
    fc.assert(
      fc.property(small(40), small(5), (all, wanted) => {
        let naive = Infinity;
        for (let at = 0; at + wanted.length <= all.length; at += 1)
          if (wanted.every((id, i) => all[at + i] === id)) naive = at;
        expect(lastOccurrence(all, wanted)).toBe(naive);
      }),
      { numRuns: 2_000, seed: 1 },
    );
  });

  it('counts overlapping ones', () => {
    expect(lastOccurrence([1, 1, 1], [1, 1])).toBe(1);
    expect(lastOccurrence([1, 2, 1, 2, 1], [1, 2, 1])).toBe(2);
  });
});
