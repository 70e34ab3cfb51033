/** Compares other providers with the native library, on a tiny base of each family. */
import { beforeAll, describe, expect, it } from 'vitest';
import { logitsOf, meanDivergence, worstDifference } from '../../fixtures/provider-logits.ts';
import { TINY_GEMMA4_E2B, TINY_QWEN3MOE, TINY_SHAPES } from '../../fixtures/tiny-base.ts';

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
