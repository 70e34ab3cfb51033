/** Compares other providers with the native library, on a tiny base of each family. */
import { beforeAll, describe, expect, it } from 'vitest';
import { logitsOf, meanDivergence, worstDifference } from '../../fixtures/provider-logits.ts';
import { TINY_OUTER_ADAPTERS, TINY_SHAPES } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';

describe.each(['llama', 'gemma2', 'qwen2'])('heads in WebAssembly, %s', (name) => {
  it.each([
    ['f32', 1e-4],
    ['int8', 0.02],
  ] as const)('are adapted as by the native library, in %s', async (weights, most) => {
    const wanted = await logitsOf(TINY_SHAPES[name]!, 'cpu', 'f32', { pair: 'heads' });
    expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
    const rows = await logitsOf(TINY_SHAPES[name]!, 'web', weights, { pair: 'heads' });
    const compare = weights === 'f32' ? worstDifference : meanDivergence;
    expect(compare(wanted, rows)).toBeLessThan(most);
  });
});

it('refuses adapters of the embedding in WebAssembly, by name', async () => {
  const tiny = await makeTinyRunner({ provider: 'web', weights: 'f32', slots: 2 });
  await expect(tiny.adapter('tokens', TINY_OUTER_ADAPTERS['tokens'])).rejects.toThrow(
    /embed_tokens: the base tiny-base is served by an engine that cannot adapt the embedding of tokens/,
  );
  await tiny.close();
});

describe.each(Object.entries(TINY_SHAPES))('WebAssembly beside the native library, %s', (_name, shape) => {
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
