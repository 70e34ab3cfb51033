import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { type OriginProcess, startOrigin } from '../../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import { createOutput } from '../../cli/output.ts';
import { exampleFolder, inParallel } from './edge-stack.ts';
import { EXAMPLES, reference, taskRows } from './real-base.ts';

/** Rows over which the reference's mean was taken. */
const ROWS = 40;
const SYSTEM = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face';
const promptOf = (user: string): string =>
  `<|im_start|>system\n${SYSTEM}<|im_end|>\n<|im_start|>user\n${user}<|im_end|>\n<|im_start|>assistant\n`;

describe('an origin by itself, asked by the official client', () => {
  let origin: OriginProcess;
  let client: OpenAI;
  let cache: string;
  beforeAll(async () => {
    const port = await needFreePort({ port: 0, what: 'origin', flag: '--port' });
    cache = await mkdtemp(path.join(os.tmpdir(), 'graft-check-'));
    const base = await ensurePinnedBase({
      cache: cacheFolder(process.env),
      output: createOutput({ json: false }),
    });
    origin = await startOrigin({
      args: [
        ...['--dev', '--base', base, '--cache', cache, '--port', String(port)],
        ...EXAMPLES.flatMap((name) => ['--adapter', `${name}=${exampleFolder(name)}`]),
        ...['--adapter', `alone=${exampleFolder('cardiology')}`],
        ...['--parent', 'cardiology=medicine', '--parent', 'dr-lee=cardiology'],
      ],
      env: {},
    });
    client = new OpenAI({ baseURL: `http://${LOOPBACK}:${port}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  afterAll(async () => {
    await origin?.stop();
    await rm(cache, { recursive: true, force: true });
  });

  it.each([
    { model: 'medicine', task: 'medicine', chain: 'medicine' },
    { model: 'cardiology', task: 'cardiology', chain: 'medicine/cardiology' },
    { model: 'dr-lee', task: 'dr-lee', chain: 'medicine/cardiology/dr-lee' },
    { model: 'intent-v1', task: 'intent', chain: 'intent-v1' },
    { model: 'intent-v2', task: 'intent', chain: 'intent-v2' },
    { model: 'alone', task: 'cardiology', chain: 'cardiology-alone' },
  ])('echo with logprobs: the mean NLL of $model is PyTorch’s to 0.02', async ({ model, task, chain }) => {
    const expected = reference[chain]!.mean_nll;
    const rows = await inParallel(taskRows(task).slice(0, ROWS), 8, async (row) => {
      const prompt = promptOf(row.user);
      const text = `${prompt}${row.expected}<|im_end|>`;
      const completion = await client.completions.create({
        model,
        prompt: text,
        echo: true,
        logprobs: 0,
        max_tokens: 0,
      });
      const choice = completion.choices[0]!;
      const { tokens, token_logprobs, text_offset } = choice.logprobs!;
      expect(choice.text).toBe(text);
      expect(tokens!.join('')).toBe(text);
      expect(token_logprobs).toHaveLength(completion.usage!.prompt_tokens);
      expect(token_logprobs![0]).toBeNull();
      const answer = token_logprobs!.filter((_, index) => text_offset![index]! >= prompt.length);
      return { nll: -answer.reduce((sum, logprob) => sum + logprob, 0), tokens: answer.length };
    });
    const tokens = rows.reduce((sum, row) => sum + row.tokens, 0);
    const mean = rows.reduce((sum, row) => sum + row.nll, 0) / tokens;
    console.log(
      `${model}: mean NLL ${mean.toFixed(5)} over ${tokens} tokens of ${task}, PyTorch has ${expected}`,
    );
    expect(Math.abs(mean - expected)).toBeLessThan(0.02);
  });
});
