/** int8 keys and values against float32 ones, on the pinned base and its example adapters. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { divergence } from '../fixtures/tiny-runner.ts';
import { makeRealRunner, type RealRunner, reference, taskRows, teacherForced } from './real-base.ts';

/** Mean KL, nats a token. Weights are in float32: int8 ones flip roundings, which alone is some 0.003. */
const MOST = 0.003;
const ROWS = 4;
const STEPS = 84;
/** Reading a long one in float32 takes most of the test's time. */
const CONTEXTS = [
  { context: 100, rows: ROWS },
  { context: 1_000, rows: ROWS },
  { context: 4_000, rows: 1 },
];

/** Text of the task files and of documents, as one row of tokens. */
function text(real: RealRunner): number[] {
  const tasks = ['medicine', 'cardiology', 'dr-lee', 'intent'].flatMap((task) =>
    taskRows(task).map(({ user, expected }) => `${user}\n${expected}\n`),
  );
  const pages = ['LICENSE', 'docs/architecture.md', 'docs/internals/engine.md', 'README.md'].map((path) =>
    readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'),
  );
  return real.encodeAnswer([...pages, ...tasks].join('\n'));
}

describe('int8 keys and values against float32 ones', () => {
  let int8: RealRunner;
  let f32: RealRunner;
  beforeAll(async () => {
    int8 = await makeRealRunner('f32', ROWS, 'cpu', 4_224, 'int8');
    f32 = await makeRealRunner('f32', ROWS, 'cpu', 4_224, 'f32');
    expect(int8.runner.base.kv).toBe('int8');
    expect(f32.runner.base.kv).toBeUndefined();
  });
  afterAll(async () => {
    await int8.runner.close();
    await f32.runner.close();
  });

  it.each(CONTEXTS)(
    `mean KL at most ${MOST} at a context of $context tokens`,
    async ({ context, rows: many }) => {
      const ids = text(f32);
      const rows = Array.from({ length: many }, (_, row) => {
        const from = Math.floor((row * (ids.length - context - STEPS)) / many);
        return ids.slice(from, from + context + STEPS);
      });
      for (const { runner } of [int8, f32])
        for (const [slot, tokens] of rows.entries()) {
          runner.assign(slot, null);
          for (let past = 0; past < context; past += runner.chunk) {
            const chunk = tokens.slice(past, Math.min(past + runner.chunk, context));
            await runner.prefill({ slot, tokens: chunk, past, positions: [] });
          }
        }
      const { vocabSize } = f32.runner;
      let [sum, worst, agree] = [0, 0, 0];
      const likeliest = (logits: Float32Array): number =>
        logits.reduce((best, value, id) => (value > logits[best]! ? id : best), 0);
      for (let step = 0; step < STEPS; step++) {
        const tokens = rows.map((row) => row[context + step]!);
        const lengths = rows.map(() => context + step);
        const [exact, coarse] = [
          await f32.runner.decode({ tokens, lengths }),
          await int8.runner.decode({ tokens, lengths }),
        ];
        for (let row = 0; row < many; row++) {
          const of = (logits: Float32Array): Float32Array =>
            logits.subarray(row * vocabSize, (row + 1) * vocabSize);
          const kl = divergence(of(exact), of(coarse));
          sum += kl;
          worst = Math.max(worst, kl);
          if (likeliest(of(exact)) === likeliest(of(coarse))) agree += 1;
        }
      }
      rows.forEach((_, slot) => {
        int8.runner.release(slot);
        f32.runner.release(slot);
      });
      const count = many * STEPS;
      console.log(
        `context ${context}: mean KL ${(sum / count).toFixed(5)}, worst ${worst.toFixed(3)}, ` +
          `${((100 * agree) / count).toFixed(1)} % the same likeliest token, ${count} tokens`,
      );
      expect(sum / count).toBeLessThan(MOST);
    },
  );

  it.each(Object.entries(reference))(`mean KL at most ${MOST} with %s`, async (name, { chain, prompts }) => {
    let [sum, count] = [0, 0];
    for (const { prompt_tokens, greedy_tokens } of prompts) {
      const exact = await teacherForced(f32, chain, prompt_tokens, greedy_tokens);
      const coarse = await decoded(int8, chain, prompt_tokens, greedy_tokens);
      // What follows the prompt comes from reading, in both.
      exact.slice(1).forEach((row, i) => (sum += divergence(row, coarse[i]!)));
      count += exact.length - 1;
    }
    console.log(`${name}: mean KL ${(sum / count).toFixed(5)} over ${count} tokens`);
    expect(sum / count).toBeLessThan(MOST);
  });
});

/** Logits behind each forced token, one decode step each. */
async function decoded(
  { runner, delta }: RealRunner,
  chain: readonly string[],
  prompt: readonly number[],
  answer: readonly number[],
): Promise<Float32Array[]> {
  runner.assign(0, delta(chain));
  await runner.prefill({ slot: 0, tokens: prompt, past: 0, positions: [] });
  const rows: Float32Array[] = [];
  for (const [at, token] of answer.slice(0, -1).entries())
    rows.push((await runner.decode({ tokens: [token], lengths: [prompt.length + at] })).slice());
  runner.release(0);
  return rows;
}
