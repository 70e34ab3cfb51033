import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { TINY_QWEN3MOE_RAW, TINY_SEEING, TINY_VARIANTS } from '../../fixtures/tiny-base.ts';
import {
  argmax,
  divergence,
  logProbabilities,
  makeTinyRunner,
  prefillAll,
} from '../../fixtures/tiny-runner.ts';

interface Row {
  chain: string[];
  logprobs: Record<string, number[]>;
  likeliest: number[];
}
const { prompt: PROMPT, ...reference } = JSON.parse(
  readFileSync(new URL('../../fixtures/tiny-variants-reference.json', import.meta.url), 'utf8'),
) as { prompt: number[] } & Record<string, Row[]>;

/** The arithmetic is that of the families of text alone, which tiny-reference.test.ts compares in every format. */
it.each(Object.entries({ ...TINY_SEEING, ...TINY_VARIANTS, qwen3moe_raw: TINY_QWEN3MOE_RAW }))(
  '%s, with adapters as PEFT names them, matches PyTorch and PEFT',
  async (name, shape) => {
    const logits = async (weights: 'f32' | 'int8'): Promise<Float32Array[][]> => {
      const tiny = await makeTinyRunner({ shape, weights, kv: 'f32' });
      const rows: Float32Array[][] = [];
      for (const { chain } of reference[name] as unknown as Row[]) {
        const adapters = await Promise.all(chain.map((one) => tiny.adapter(one)));
        const members = adapters.map((adapter) => ({ adapter, scale: 1 }));
        tiny.runner.assign(0, members.length === 0 ? null : tiny.runner.compose(members));
        rows.push(await prefillAll(tiny.runner, 0, PROMPT, [...PROMPT.keys()]));
        tiny.runner.release(0);
      }
      await tiny.close();
      return rows;
    };
    const [exact, coarse] = [await logits('f32'), await logits('int8')];
    for (const [at, { chain, logprobs, likeliest }] of (reference[name] as unknown as Row[]).entries()) {
      const rows = exact[at]!;
      expect(rows.map(argmax)).toEqual(likeliest);
      for (const [position, expected] of Object.entries(logprobs)) {
        const got = logProbabilities(rows[Number(position)]!);
        // Measured: 1.1e-5, and 2.8e-5 with adapters.
        const most = chain.length === 0 ? 1e-4 : 2e-4;
        expected.forEach((value, token) => expect(Math.abs(got[token]! - value)).toBeLessThan(most));
      }
      const kl = rows.reduce((sum, row, i) => sum + divergence(row, coarse[at]![i]!), 0) / rows.length;
      expect(kl).toBeLessThan(0.02);
    }
  },
);
