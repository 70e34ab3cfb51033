/**
 * A GPU's float16 graphs on the processor, which casts where it has no kernel: the graphs' accuracy, not a
 * GPU's.
 */
import { describe, expect, it } from 'vitest';
import type { CreateRunnerParams } from '../../../gpu-origin/runtime/create-runner.ts';
import { gpuOnProcessor, type GpuOnProcessor } from '../../fixtures/gpu-on-processor.ts';
import { logitsOf, meanDivergence, worstDifference } from '../../fixtures/provider-logits.ts';
import { TINY_GEMMA4_E2B, TINY_SHAPES } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';

// Together they use every operator of the graphs: windows, biases, norms of heads, fused linears, both
// activations, embeddings of each layer, states.
it.each(['llama', 'qwen2', 'gemma3', 'phi3', 'gemma4_e2b', 'qwen3_5'] as const)(
  'float16 matches float32: %s',
  async (name) => {
    const shape = name === 'gemma4_e2b' ? TINY_GEMMA4_E2B : TINY_SHAPES[name]!;
    const wanted = await logitsOf(shape, 'cpu', 'f32');
    const halves = { open: gpuOnProcessor(), precision: 'f16' } as const;
    const floats = await logitsOf(shape, 'webgpu', 'f32', halves);
    expect(worstDifference(wanted, floats)).toBeLessThan(0.15);
    expect(meanDivergence(wanted, floats)).toBeLessThan(1e-3);
    const int8 = await logitsOf(shape, 'webgpu', 'int8', halves);
    // What docs/internals/engine.md promises of a GPU.
    expect(meanDivergence(wanted, int8)).toBeLessThan(0.02);
    // It is float16: not the bits of float32.
    expect(worstDifference(wanted, floats)).toBeGreaterThan(1e-4);
  },
);

describe('the served precision', () => {
  const served = async (
    gpu: GpuOnProcessor,
    params: Partial<CreateRunnerParams> = {},
  ): Promise<{ precision: string | undefined; notices: string[]; memory: string }> => {
    const notices: string[] = [];
    let memory = '';
    const tiny = await makeTinyRunner({
      ...{ provider: 'webgpu', open: gpuOnProcessor(gpu), slots: 2, ...params },
      onNotice: (message) => notices.push(message),
      onMemory: (message) => (memory = message),
    });
    const { precision } = tiny.runner.base;
    // It answers in either case.
    const logits = await tiny.runner.prefill({ slot: 0, tokens: [1, 2, 3], past: 0, positions: [2] });
    expect(logits.every(Number.isFinite)).toBe(true);
    await tiny.close();
    return { precision, notices, memory };
  };

  it('is float16 for int8 and int4 if the GPU has it, for float32 only if requested', async () => {
    expect(await served({})).toMatchObject({
      ...{ precision: 'f16', notices: [], memory: expect.stringContaining('keys and values in float16') },
    });
    expect(await served({}, { weights: 'int4' })).toMatchObject({ precision: 'f16', notices: [] });
    expect(await served({}, { weights: 'f32' })).toMatchObject({ precision: undefined, notices: [] });
    expect(await served({}, { precision: 'f32' })).toMatchObject({ precision: undefined, notices: [] });
    expect(await served({ fp16: false })).toMatchObject({ precision: undefined, notices: [] });
  });

  it('is float32 if float16 differs, or fails', async () => {
    const far = await served({ harm: (logits) => logits.forEach((_, at) => (logits[at]! *= at % 2)) });
    expect(far).toMatchObject({
      ...{ precision: undefined, memory: expect.stringContaining('keys and values in float32') },
      notices: [
        expect.stringMatching(
          /^serving float32, because on this GPU its float16 answers differ too much from float32 \(mean KL [\d.]+\)\.$/,
        ),
      ],
    });
    expect(await served({ harm: (logits) => logits.fill(NaN, 7, 8) })).toMatchObject({
      precision: undefined,
      notices: ['serving float32, because on this GPU some numbers exceed the range of float16.'],
    });
  });

  it('is none if float16 is requested and missing', async () => {
    const refused =
      /--precision f16: this GPU or its driver does not support float16 .*\. Remove --precision/;
    await expect(served({ fp16: false }, { precision: 'f16' })).rejects.toThrow(refused);
    await expect(makeTinyRunner({ provider: 'cpu', precision: 'f16' })).rejects.toThrow(
      /provider cpu computes in float32; float16 needs a GPU \(--provider webgpu\)/,
    );
  });
});
