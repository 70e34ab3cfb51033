import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { chunkEnd, PrefixCache } from '../../../gpu-origin/engine/kv-cache-manager.ts';
import type { EngineHandle, EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { collect, generate, request, rig, start, type Rig } from './harness.ts';

const CHUNK = 8;
const tokens = (length: number, seed = 0): number[] =>
  Array.from({ length }, (_, i) => 1 + ((i * 7 + seed * 13 + i * i) % 60));

describe('prompts that come again', () => {
  let opened: Rig[] = [];
  afterEach(async () => {
    for (const { engine, runner } of opened) {
      await engine.close();
      expect(runner.misuses).toEqual([]);
    }
    opened = [];
  });

  const keeping = (blocks: number): Rig => {
    const made = rig({ runner: { blocks, chunk: CHUNK } });
    opened.push(made);
    return made;
  };

  /** Chunks that the model reads for a request. @returns them with its end. */
  async function ask(made: Rig, changes: Partial<EngineRequest>) {
    let steps = 0;
    const { runner } = made;
    const prefill = runner.prefill.bind(runner);
    runner.prefill = (params) => {
      steps += 1;
      return prefill(params);
    };
    const { ids, final } = await generate(made.engine, changes);
    runner.prefill = prefill;
    if (final.kind !== 'end') throw new Error(final.kind);
    return { chunks: steps, ids, cached: final.usage.prompt_tokens_details?.cached_tokens ?? 0 };
  }

  it('are read from the first new chunk on, with the same answer and usage', async () => {
    const made = keeping(64);
    const first = tokens(3 * CHUNK + 3);
    expect(await ask(made, { prompt: first })).toMatchObject({ chunks: 4, cached: 0 });
    const next = [...first, ...tokens(CHUNK, 5)];
    const again = await ask(made, { prompt: next });
    expect(again).toMatchObject({ chunks: 2, cached: 3 * CHUNK });
    const without = await ask(keeping(0), { prompt: next });
    expect(without).toEqual({ chunks: 5, ids: again.ids, cached: 0 });
    expect(made.engine.stats().prefixBytes).toBe(4 * made.runner.blockBytes);
  });

  it('have their last token read, if they are whole chunks', async () => {
    const made = keeping(64);
    const prompt = tokens(2 * CHUNK);
    const first = await ask(made, { prompt });
    expect(await ask(made, { prompt })).toEqual({ ...first, chunks: 1, cached: CHUNK });
  });

  it('are read again for another tenant, another chain and another beginning', async () => {
    const made = keeping(64);
    const [eight, nine] = [await made.adapter('eight'), await made.adapter('nine')];
    const prompt = tokens(3 * CHUNK + 1);
    const asked: Partial<EngineRequest>[] = [
      { prompt },
      { prompt, tenant: 'other' },
      { prompt, chain: [eight] },
      { prompt, chain: [nine] },
      { prompt, chain: [eight, nine] },
      { prompt, chain: [{ ...eight, scale: 0.5 }] },
      { prompt: [9, ...prompt.slice(1)] },
    ];
    for (const each of asked) expect(await ask(made, each)).toMatchObject({ chunks: 4, cached: 0 });
    for (const each of asked) expect(await ask(made, each)).toMatchObject({ chunks: 1, cached: 3 * CHUNK });
  });

  it('are read whole where every token is scored, or pooled', async () => {
    const made = keeping(64);
    const prompt = tokens(3 * CHUNK + 1);
    const first = await ask(made, { prompt });
    expect(await ask(made, { prompt, promptLogprobs: 0 })).toMatchObject({ chunks: 4, cached: 0 });
    const before = made.runner.steps;
    await generate(made.engine, { prompt, pooling: 'mean', sampling: { ...GREEDY, maxTokens: 0 } });
    expect(made.runner.steps - before).toBe(4);
    expect(await ask(made, { prompt })).toEqual({ ...first, chunks: 1, cached: 3 * CHUNK });
  });

  it('are read once for all choices of a request', async () => {
    const made = keeping(64);
    const before = made.runner.steps;
    const added = await made.engine.addChoices(
      request({ prompt: tokens(3 * CHUNK + 1), sampling: { ...GREEDY, maxTokens: 1 } }),
      [1, 2, 3],
    );
    if (!added.ok) throw new Error(added.error.code);
    const ends = await Promise.all(added.value.map(collect));
    expect(made.runner.steps - before).toBe(4 + 1 + 1);
    expect(ends.map(({ final }) => final.usage.prompt_tokens_details?.cached_tokens)).toEqual([
      undefined,
      3 * CHUNK,
      3 * CHUNK,
    ]);
  });
});

describe('waiting prompts with one beginning', () => {
  const LONG = 4 * CHUNK;
  const shared = (seed: number, own: number): number[] => [...tokens(LONG, seed), ...tokens(3, own)];
  const short = { ...GREEDY, maxTokens: 4, ignoreEos: true };

  /** Sends all at once. @returns their ends and the prompt tokens that the model read. */
  async function askAll(
    options: { blocks: number; slots?: number },
    asked: readonly Partial<EngineRequest>[],
    during?: (made: Rig, handles: readonly EngineHandle[], read: () => number) => void,
  ) {
    const made = rig({ runner: { chunk: CHUNK, ...options } });
    const prefill = made.runner.prefill.bind(made.runner);
    let handles: readonly EngineHandle[] = [];
    let read = 0;
    made.runner.prefill = async (params) => {
      const logits = await prefill(params);
      read += params.tokens.length;
      during?.(made, handles, () => read);
      return logits;
    };
    handles = await Promise.all(asked.map((changes) => start(made.engine, { sampling: short, ...changes })));
    const ends = await Promise.all(handles.map(collect));
    await made.engine.close();
    expect(made.runner.misuses).toEqual([]);
    return { ends, read };
  }
  const alone = async (asked: Partial<EngineRequest>): Promise<number[]> =>
    (await askAll({ blocks: 0 }, [asked])).ends[0]!.ids;

  it.each([2, 5, 16])('are read once, and all %i answers are what they are alone', async (count) => {
    const asked = Array.from({ length: count }, (_, own) => ({ prompt: shared(1, own) }));
    const { ends, read } = await askAll({ blocks: 64 }, asked);
    expect(read).toBe(LONG + 3 * count);
    for (const [at, { ids }] of ends.entries()) expect(ids).toEqual(await alone(asked[at]!));
  });

  it('are read once in a cache that holds only one of them, whatever waits in between', async () => {
    const asked = Array.from({ length: 12 }, (_, own) => ({ prompt: shared(own % 3, own) }));
    const { ends, read } = await askAll({ blocks: 4, slots: 4 }, asked);
    expect(read).toBe(3 * LONG + 12 * 3);
    for (const [at, { ids }] of ends.entries()) expect(ids).toEqual(await alone(asked[at]!));
  });

  it('overtake another one of their tenant at most once per slot, and none of another tenant', async () => {
    const order: string[] = [];
    const kept = Array.from({ length: 9 }, (_, own) => ({ prompt: shared(1, own), id: `kept ${own}` }));
    const others = [
      { prompt: shared(2, 0), id: 'another beginning' },
      { prompt: shared(3, 0), id: 'another tenant', tenant: 'u' },
    ];
    const asked = [kept[0]!, ...others, ...kept.slice(1)].map((changes) => ({
      ...changes,
      onBegin: () => order.push(changes.id),
    }));
    await askAll({ blocks: 4, slots: 3 }, asked);
    // The other tenant has been served least.
    expect(order.slice(0, 2)).toEqual(['kept 0', 'another tenant']);
    expect(order.indexOf('another beginning')).toBe(5);
  });

  it('stay read when the one that is read is aborted', async () => {
    const asked = Array.from({ length: 4 }, (_, own) => ({ prompt: shared(1, own) }));
    const { ends, read } = await askAll({ blocks: 64 }, asked, (_, [first], soFar) => {
      if (soFar() === 2 * CHUNK) first!.abort();
    });
    expect(ends[0]!.final.kind).toBe('aborted');
    expect(read).toBe(LONG + 3 * 3);
    for (const at of [1, 2, 3]) expect(ends[at]!.ids).toEqual(await alone(asked[at]!));
  });

  it('are read by each tenant for itself', async () => {
    const asked = ['t', 'u', 't', 'u'].map((tenant, own) => ({ prompt: shared(1, own), tenant }));
    const { ends, read } = await askAll({ blocks: 64 }, asked);
    expect(read).toBe(2 * LONG + 4 * 3);
    expect(ends.map(({ final }) => final.usage.prompt_tokens_details?.cached_tokens ?? 0)).toEqual([
      0,
      0,
      LONG,
      LONG,
    ]);
    for (const [at, { ids }] of ends.entries()) expect(ids).toEqual(await alone(asked[at]!));
  });
});

describe('the prefix cache', () => {
  const row = (tenant: string, length: number, seed = 0, key = '') => ({
    ...{ tenant, stages: [{ from: 0, key }] },
    prompt: tokens(length * CHUNK + 1, seed),
  });
  /** Reads a whole prompt. @returns the blocks that its chunks were put into. */
  const read = (cache: PrefixCache, each: ReturnType<typeof row>): (number | null)[] => {
    const first = cache.use(each).length;
    const chunks = Math.floor(each.prompt.length / CHUNK);
    return Array.from({ length: chunks - first }, (_, i) => cache.add(each, (first + i + 1) * CHUNK));
  };

  it('evicts the least recently used chunk, from its end', () => {
    const cache = new PrefixCache({ blocks: 4, chunk: CHUNK });
    const [one, two, three] = [row('t', 2, 1), row('t', 2, 2), row('t', 1, 3)];
    read(cache, one);
    read(cache, two);
    cache.use(one);
    read(cache, three);
    expect([one, two, three].map((each) => cache.tokensOf(each))).toEqual([2 * CHUNK, CHUNK, CHUNK]);
    expect(cache.used).toBe(4);
  });

  it('keeps an even share for each tenant that wants it, and all of it for a single one', () => {
    const cache = new PrefixCache({ blocks: 8, chunk: CHUNK });
    for (let seed = 1; seed <= 8; seed++) read(cache, row('many', 1, seed));
    expect(cache.used).toBe(8);
    const mine = row('few', 4, 20);
    expect(read(cache, mine)).not.toContain(null);
    // Whatever the other one reads now takes only from itself.
    for (let seed = 30; seed <= 60; seed++) read(cache, row('many', 1, seed));
    expect(cache.tokensOf(mine)).toBe(4 * CHUNK);
  });

  it('never evicts what the row builds on, and keeps no more than fits', () => {
    const cache = new PrefixCache({ blocks: 3, chunk: CHUNK });
    const long = row('t', 5);
    const [a, b, c, ...rest] = read(cache, long);
    expect(new Set([a, b, c]).size).toBe(3);
    expect(rest).toEqual([null, null]);
    expect(cache.tokensOf(long)).toBe(3 * CHUNK);
  });

  it('has room for a prompt if all chunks of it that would be kept fit beside others', () => {
    // They end at 8, 11, 16 and 24.
    const staged = {
      ...row('t', 3),
      stages: [
        { from: 0, key: '' },
        { from: CHUNK + 3, key: 'x' },
      ],
    };
    for (const [blocks, room] of [
      [3, false],
      [4, true],
    ] as const)
      expect(new PrefixCache({ blocks, chunk: CHUNK }).hasRoomFor(staged)).toBe(room);
    const cache = new PrefixCache({ blocks: 4, chunk: CHUNK });
    cache.add(staged, CHUNK);
    read(cache, row('u', 1, 1));
    expect(cache.hasRoomFor(staged)).toBe(false);
    expect(cache.hasRoomFor({ ...staged, prompt: staged.prompt.slice(0, -2) })).toBe(true);
  });

  it('knows the content of every block, whatever happens', () => {
    const action = fc.record({
      tenant: fc.constantFrom('a', 'b', 'c'),
      // Nothing, an adapter, and one that begins to act within the second chunk.
      stages: fc.constantFrom(
        ...[[''], ['x'], ['', 'x'], ['y', 'x']].map((keys) =>
          keys.map((key, at) => ({ from: at * (CHUNK + 3), key })),
        ),
      ),
      chunks: fc.integer({ min: 1, max: 5 }),
      seed: fc.integer({ min: 0, max: 3 }),
      branch: fc.integer({ min: 0, max: 5 }),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), fc.integer({ min: 0, max: 9 }), (actions, blocks) => {
        const cache = new PrefixCache({ blocks, chunk: CHUNK });
        const content = new Map<number, string>();
        for (const { tenant, stages, chunks, seed, branch } of actions) {
          const { prompt } = row(tenant, chunks, seed);
          // Prompts that part somewhere.
          const each = {
            tenant,
            stages,
            prompt: prompt.map((id, at) => (at < branch * CHUNK ? id : id + 1)),
          };
          // The block's own tokens, and all before with what acted on them.
          const told = (from: number, to: number): string => {
            const acting = (at: number) => stages.findLast((stage) => stage.from <= at)!.key;
            return JSON.stringify([tenant, from, each.prompt.slice(0, to).map((id, at) => [id, acting(at)])]);
          };
          const [before, roomy] = [cache.used, cache.hasRoomFor(each)];
          let stored = 0;
          const found = cache.use(each);
          for (const { from, to, block } of found) expect(content.get(block)).toBe(told(from, to));
          let from = found.at(-1)?.to ?? 0;
          for (let to = from; from < each.prompt.length; from = to) {
            to = chunkEnd(each, from, CHUNK);
            const block = cache.add(each, to);
            if (block === null) continue;
            content.set(block, told(from, to));
            stored += 1;
          }
          // Nothing was pushed out, or there was no room.
          expect(cache.used).toBe(roomy ? before + stored : blocks);
          expect(cache.used).toBeLessThanOrEqual(blocks);
          expect([...content.keys()].every((block) => block >= 0 && block < blocks)).toBe(true);
        }
      }),
    );
  });
});
