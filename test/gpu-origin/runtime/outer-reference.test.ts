/** Adapters of the head and of the embedding, against transformers and PEFT (test/fixtures/make-outer-reference.py). */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packAdapter } from '../../../adapters/index.ts';
import { readInput } from '../../../cli/adapter-files/read-input.ts';
import { stagesOf } from '../../../gpu-origin/engine/adapters/activation.ts';
import type { ResidentAdapter } from '../../../gpu-origin/engine/ports.ts';
import { TINY_OUTER_ADAPTERS, TINY_SEEING, TINY_SHAPES, TINY_VARIANTS } from '../../fixtures/tiny-base.ts';
import {
  argmax,
  divergence,
  logProbabilities,
  makeTinyRunner,
  prefillAll,
  type TinyRunner,
} from '../../fixtures/tiny-runner.ts';

interface Row {
  logprobs: Record<string, number[]>;
  likeliest: number[];
}
const reference = JSON.parse(
  readFileSync(new URL('../../fixtures/tiny-outer-reference.json', import.meta.url), 'utf8'),
) as {
  prompt: number[];
  families: Record<string, (Row & { chain: string[] })[]>;
  saved: Record<string, Row & { family: string }>;
};
const { prompt: PROMPT } = reference;

interface Loaded {
  tiny: TinyRunner;
  adapters: Record<string, ResidentAdapter>;
}

async function load(params: Parameters<typeof makeTinyRunner>[0]): Promise<Loaded> {
  const tiny = await makeTinyRunner(params);
  const adapters: Record<string, ResidentAdapter> = {};
  for (const [name, adapter] of Object.entries(TINY_OUTER_ADAPTERS))
    adapters[name] = await tiny.adapter(name, adapter);
  return { tiny, adapters };
}

/** Logits after each token of the prompt; of those of its last 16, as tokens that are generated. */
async function logitsOf(
  { tiny: { runner }, adapters }: Loaded,
  chain: readonly string[],
): Promise<{ read: Float32Array[]; decoded: Float32Array[] }> {
  const members = chain.map((name) => ({ adapter: adapters[name]!, scale: 1 }));
  runner.assign(0, members.length === 0 ? null : runner.compose(members));
  const positions = PROMPT.map((_, at) => at);
  const read = await prefillAll(runner, 0, PROMPT, positions);
  runner.release(0);
  runner.assign(0, members.length === 0 ? null : runner.compose(members));
  const begun = PROMPT.length - 16;
  await prefillAll(runner, 0, PROMPT.slice(0, begun));
  const decoded: Float32Array[] = [];
  for (let at = begun; at < PROMPT.length; at++)
    decoded.push((await runner.decode({ tokens: [PROMPT[at]!], lengths: [at] })).slice());
  runner.release(0);
  return { read, decoded };
}

function expectClose(rows: readonly Float32Array[], { logprobs, likeliest }: Row): number {
  let worst = 0;
  for (const [position, expected] of Object.entries(logprobs)) {
    const got = logProbabilities(rows[Number(position)]!);
    expected.forEach((value, token) => (worst = Math.max(worst, Math.abs(got[token]! - value))));
  }
  expect(rows.map(argmax)).toEqual(likeliest);
  return worst;
}

const meanOf = (exact: readonly Float32Array[], coarse: readonly Float32Array[]): number =>
  exact.reduce((sum, row, at) => sum + divergence(row, coarse[at]!), 0) / exact.length;

const shapes = { ...TINY_SHAPES, ...TINY_SEEING, ...TINY_VARIANTS };

describe.each(Object.keys(reference.families))('%s', (family) => {
  const made: Loaded[] = [];
  let plain: Loaded;
  let rotated: Loaded;
  const make = async (params: Parameters<typeof makeTinyRunner>[0]): Promise<Loaded> => {
    const one = await load({ shape: shapes[family]!, ...params });
    made.push(one);
    return one;
  };
  beforeAll(async () => {
    plain = await make({ weights: 'f32' });
    rotated = await make({ weights: 'f32', rotateFloat32: true });
  });
  afterAll(() => Promise.all(made.map(({ tiny }) => tiny.close())));

  it.each(reference.families[family]!)('is PEFT in float32, chain $chain', async (row) => {
    for (const one of [plain, rotated]) {
      const { read, decoded } = await logitsOf(one, row.chain);
      expect(expectClose(read, row)).toBeLessThan(2e-4);
      decoded.forEach((logits, at) => {
        const expected = logProbabilities(read[PROMPT.length - 16 + at]!);
        logProbabilities(logits).forEach((value, token) =>
          expect(Math.abs(value - expected[token]!)).toBeLessThan(2e-4),
        );
      });
    }
  });

  it.each([
    // What is rounded is amplified by random states, without these adapters too, and may choose another expert.
    ['int8', family === 'qwen3_5' || family === 'qwen3moe' ? 0.03 : 0.02],
    ['int4', family === 'qwen3_5' ? 2 : 1],
  ] as const)('stays close in %s', async (weights, most) => {
    const rounded = await make({ weights, kv: 'f32' });
    const { chain } = reference.families[family]!.at(-1)!;
    const exact = await logitsOf(plain, chain);
    const coarse = await logitsOf(rounded, chain);
    expect(meanOf(exact.read, coarse.read)).toBeLessThan(most);
    expect(meanOf(exact.decoded, coarse.decoded)).toBeLessThan(most);
  });
});

describe('adapters that PEFT saved', () => {
  it.each(Object.entries(reference.saved))('%s', async (name, row) => {
    const tiny = await makeTinyRunner({ shape: TINY_SHAPES[row.family]!, weights: 'f32' });
    const folder = fileURLToPath(new URL(`../../fixtures/peft-outer/${name}`, import.meta.url));
    const { files } = await readInput(folder);
    const packed = await packAdapter({ files, baseId: tiny.runner.base.id, parentChainId: null });
    const adapter = await tiny.runner.loadAdapter(packed.bytes, packed.digest);
    const delta = tiny.runner.compose([{ adapter, scale: 1 }]);
    const chain = [{ digest: packed.digest, scale: 1 }];
    const stages = stagesOf(chain, new Map([[packed.digest, adapter]]), PROMPT);
    expect(stages).toHaveLength(adapter.invocation === null ? 1 : 2);
    const rows: Float32Array[] = [];
    for (const [at, { from, chain: acting }] of stages.entries()) {
      const to = stages[at + 1]?.from ?? PROMPT.length;
      tiny.runner.changeDelta(0, acting.length === 0 ? null : delta);
      for (let past = from; past < to; past += tiny.runner.chunk) {
        const tokens = PROMPT.slice(past, Math.min(to, past + tiny.runner.chunk));
        const positions = tokens.map((_, position) => position);
        const logits = await tiny.runner.prefill({ slot: 0, tokens, past, positions });
        const size = tiny.runner.vocabSize;
        positions.forEach((position) => rows.push(logits.slice(position * size, (position + 1) * size)));
      }
    }
    const worst = expectClose(rows, row);
    await tiny.close();
    expect(worst).toBeLessThan(2e-4);
  });
});
