/** Adapters of the head and of the embedding through the engine, and where they are refused. */
import { expect, it } from 'vitest';
import { Engine } from '../../../gpu-origin/engine/engine.ts';
import { composeDelta, loadResidentAdapter } from '../../../gpu-origin/runtime/adapter-batch.ts';
import { freezeChain } from '../../../gpu-origin/training/frozen-base.ts';
import { loadFolderBase } from '../../../gpu-origin/model/load-base.ts';
import { TINY_OUTER_ADAPTERS } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner, type TinyRunner } from '../../fixtures/tiny-runner.ts';
import { greedyAnswer, letters, MemorySource, TestClock } from '../engine/harness.ts';

const promptOf = (length: number, offset: number): number[] =>
  Array.from({ length }, (_, i) => 3 + ((i * i * 37 + i * 11 + offset) % 256));

const engineOf = (runner: TinyRunner['runner'], source: MemorySource): Engine =>
  new Engine({
    ...{ runner, source, clock: new TestClock(), tokens: letters, eosTokenIds: [2], random: () => 0.5 },
    ...{ maxQueue: 256, adapterBudgetBytes: 100_000_000 },
  });

it('gives the same answers alone, beside others, and with kept chunks', async () => {
  const tiny = await makeTinyRunner({ weights: 'int8', slots: 4, prefixBytes: 16 * 1024 * 1024 });
  const source = new MemorySource();
  const digests = new Map<string, string>();
  for (const name of ['attention', 'head', 'tokens', 'outer']) {
    const { bytes, digest } = await tiny.file(name, TINY_OUTER_ADAPTERS[name]);
    source.files.set(digest, bytes);
    digests.set(name, digest);
  }
  const chains = [[], ['attention'], ['head'], ['tokens'], ['outer'], ['outer', 'head']];
  const asked = chains.map((chain, at) => ({
    prompt: promptOf([200, 300, 129, 260, 300, 40][at]!, at % 2),
    chain: chain.map((name) => ({ digest: digests.get(name)!, scale: 1 })),
  }));
  const cold = engineOf(Object.create(tiny.runner, { blocks: { value: 0 } }) as typeof tiny.runner, source);
  const alone: number[][] = [];
  for (const each of asked) alone.push(await greedyAnswer(cold, each));
  await cold.close();
  expect(new Set(alone.map((answer) => answer.join())).size).toBe(asked.length);

  const mixed = engineOf(tiny.runner, source);
  const answers = await Promise.all([...asked, ...asked].map((each) => greedyAnswer(mixed, each)));
  expect(answers).toEqual([...alone, ...alone]);
  // Once more, over chunks that all of them have kept.
  expect(await Promise.all(asked.map((each) => greedyAnswer(mixed, each)))).toEqual(alone);
  await mixed.close();
  await tiny.close();
});

it('takes no memory for rows that have neither', async () => {
  const tiny = await makeTinyRunner({ slots: 4 });
  const [plain, head] = [
    await tiny.adapter('attention'),
    await tiny.adapter('head', TINY_OUTER_ADAPTERS['head']),
  ];
  const { vocabSize, hiddenSize } = tiny.runner;
  expect(head.bytes).toBe(8 * (vocabSize + hiddenSize) * Float32Array.BYTES_PER_ELEMENT);
  const compose = (...members: (typeof plain)[]) =>
    tiny.runner.compose(members.map((adapter) => ({ adapter, scale: 1 })));
  expect(compose(head).bytes).toBe(0);
  const without = { rows: 4, deltas: [compose(plain)] };
  // On a processor, the head's delta is read where the adapter has it.
  expect(tiny.runner.batchBytes({ rows: 4, deltas: [compose(plain), compose(head)] })).toBe(
    tiny.runner.batchBytes(without),
  );
  expect(compose(plain, head).bytes).toBe(compose(plain).bytes + plain.bytes);
  await tiny.close();
});

it.each(['head', 'tokens'])('refuses to train on top of an adapter of the %s, by name', async (name) => {
  const tiny = await makeTinyRunner({ weights: 'f32', slots: 2 });
  const base = await loadFolderBase({ path: `${tiny.folder}/tiny-base` });
  const { bytes, digest } = await tiny.file(name, TINY_OUTER_ADAPTERS[name]);
  const { config } = base;
  const adapter = await loadResidentAdapter({
    ...{ file: bytes, digest, base: tiny.runner.base, config, finalGain: null },
    ...{ gains: () => null, rotations: null },
  });
  expect(composeDelta(config, [{ adapter, scale: 1 }]).rank).toBe(adapter.rank);
  expect(() => freezeChain(config, [{ adapter, scale: 1 }])).toThrow(
    /adapts (lm_head|model\.embed_tokens), and adapters on top of such a one cannot be trained here\. Train it with PEFT/,
  );
  base.close();
  await tiny.close();
});
