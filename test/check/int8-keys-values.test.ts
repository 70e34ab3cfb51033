/** int8 keys and values against float32 ones, on the pinned base and its example adapters. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { divergence, prefillAll } from '../fixtures/tiny-runner.ts';
import { packAdapter } from '../../adapters/index.ts';
import { openTrials } from '../fixtures/trials.ts';
import {
  exampleFiles,
  makeRealRunner,
  type RealRunner,
  reference,
  type ReferencePrompt,
  taskRows,
} from './real-base.ts';

/**
 * Mean KL to reading the same text that int8 adds to float32, nats a token. Weights in int8 are what is served, but
 * they alone have some 0.002, so that only weights in float32 tell little differences (bench/LOG.md has the rest).
 */
const MOST = 0.003;
const ROWS = 4;
/** Of the longest texts: each takes as long to read as all of the others. */
const LONG_ROWS = 2;
const STEPS = 84;
const CONTEXTS = [100, 1_000, 4_000];

/** Text that stays as it is, as one row of tokens: from one text to another the mean moves by more than an error. */
function text(real: RealRunner): number[] {
  const tasks = ['medicine', 'cardiology', 'dr-lee', 'intent'].flatMap((task) =>
    taskRows(task).map(({ user, expected }) => `${user}\n${expected}\n`),
  );
  const license = readFileSync(new URL('../../LICENSE', import.meta.url), 'utf8');
  return real.encodeAnswer([license, ...tasks].join('\n'));
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

    const contexts = weights === 'f32' ? CONTEXTS : CONTEXTS.filter((context) => context < 4_000);
    it.each(contexts)(`mean KL at most ${MOST} at a context of %i tokens`, async (context) => {
      const ids = text(f32);
      const count = context < 4_000 ? ROWS : LONG_ROWS;
      const rows = Array.from({ length: count }, (_, row) => {
        const from = Math.floor((row * (ids.length - context - STEPS)) / (count - 1));
        return ids.slice(from, from + context + STEPS);
      });
      const read: Float32Array[][] = [];
      for (const [slot, tokens] of rows.entries()) {
        for (const { runner } of [int8, f32]) runner.assign(slot, null);
        const positions = Array.from({ length: STEPS }, (_, step) => context + step);
        read.push(await prefillAll(f32.runner, slot, tokens, positions));
        await prefillAll(int8.runner, slot, tokens.slice(0, context), []);
      }
      const { vocabSize } = f32.runner;
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
        for (let row = 0; row < count; row++) {
          const of = (logits: Float32Array): Float32Array =>
            logits.subarray(row * vocabSize, (row + 1) * vocabSize);
          const exact = read[row]![step]!;
          added.push(divergence(exact, of(coarse)) - divergence(exact, of(fine)));
          if (likeliest(exact) === likeliest(of(coarse))) agree += 1;
        }
      }
      rows.forEach((_, slot) => {
        int8.runner.release(slot);
        f32.runner.release(slot);
      });
      console.log(
        `weights ${weights}, context ${context}: mean KL ${meanOf(added).toFixed(5)} (${errorOf(added).toFixed(5)}), worst ` +
          `${Math.max(...added).toFixed(3)}, ${((100 * agree) / added.length).toFixed(1)} % the same likeliest ` +
          `token, ${added.length} tokens`,
      );
      expect(meanOf(added)).toBeLessThan(MOST);
    });

    it.runIf(weights === 'f32')(`mean KL at most ${MOST} with the example adapters`, async () => {
      for (const [name, { chain, prompts }] of Object.entries(reference)) {
        const added: number[] = [];
        for (let from = 0; from < prompts.length; from += ROWS) {
          const some = prompts.slice(from, from + ROWS);
          const exact = await forced(f32, chain, some, 'read');
          const fine = await forced(f32, chain, some, 'decoded');
          const coarse = await forced(int8, chain, some, 'decoded');
          exact.forEach((row, i) => added.push(divergence(row, coarse[i]!) - divergence(row, fine[i]!)));
        }
        console.log(
          `weights ${weights}, ${name}: mean KL ${meanOf(added).toFixed(5)} over ${added.length} tokens`,
        );
        expect(meanOf(added)).toBeLessThan(MOST);
      }
    });

    it.runIf(weights === 'int8')(
      'every example adapter passes its trial, and one many times as large does not',
      async () => {
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
      },
    );
  },
);

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, one) => sum + one, 0) / values.length;

/** Standard error of the mean. */
const errorOf = (values: readonly number[]): number => {
  const mean = meanOf(values);
  return Math.sqrt(meanOf(values.map((value) => (value - mean) ** 2)) / values.length);
};

/** Logits behind each token of the answers but the last, read with the prompt or by a decode step each. */
async function forced(
  { runner, delta }: RealRunner,
  chain: readonly string[],
  prompts: readonly ReferencePrompt[],
  how: 'read' | 'decoded',
): Promise<Float32Array[]> {
  const rows: Float32Array[][] = [];
  for (const [slot, { prompt_tokens: prompt, greedy_tokens: answer }] of prompts.entries()) {
    runner.assign(slot, delta(chain));
    const fed = answer.slice(0, -1);
    const read = how === 'read' ? [...prompt, ...fed] : prompt;
    const positions = how === 'read' ? fed.map((_, i) => prompt.length + i) : [];
    rows.push(await prefillAll(runner, slot, read, positions));
  }
  const longest = Math.max(...prompts.map(({ greedy_tokens }) => greedy_tokens.length));
  for (let step = 0; how === 'decoded' && step < longest - 1; step++) {
    // A row that is through reads its last token once more.
    const at = prompts.map(({ greedy_tokens }) => Math.min(step, greedy_tokens.length - 2));
    const logits = await runner.decode({
      tokens: prompts.map(({ greedy_tokens }, row) => greedy_tokens[at[row]!]!),
      lengths: prompts.map(({ prompt_tokens }, row) => prompt_tokens.length + at[row]!),
    });
    prompts.forEach((_, row) => {
      if (at[row] === step)
        rows[row]!.push(logits.slice(row * runner.vocabSize, (row + 1) * runner.vocabSize));
    });
  }
  prompts.forEach((_, slot) => runner.release(slot));
  return rows.flat();
}
