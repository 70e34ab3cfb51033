import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cacheFolder } from '../../cli/local/find-base.ts';
import { type OriginProcess, startOrigin } from '../../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import { loadTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { createRunner } from '../../gpu-origin/runtime/create-runner.ts';
import { type TinyShape, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { argmax, divergence, prefillAll } from '../fixtures/tiny-runner.ts';
import { ensureGemma } from './gemma-base.ts';
import { taskRows } from './real-base.ts';

const SHAPE: TinyShape = {
  ...{ family: 'gemma3_text', hidden: 640, layers: 18, heads: 4, kvHeads: 1, headDim: 256, ffn: 2_048 },
  ...{ context: 32_768, tied: true },
};
const CONTEXT = 1_024;
const TOKENS = 200;

describe('Gemma 3 270M, a second family', () => {
  let basePath: string;
  let work: string;
  beforeAll(async () => {
    basePath = await ensureGemma(cacheFolder(process.env));
    work = await mkdtemp(path.join(os.tmpdir(), 'graft-gemma-'));
  });
  afterAll(() => rm(work, { recursive: true, force: true }));

  describe('as an origin', () => {
    let origin: OriginProcess;
    let client: OpenAI;
    beforeAll(async () => {
      const adapter = path.join(work, 'adapter');
      const targets = ['q_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
      writeTinyAdapter(adapter, { seed: 7, rank: 4, alpha: 8, targets, size: 0.05 }, SHAPE, 'gemma-3-270m');
      const port = await needFreePort({ port: 0, what: 'origin', flag: '--port' });
      const args = ['--dev', '--base', basePath, '--cache', work, '--context', String(CONTEXT)];
      origin = await startOrigin({
        args: [...args, '--port', String(port), '--adapter', `mine=${adapter}`],
        env: {},
      });
      client = new OpenAI({ baseURL: `http://${LOOPBACK}:${port}/v1`, apiKey: 'unused', maxRetries: 0 });
    });
    afterAll(async () => await origin?.stop());

    const answer = async (model: string, prompt: string): Promise<string> => {
      const asked = { model, prompt, max_tokens: 8, temperature: 0 };
      return (await client.completions.create(asked)).choices[0]!.text;
    };

    it('answers, and otherwise with an adapter', async () => {
      const base = (await client.models.list()).data[0]!.id;
      expect(base).toBe('gemma-3-270m');
      const prompt = 'Germany: Berlin\nSpain: Madrid\nItaly: Rome\nFrance:';
      const [plain, adapted] = [await answer(base, prompt), await answer('mine', prompt)];
      expect(plain).toMatch(/^ Paris\n/);
      expect(adapted).not.toBe(plain);
      expect(await answer(base, prompt)).toBe(plain);
    });
  });

  it('int8 is the base in float32 to a KL of 0.02', async () => {
    const text = taskRows('medicine')
      .map(({ user, expected }) => `${user} ${expected}`)
      .join('\n');
    const rows: Float32Array[][] = [];
    for (const weights of ['f32', 'int8'] as const) {
      const { runner, tokenizerSource } = await createRunner({
        ...{ basePath, weights, slots: 1, context: CONTEXT, cacheDir: work },
        onProgress: () => undefined,
        onNotice: (message) => expect.unreachable(message),
      });
      const tokenizer = loadTokenizer(tokenizerSource);
      const ids = tokenizer.encode(text, { allowSpecial: false }).slice(0, TOKENS);
      const tokens = [...tokenizer.prefixIds, ...ids];
      rows.push(await prefillAll(runner, 0, tokens, [...tokens.keys()]));
      await runner.close();
    }
    const [exact, coarse] = rows as [Float32Array[], Float32Array[]];
    const kl = exact.reduce((sum, row, at) => sum + divergence(row, coarse[at]!), 0) / exact.length;
    const same = exact.filter((row, at) => argmax(row) === argmax(coarse[at]!)).length;
    console.log(
      `Gemma 3 270M: KL of int8 to float32 ${kl.toFixed(4)} over ${exact.length} tokens, the same likeliest token at ${same}`,
    );
    expect(kl).toBeLessThan(0.02);
    // What a broken base gives is near to uniform, float32 too.
    expect(same / exact.length).toBeGreaterThan(0.9);
  });
});
