/** What runners of a GPU promise, over bases that keep other things of a row: on the processor, which has the same operators. */
import { expect, it } from 'vitest';
import { describeModelRunner } from '../../contracts/model-runner.ts';
import { gpuOnProcessor } from '../../fixtures/gpu-on-processor.ts';
import { logitsOf, meanDivergence, worstDifference } from '../../fixtures/provider-logits.ts';
import { TINY_GEMMA4_E2B, TINY_QWEN3_5 } from '../../fixtures/tiny-base.ts';
import { forContract, makeTinyRunner } from '../../fixtures/tiny-runner.ts';

const BASES = { gemma4_e2b: TINY_GEMMA4_E2B, qwen3_5: TINY_QWEN3_5 };

it.each(Object.entries(BASES))(
  "a GPU's graphs give the answers of a processor's: %s",
  async (name, shape) => {
    const open = gpuOnProcessor();
    const wanted = await logitsOf(shape, 'cpu', 'f32');
    expect(worstDifference(wanted, await logitsOf(shape, 'webgpu', 'f32', { open }))).toBeLessThan(1e-4);
    // 0.016, and 0.65 of Qwen3.5, whose random states amplify what is rounded.
    const int4 = meanDivergence(wanted, await logitsOf(shape, 'webgpu', 'int4', { open }));
    expect(int4).toBeLessThan(name === 'qwen3_5' ? 2 : 1);
  },
);

for (const [name, shape] of Object.entries(BASES))
  for (const [weights, precision] of [
    ['f32', 'f32'],
    ['int8', 'f32'],
    ['int8', 'f16'],
  ] as const)
    describeModelRunner(`a GPU's graphs of ${name}, ${weights} in ${precision}`, async () => {
      const open = gpuOnProcessor();
      return forContract(
        await makeTinyRunner({ provider: 'webgpu', open, shape, weights, precision, slots: 16 }),
      );
    });
