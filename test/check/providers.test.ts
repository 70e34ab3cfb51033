/** WebAssembly beside the native library, on the real base with the example adapters. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { divergence, logProbabilities } from '../fixtures/tiny-runner.ts';
import { makeRealRunner, type RealRunner, reference, teacherForced } from './real-base.ts';

/** The first prompt of each chain, and its answer. */
const CASES = Object.values(reference).map(({ chain, prompts }) => ({ chain, prompt: prompts[0]! }));

/** Nats: of 50,000 tokens together, what is below has a chance of one in 10,000. */
const LIKELY = -20;

async function logitsOf(real: RealRunner): Promise<Float32Array[]> {
  const rows = [];
  for (const { chain, prompt } of CASES)
    rows.push(...(await teacherForced(real, chain, prompt.prompt_tokens, prompt.greedy_tokens)));
  return rows;
}

let wanted: Float32Array[];
let open: RealRunner | null = null;
beforeAll(async () => {
  const native = await makeRealRunner('f32', 1);
  wanted = await logitsOf(native);
  await native.runner.close();
});
afterAll(() => open?.runner.close());

it('float32 in WebAssembly: log-probabilities within 1e-4 of the native library’s, on one graph for all rows', async () => {
  open = await makeRealRunner('f32', 4, 'web');
  const worst = { likely: 0, all: 0 };
  for (const [at, logits] of (await logitsOf(open)).entries()) {
    const expected = logProbabilities(wanted[at]!);
    for (const [id, value] of logProbabilities(logits).entries()) {
      const difference = Math.abs(value - expected[id]!);
      worst.all = Math.max(worst.all, difference);
      if (expected[id]! > LIKELY) worst.likely = Math.max(worst.likely, difference);
    }
  }
  console.log(`largest difference of a log-probability: ${JSON.stringify(worst)}`);
  await open.runner.close();
  open = null;
  expect(worst.likely).toBeLessThan(1e-4);
  expect(worst.all).toBeLessThan(1e-3);
});

it('int8 in WebAssembly: a mean KL to float32 of at most 0.01', async () => {
  open = await makeRealRunner('int8', 4, 'web');
  expect(open.runner.base).toMatchObject({ provider: 'web', promise: 'bits', context: 2_048 });
  const rows = await logitsOf(open);
  const mean = rows.reduce((sum, logits, at) => sum + divergence(wanted[at]!, logits), 0) / rows.length;
  console.log(`KL to float32: ${mean.toFixed(4)} over ${rows.length} tokens`);
  expect(mean).toBeLessThan(0.01);
});
