import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { argmax, divergence, logProbabilities, prefillAll } from '../fixtures/tiny-runner.ts';
import {
  makeRealRunner,
  type RealRunner,
  reference,
  type ReferencePrompt,
  taskRows,
  teacherForced,
} from './real-base.ts';

/** Where our own float32 likeliest two are this close, PyTorch may order them the other way; nats. */
const TIE = 0.02;

/** Two likeliest ids of a row and how far apart they are, nats. */
function topTwo(logits: Float32Array): { id: number; gap: number } {
  const best = argmax(logits);
  let second = -Infinity;
  logits.forEach((value, id) => {
    if (id !== best && value > second) second = value;
  });
  return { id: best, gap: logits[best]! - second };
}

describe('float32 and int8 against PyTorch and PEFT', () => {
  let f32: RealRunner;
  let int8: RealRunner;
  beforeAll(async () => {
    f32 = await makeRealRunner('f32', 8);
    int8 = await makeRealRunner('int8', 8);
  });
  afterAll(async () => {
    await f32.runner.close();
    await int8.runner.close();
  });

  it('encodes the prompts as transformers does', () => {
    for (const { prompts } of Object.values(reference))
      for (const { user, prompt_tokens } of prompts) expect(f32.encodePrompt(user)).toEqual(prompt_tokens);
  });

  describe.each(Object.entries(reference))('%s', (_name, { chain, prompts }) => {
    it('float32: first log-probabilities to 1e-3, greedy tokens identical', async () => {
      const { runner } = f32;
      const rows = prompts.map((prompt: ReferencePrompt) => ({
        prompt,
        logits: new Float32Array() as Float32Array,
        got: [] as number[],
      }));
      for (const [slot, row] of rows.entries()) {
        runner.assign(slot, f32.delta(chain));
        row.logits = (await prefillAll(runner, slot, row.prompt.prompt_tokens))[0]!;
        const logprobs = logProbabilities(row.logits);
        for (const [id, expected] of Object.entries(row.prompt.first_logprobs))
          expect(Math.abs(logprobs[Number(id)]! - expected)).toBeLessThan(1e-3);
      }
      // All rows step together; a row that is done, or whose two likeliest are too close to call, is only kept in step.
      const open = new Set(rows);
      for (let step = 0; open.size > 0; step++) {
        const next = rows.map((row) => {
          const { id, gap } = topTwo(row.logits);
          const expected = row.prompt.greedy_tokens[step];
          if (!open.has(row)) return id;
          if (expected === undefined) open.delete(row);
          else if (gap < TIE && id !== expected) {
            console.log(
              `"${row.prompt.user}": stopped comparing at token ${step}, the likeliest two are ${gap.toFixed(4)} apart`,
            );
            open.delete(row);
          } else {
            expect(id, `token ${step} of "${row.prompt.user}"`).toBe(expected);
            row.got.push(id);
          }
          return id;
        });
        if (open.size === 0) break;
        const lengths = rows.map((row) => row.prompt.prompt_tokens.length + step);
        const logits = await runner.decode({ tokens: next, lengths });
        rows.forEach(
          (row, slot) => (row.logits = logits.slice(slot * runner.vocabSize, (slot + 1) * runner.vocabSize)),
        );
      }
      rows.forEach((_, slot) => runner.release(slot));
      expect(rows.reduce((sum, row) => sum + row.got.length, 0)).toBeGreaterThan(90);
    });

    it('int8: mean KL to float32 at most 0.02', async () => {
      let sum = 0;
      let count = 0;
      for (const { prompt_tokens, greedy_tokens } of prompts) {
        const exact = await teacherForced(f32, chain, prompt_tokens, greedy_tokens);
        const coarse = await teacherForced(int8, chain, prompt_tokens, greedy_tokens);
        exact.forEach((row, i) => (sum += divergence(row, coarse[i]!)));
        count += exact.length;
      }
      console.log(`${_name}: mean KL ${(sum / count).toFixed(5)} over ${count} tokens`);
      expect(sum / count).toBeLessThan(0.02);
    });
  });

  it.each([
    { task: 'medicine', chain: ['medicine'], float32: 95, atLeast: 92 },
    { task: 'cardiology', chain: ['medicine', 'cardiology'], float32: 100, atLeast: 97 },
    { task: 'dr-lee', chain: ['medicine', 'cardiology', 'dr-lee'], float32: 100, atLeast: 97 },
    { task: 'intent', chain: ['intent-v2'], float32: 100, atLeast: 97 },
  ])(
    'int8: $task, teacher-forced exact match within 3 rows of float32 ($float32 of 100)',
    async ({ task, chain, atLeast }) => {
      let right = 0;
      for (const { user, expected } of taskRows(task)) {
        const answer = int8.encodeAnswer(`${expected}<|im_end|>`);
        const rows = await teacherForced(int8, chain, int8.encodePrompt(user), answer);
        if (rows.every((row, i) => argmax(row) === answer[i])) right++;
      }
      console.log(`${task}: ${right} of 100`);
      expect(right).toBeGreaterThanOrEqual(atLeast);
    },
  );
});
