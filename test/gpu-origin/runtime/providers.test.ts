/** Compares other providers with the native library, on a tiny base of each family. */
import { beforeAll, describe, expect, it } from 'vitest';
import { validateAdapter } from '../../../adapters/index.ts';
import { logitsOf, meanDivergence, worstDifference } from '../../fixtures/provider-logits.ts';
import {
  TINY_GEMMA4_E2B,
  TINY_OUTER_ADAPTERS,
  TINY_QWEN3MOE,
  TINY_SHAPES,
} from '../../fixtures/tiny-base.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';

describe.each(['llama', 'gemma2'])('heads and embeddings in WebAssembly, %s', (name) => {
  it.each([
    ['heads', 'f32', 1e-4],
    ['heads', 'int8', 0.02],
    ['outer', 'f32', 1e-4],
    ['outer', 'int8', 0.02],
  ] as const)('are adapted as by the native library: %s in %s', async (pair, weights, most) => {
    const wanted = await logitsOf(TINY_SHAPES[name]!, 'cpu', 'f32', { pair });
    expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
    const rows = await logitsOf(TINY_SHAPES[name]!, 'web', weights, { pair });
    const compare = weights === 'f32' ? worstDifference : meanDivergence;
    expect(compare(wanted, rows)).toBeLessThan(most);
  });
});

it('refuses adapters of the embedding by name where their graphs have no room', async () => {
  const tiny = await makeTinyRunner({ weights: 'f32', slots: 2 });
  const { base } = tiny.runner;
  const modules = base.modules.filter(({ name }) => name !== 'model.embed_tokens');
  expect(base.modules).toHaveLength(modules.length + 1);
  const { bytes } = await tiny.file('tokens', TINY_OUTER_ADAPTERS['tokens']);
  expect(validateAdapter({ adapter: bytes, base: { ...base, modules } })).toMatchObject([
    {
      code: 'module_unknown',
      message: expect.stringContaining('takes no adapters of the embedding of tokens'),
    },
  ]);
  await tiny.close();
});

const SHAPES = { ...TINY_SHAPES, qwen3moe: TINY_QWEN3MOE, gemma4_e2b: TINY_GEMMA4_E2B };

describe.each(Object.entries(SHAPES))('WebAssembly beside the native library, %s', (_name, shape) => {
  let wanted: Float32Array[];
  beforeAll(async () => {
    wanted = await logitsOf(shape, 'cpu', 'f32');
    // Deltas have an effect: nothing here compares the base with itself.
    expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
  });

  it('has its log-probabilities within 1e-4 in float32', async () => {
    expect(worstDifference(wanted, await logitsOf(shape, 'web', 'f32'))).toBeLessThan(1e-4);
  });

  it('is within 0.01 nats of float32 in int8', async () => {
    expect(meanDivergence(wanted, await logitsOf(shape, 'web', 'int8'))).toBeLessThan(0.01);
  });
});
