/** A hundred classification heads through the engine, against transformers (test/fixtures/make-classifier-reference.py). */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { packAdapter, parseSafetensors, writeSafetensors } from '../../../adapters/index.ts';
import { readInput } from '../../../cli/adapter-files/read-input.ts';
import { readAdapterFiles } from '../../../gpu-origin/adapter-files/pack-folders.ts';
import { Engine, type EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import { seeded, TINY_ADAPTERS, TINY_SHAPES, writeTinyAdapter } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner, type TinyRunner } from '../../fixtures/tiny-runner.ts';
import { greedyAnswer, letters, MemorySource, request, TestClock } from '../engine/harness.ts';

interface Case {
  family: string;
  adapter: string;
  seed: number;
  length: number;
  offset: number;
  scores: number[];
}
const reference = JSON.parse(
  readFileSync(new URL('../../fixtures/tiny-classifier-reference.json', import.meta.url), 'utf8'),
) as { size: number; saved: Pick<Case, 'length' | 'offset' | 'scores'>; heads: Case[] };
/** PEFT 0.21.2 and transformers 5.24.0 saved it. */
const SAVED = fileURLToPath(new URL('../../fixtures/peft-classifier', import.meta.url));

const promptOf = ({ length, offset }: Pick<Case, 'length' | 'offset'>): number[] =>
  Array.from({ length }, (_, i) => 3 + ((i * i * 37 + i * 11 + offset) % 256));

/** Puts the adapter with its head on the disk, as PEFT saves it. */
async function classifierOf(tiny: TinyRunner, source: MemorySource, one: Case): Promise<ChainEntry> {
  const path = `${tiny.folder}/${one.adapter}`;
  writeTinyAdapter(path, TINY_ADAPTERS[one.adapter]!, TINY_SHAPES[one.family]);
  const { tensors } = parseSafetensors(new Uint8Array(readFileSync(`${path}/adapter_model.safetensors`)));
  const random = seeded(one.seed);
  const [classes, hidden] = [one.scores.length, tiny.runner.hiddenSize];
  const values = Float32Array.from({ length: classes * hidden }, () => reference.size * random());
  const config = JSON.parse(readFileSync(`${path}/adapter_config.json`, 'utf8')) as object;
  const { bytes, digest } = await packAdapter({
    files: {
      configJson: JSON.stringify({
        ...{ ...config, task_type: 'SEQ_CLS', modules_to_save: ['classifier', 'score'] },
      }),
      weights: writeSafetensors({
        tensors: new Map([
          ...tensors,
          [
            'base_model.model.score.weight',
            { dtype: 'F32', shape: [classes, hidden], data: new Uint8Array(values.buffer) },
          ],
        ]),
      }),
    },
    baseId: tiny.runner.base.id,
    parentChainId: null,
  });
  source.files.set(digest, bytes);
  return { digest, scale: 1 };
}

const engineOf = (runner: TinyRunner['runner'], source: MemorySource): Engine =>
  new Engine({
    ...{ runner, source, clock: new TestClock(), tokens: letters, eosTokenIds: [2], random: () => 0.5 },
    ...{ maxQueue: 256, adapterBudgetBytes: 100_000_000 },
  });

async function scoresOf(engine: Engine, changes: Partial<EngineRequest>): Promise<number[]> {
  const sampling = { ...GREEDY, maxTokens: 0 };
  const added = await engine.add(request({ sampling, classifies: true, ...changes }));
  if (!added.ok) throw new Error(added.error.message);
  let scores: number[] = [];
  for await (const event of added.value.events) {
    if (event.kind === 'classes') scores = [...event.scores];
    if (event.kind === 'error') throw new Error(event.error.message);
  }
  return scores;
}

const families = [...new Set(reference.heads.map(({ family }) => family))];

describe.each(families)('heads on %s', (family) => {
  const heads = reference.heads.filter((one) => one.family === family);

  it.each([false, true])('have the scores of transformers in float32, rotated: %s', async (rotateFloat32) => {
    const tiny = await makeTinyRunner({ shape: TINY_SHAPES[family]!, weights: 'f32', rotateFloat32 });
    const source = new MemorySource();
    const engine = engineOf(tiny.runner, source);
    let worst = 0;
    for (const one of heads) {
      const chain = [await classifierOf(tiny, source, one)];
      const scores = await scoresOf(engine, { prompt: promptOf(one), chain });
      expect(scores).toHaveLength(one.scores.length);
      scores.forEach((score, at) => (worst = Math.max(worst, Math.abs(score - one.scores[at]!))));
    }
    await engine.close();
    await tiny.close();
    expect(heads.length).toBeGreaterThan(10);
    expect(worst).toBeLessThan(1e-4);
  });
});

it('reads the folder that PEFT and transformers save, as the command line and an origin do', async () => {
  const tiny = await makeTinyRunner({ weights: 'f32' });
  const source = new MemorySource();
  const digests = new Set<string>();
  for (const files of [(await readInput(SAVED)).files, await readAdapterFiles(SAVED)]) {
    const { bytes, digest, classifier } = await packAdapter({
      ...{ files, baseId: tiny.runner.base.id, parentChainId: null },
    });
    expect(classifier?.labels).toEqual(['no', 'yes', 'perhaps']);
    source.files.set(digest, bytes);
    digests.add(digest);
  }
  const [digest, other] = [...digests];
  expect(other).toBeUndefined();
  const engine = engineOf(tiny.runner, source);
  const { saved } = reference;
  const scores = await scoresOf(engine, { prompt: promptOf(saved), chain: [{ digest: digest!, scale: 1 }] });
  await engine.close();
  await tiny.close();
  expect(scores).toHaveLength(3);
  scores.forEach((score, at) => expect(Math.abs(score - saved.scores[at]!)).toBeLessThan(1e-4));
});

describe('heads in int8', () => {
  it('have the same bits alone, beside generating rows, and with kept chunks', async () => {
    const tiny = await makeTinyRunner({ weights: 'int8', slots: 4, prefixBytes: 16 * 1024 * 1024 });
    const source = new MemorySource();
    const heads = reference.heads.filter(({ family }) => family === 'llama').slice(0, 5);
    const plain = await tiny.file('attention');
    source.files.set(plain.digest, plain.bytes);
    const asked = await Promise.all(
      heads.map(async (one, at) => ({
        prompt: promptOf({ length: [1, 127, 128, 300, 129][at]!, offset: at % 2 }),
        chain: [await classifierOf(tiny, source, one)],
      })),
    );
    const without = Object.create(tiny.runner, { blocks: { value: 0 } }) as typeof tiny.runner;
    const cold = engineOf(without, source);
    const alone: number[][] = [];
    for (const each of asked) alone.push(await scoresOf(cold, each));
    const texts = [[], [{ digest: plain.digest, scale: 1 }]].map((chain) => ({
      ...{ prompt: promptOf({ length: 200, offset: 7 }), chain },
    }));
    const answers: number[][] = [];
    for (const text of texts) answers.push(await greedyAnswer(cold, text));
    await cold.close();
    expect(new Set(alone.map((scores) => scores.join())).size).toBe(asked.length);

    const mixed = engineOf(tiny.runner, source);
    const [scores, generated] = await Promise.all([
      Promise.all([...asked, ...asked].map((each) => scoresOf(mixed, each))),
      Promise.all([...texts, ...texts].map((each) => greedyAnswer(mixed, each))),
    ]);
    expect(scores).toEqual([...alone, ...alone]);
    expect(generated).toEqual([...answers, ...answers]);
    await mixed.close();
    await tiny.close();
  });
});
