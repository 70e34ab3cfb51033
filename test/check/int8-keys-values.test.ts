/** int8 keys and values against float32 ones, on the pinned base and its example adapters. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { divergence } from '../fixtures/tiny-runner.ts';
import { packAdapter } from '../../adapters/index.ts';
import { openTrials } from '../fixtures/trials.ts';
import {
  exampleFiles,
  makeRealRunner,
  type RealRunner,
  reference,
  taskRows,
  teacherForced,
} from './real-base.ts';

/** Mean KL to reading the same text that int8 adds to float32, nats a token. int8 weights alone have some 0.002. */
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

describe.each(['f32', 'int8'] as const)(
  'int8 keys and values against float32 ones, weights in %s',
  (weights) => {
    let int8: RealRunner;
    let f32: RealRunner;
    beforeAll(async () => {
      int8 = await makeRealRunner(weights, ROWS, 'cpu', 4_224, 'int8');
      f32 = await makeRealRunner(weights, ROWS, 'cpu', 4_224, 'f32');
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
        const read: Float32Array[] = [];
        for (const [slot, tokens] of rows.entries()) {
          const steps = tokens.slice(context);
          const chunk = { slot, tokens: steps, past: context, positions: [...steps.keys()] };
          read.push((await f32.runner.prefill(chunk)).slice());
        }
        const added: number[] = [];
        let agree = 0;
        const likeliest = (logits: Float32Array): number =>
          logits.reduce((best, value, id) => (value > logits[best]! ? id : best), 0);
        for (let step = 0; step < STEPS; step++) {
          const tokens = rows.map((row) => row[context + step]!);
          const lengths = rows.map(() => context + step);
          const [fine, coarse] = [
            await f32.runner.decode({ tokens, lengths }),
            await int8.runner.decode({ tokens, lengths }),
          ];
          for (let row = 0; row < many; row++) {
            const of = (logits: Float32Array, at = row): Float32Array =>
              logits.subarray(at * vocabSize, (at + 1) * vocabSize);
            const exact = of(read[row]!, step);
            added.push(divergence(exact, of(coarse)) - divergence(exact, of(fine)));
            if (likeliest(exact) === likeliest(of(coarse))) agree += 1;
          }
        }
        rows.forEach((_, slot) => {
          int8.runner.release(slot);
          f32.runner.release(slot);
        });
        console.log(
          `weights ${weights}, context ${context}: mean KL ${meanOf(added).toFixed(5)}, worst ` +
            `${Math.max(...added).toFixed(3)}, ${((100 * agree) / added.length).toFixed(1)} % the same likeliest ` +
            `token, ${added.length} tokens`,
        );
        expect(meanOf(added)).toBeLessThan(MOST);
      },
    );

    it(`mean KL at most ${MOST} with the example adapters`, async () => {
      const all: number[] = [];
      for (const [name, { chain, prompts }] of Object.entries(reference)) {
        const added: number[] = [];
        for (const { prompt_tokens, greedy_tokens } of prompts) {
          const exact = await teacherForced(f32, chain, prompt_tokens, greedy_tokens);
          const fine = await decoded(f32, chain, prompt_tokens, greedy_tokens);
          const coarse = await decoded(int8, chain, prompt_tokens, greedy_tokens);
          // What follows the prompt comes from reading, in all of them.
          exact
            .slice(1)
            .forEach((row, i) => added.push(divergence(row, coarse[i]!) - divergence(row, fine[i]!)));
        }
        console.log(
          `weights ${weights}, ${name}: mean KL ${meanOf(added).toFixed(5)} over ${added.length} tokens`,
        );
        // Alone, they have too few tokens for what int8 weights are off by.
        if (weights === 'f32') expect(meanOf(added)).toBeLessThan(MOST);
        all.push(...added);
      }
      expect(meanOf(all)).toBeLessThan(MOST);
    });

    it('every example adapter passes its trial, and one many times as large does not', async () => {
      const { engine, verify } = openTrials(int8.runner, int8.tokenizer);
      const { base } = int8.runner;
      const file = async (name: string) =>
        packAdapter({ files: exampleFiles(name), baseId: base.id, parentChainId: null });
      const chains = [...Object.values(reference).map(({ chain }) => chain), ['desk']];
      for (const chain of chains.filter(({ length }) => length > 0)) {
        const files = await Promise.all(chain.map(file));
        const { ok, reason, kv } = await verify(files);
        console.log(`weights ${weights}, trial of ${chain.join('/')}: ${JSON.stringify(kv)}`);
        expect({ ok, reason }).toEqual({ ok: true, reason: null });
      }
      expect(await verify([await file('medicine')], 10)).toMatchObject({
        ok: false,
        code: 'kv_out_of_range',
      });
      await engine.close();
    });
  },
);

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, one) => sum + one, 0) / values.length;

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
