import { afterEach, describe, expect, it } from 'vitest';
import type { ClassifierHead } from '../../../gpu-origin/engine/ports.ts';
import { classScores } from '../../../gpu-origin/engine/model-executor.ts';
import { NOT_FINITE } from '../../../gpu-origin/engine/requests.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { FakeRunnerOptions } from '../fake-runner.ts';
import { collect, digestOf, generate, request, rig, start, type Rig } from './harness.ts';

/** Of the fake runner's states, which are 8 wide. */
const head = (classes: number): ClassifierHead => ({
  weight: Float32Array.from({ length: classes * 8 }, (_, i) => ((i * 7) % 5) - 2),
  labels: null,
  problemType: null,
});
const NONE = { ...GREEDY, maxTokens: 0 };

let made: Rig;
afterEach(() => made.engine.close());

/** Adapters whose name begins with `c` have a head of three classes. */
async function classifiers(
  options: FakeRunnerOptions = {},
): Promise<Record<'c1' | 'c2' | 'plain', ChainEntry>> {
  const heads = new Map<string, ClassifierHead>();
  made = rig({ runner: { chunk: 8, classifier: (digest) => heads.get(digest) ?? null, ...options } });
  for (const name of ['c1', 'c2']) heads.set(await digestOf(name), head(3));
  return { c1: await made.adapter('c1'), c2: await made.adapter('c2'), plain: await made.adapter('plain') };
}

async function scoresOf(chain: readonly ChainEntry[], prompt: readonly number[]): Promise<number[]> {
  const { events } = await generate(made.engine, { chain, prompt, sampling: NONE, classifies: true });
  return events.flatMap((event) => (event.kind === 'classes' ? [...event.scores] : []));
}
const errorOf = async (changes: Parameters<typeof request>[0]) => {
  const added = await made.engine.add(request(changes));
  if (!added.ok) return added.error;
  const { final } = await collect(added.value);
  return final.kind === 'error' ? final.error : null;
};
const tokens = (length: number): number[] => Array.from({ length }, (_, i) => 1 + ((i * 5) % 60));

describe('a chain with a classification head', () => {
  it('gives one score a class, of the last token’s state alone', async () => {
    const { c1 } = await classifiers();
    const prompt = tokens(21);
    const { events } = await generate(made.engine, { chain: [c1], prompt, pooling: 'last', sampling: NONE });
    const [state] = events.flatMap((event) => (event.kind === 'embedding' ? [event.values] : []));
    const scores = await scoresOf([c1], prompt);
    expect(scores).toEqual([...classScores(head(3), state!)]);
    expect(await scoresOf([c1], [...prompt.slice(0, -1), 63])).not.toEqual(scores);
  });

  it('is counted like any prompt, and generates nothing', async () => {
    const { c1 } = await classifiers();
    const { final } = await generate(made.engine, {
      ...{ chain: [c1], prompt: tokens(5), sampling: NONE, classifies: true },
    });
    expect(final).toMatchObject({ kind: 'end', usage: { prompt_tokens: 5, completion_tokens: 0 } });
  });

  it('may have it on any member, and has one at most', async () => {
    const { c1, c2, plain } = await classifiers();
    expect(await scoresOf([plain, c1], [1, 2])).toHaveLength(3);
    expect(await scoresOf([c1, plain], [1, 2])).toHaveLength(3);
    expect(await errorOf({ chain: [c1, c2], sampling: NONE, classifies: true })).toMatchObject({
      code: 'adapter_invalid',
      reason: 'classifier_unsupported',
      message: expect.stringContaining(c1.digest.slice(0, 12)),
    });
  });

  it('is refused where text is wanted, and other chains where classes are', async () => {
    const { c1, plain } = await classifiers();
    const wrong = { code: 'wrong_endpoint', param: 'model' };
    expect(await errorOf({ chain: [c1] })).toMatchObject({
      ...wrong,
      message: expect.stringContaining('/v1/classify'),
    });
    for (const chain of [[], [plain]])
      expect(await errorOf({ chain, sampling: NONE, classifies: true })).toMatchObject({
        ...wrong,
        message: expect.stringContaining('no classification head'),
      });
    // Its row is free again.
    expect(made.engine.stats()).toMatchObject({ running: 0, waiting: 0, loading: 0 });
    expect(await errorOf({ chain: [c1], ignoresClassifier: true })).toBeNull();
    expect(await errorOf({ chain: [c1], pooling: 'mean', sampling: NONE })).toBeNull();
  });

  it('reads earlier chunks beside rows that decode, and takes kept ones', async () => {
    let mixed = 0;
    const { c1, plain } = await classifiers({
      ...{ mixes: true, blocks: 16 },
      duringStep: ({ kind }) => {
        if (kind === 'mixed') mixed += 1;
      },
    });
    const prompt = tokens(40);
    const text = await start(made.engine, {
      ...{ chain: [plain], prompt: [1, 2], sampling: { ...GREEDY, maxTokens: 60, ignoreEos: true } },
    });
    const first = await scoresOf([c1], prompt);
    expect(mixed).toBeGreaterThan(0);
    const again = await generate(made.engine, { chain: [c1], prompt, sampling: NONE, classifies: true });
    expect(again.events.find(({ kind }) => kind === 'classes')).toMatchObject({
      scores: Float32Array.from(first),
    });
    expect(again.final).toMatchObject({ usage: { prompt_tokens_details: { cached_tokens: 32 } } });
    await collect(text);
    expect(made.runner.misuses).toEqual([]);
  });

  it('fails alone where a state or a score is not finite', async () => {
    const { c1 } = await classifiers({ poisoned: (ids) => ids.includes(63) });
    const notFinite = { code: 'internal_error', message: NOT_FINITE };
    expect(await errorOf({ chain: [c1], prompt: [1, 63], sampling: NONE, classifies: true })).toMatchObject(
      notFinite,
    );
    expect(await scoresOf([c1], [1, 2])).toHaveLength(3);
    await made.engine.close();
    const endless = { ...head(1), weight: new Float32Array(8).fill(Infinity) };
    const again = await classifiers({ classifier: () => endless });
    expect(await errorOf({ chain: [again.c1], prompt: [1], sampling: NONE, classifies: true })).toMatchObject(
      notFinite,
    );
  });

  it('holds memory for its head', async () => {
    const { c1, plain } = await classifiers();
    for (const chain of [[c1], [plain]]) await made.engine.prefetch(chain[0]!.digest);
    const bytes = new Map(made.engine.residents().adapters.map((one) => [one.digest, one.bytes]));
    expect(bytes.get(c1.digest)! - bytes.get(plain.digest)!).toBe(3 * 8 * 4);
  });
});

it('sums a product in float64 and rounds it once', () => {
  const weight = Float32Array.from([1, 2 ** -30, -1, 2, 0, 0]);
  expect([...classScores({ weight }, Float64Array.from([1, 1, 1]))]).toEqual([2 ** -30, 2]);
});
