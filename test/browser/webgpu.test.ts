/**
 * The WebGPU provider on tiny bases, on SwiftShader or the driver that VK_ICD_FILENAMES names, in float16 too where that
 * has it: what every runner promises, and the native
 * library's answers.
 */
import { describe, expect, it } from 'vitest';
import { ortLibrary } from '../../gpu-origin/runtime/native/native-device.ts';
import { WebgpuDevice } from '../../gpu-origin/runtime/native/webgpu-device.ts';
import { describeModelRunner } from '../contracts/model-runner.ts';
import { logitsOf, meanDivergence, worstDifference } from '../fixtures/provider-logits.ts';
import { useSoftwareVulkan } from '../fixtures/software-vulkan.ts';
import { TINY_GEMMA4_E2B, TINY_QWEN3_5, TINY_SHAPES } from '../fixtures/tiny-base.ts';
import { forContract, makeTinyRunner } from '../fixtures/tiny-runner.ts';
import {
  asBatch,
  gradientDifferences,
  trainingReference,
  withTinyTrainer,
} from '../fixtures/training-references.ts';

const missing = useSoftwareVulkan();
// Where it is needed, as in .ci/run, nothing is skipped.
if (missing !== null && process.env['GRAFT_TEST_WEBGPU'] === 'needed') throw new Error(missing);
const halves = missing === null && (await hasHalves());

async function hasHalves(): Promise<boolean> {
  const device = await WebgpuDevice.open(ortLibrary(), 1);
  try {
    return await device.hasFp16();
  } finally {
    await device.close();
  }
}

describe.skipIf(missing !== null)(`WebGPU${missing === null ? '' : ` (skipped: ${missing})`}`, () => {
  for (const [weights, precision] of [
    ['f32', 'f32'],
    ['int8', 'f32'],
    ...(halves ? [['int8', 'f16'] as const] : []),
  ] as const)
    describeModelRunner(`ONNX Runtime, provider webgpu, ${weights} in ${precision}`, async () => {
      const tiny = await makeTinyRunner({ provider: 'webgpu', weights, precision, slots: 16 });
      expect(tiny.runner.base.precision).toBe(precision === 'f16' ? precision : undefined);
      return forContract(tiny);
    });

  // Rows with states; those of Gemma 4 E2B keep nothing else than others (gpu-families.test.ts).
  describeModelRunner('ONNX Runtime, provider webgpu, a base with states', async () => {
    const params = { provider: 'webgpu', weights: 'f32', shape: TINY_QWEN3_5, slots: 16 } as const;
    return forContract(await makeTinyRunner(params));
  });

  it.each([
    { name: 'llama', shape: TINY_SHAPES['llama'] },
    { name: 'qwen3_5', shape: TINY_QWEN3_5 },
  ])('releases what it took, and the device with it: $name', async ({ shape }) => {
    const { alive } = ortLibrary();
    const before = Object.fromEntries(alive);
    const tiny = await makeTinyRunner({ provider: 'webgpu', weights: 'f32', slots: 4, shape: shape! });
    const delta = tiny.runner.compose([{ adapter: await tiny.adapter('everything'), scale: 1 }]);
    for (const slot of [0, 1, 2]) {
      tiny.runner.assign(slot, slot === 1 ? delta : null);
      await tiny.runner.prefill({ slot, tokens: [1, 2, 3], past: 0, positions: [2] });
    }
    await tiny.runner.decode({ tokens: [4, 5, 6], lengths: [3, 3, 3] });
    tiny.runner.move(2, 5, 4);
    tiny.runner.move(5, 0, 4);
    await tiny.runner.decode({ tokens: [7], lengths: [4] });
    expect(alive.get('session')).toBeGreaterThan(before['session'] ?? 0);
    await tiny.close();
    for (const [kind, count] of alive) expect(`${kind}: ${count}`).toBe(`${kind}: ${before[kind] ?? 0}`);
  });

  it.each(['llama', 'qwen2', 'gemma3', 'olmo2', 'phi3'] as const)(
    'trains as PyTorch does: %s',
    async (name) => {
      const device = await WebgpuDevice.open(ortLibrary(), 1);
      try {
        const own = trainingReference.cases.filter(
          ({ family, kind }) => family === name && kind === 'weighted',
        );
        for (const wanted of own.filter(({ below }) => below.length > 0)) {
          const form = wanted.base === 'int8' ? 'int8' : 'f32';
          await withTinyTrainer(wanted, { form, device }, async (trainer, parameters) => {
            await trainer.accumulate(asBatch(trainingReference.batch));
            const worst = Math.max(...gradientDifferences(parameters, wanted.gradients).values());
            console.log(`${name} in ${form}: gradients within ${worst.toExponential(1)} of a tensor's norm`);
            // As for logits: products on GPUs sum in other orders, some with less than float32.
            expect(worst).toBeLessThan(1e-2);
          });
        }
      } finally {
        await device.close();
      }
    },
  );

  // Between them every operator of the graphs: windows, biases, norms of heads and of all heads as one, none before linears,
  // fused linears, both activations, keys of earlier layers behind windows, embeddings of each layer, states, a gate.
  it.each(['llama', 'qwen2', 'gemma3', 'olmo2', 'phi3', 'gemma4_e2b', 'qwen3_5'] as const)(
    'answers as the processor does: %s',
    async (name) => {
      const shape = name === 'gemma4_e2b' ? TINY_GEMMA4_E2B : TINY_SHAPES[name]!;
      const wanted = await logitsOf(shape, 'cpu', 'f32');
      expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
      const worst = worstDifference(wanted, await logitsOf(shape, 'webgpu', 'f32'));
      const kl8 = meanDivergence(wanted, await logitsOf(shape, 'webgpu', 'int8'));
      console.log(`${name}: float32 within ${worst.toExponential(1)}, int8 KL ${kl8.toExponential(1)}`);
      // What docs/internals/engine.md promises of a GPU.
      expect(worst).toBeLessThan(1e-2);
      expect(kl8).toBeLessThan(0.02);
    },
  );

  // Gemma 4 has a soft cap of logits.
  it.each([
    ...(['llama', 'gemma4'] as const).map((name) => ({ name, pair: 'heads' as const })),
    ...(['llama'] as const).map((name) => ({ name, pair: 'outer' as const })),
  ])('adapts heads and embeddings as the processor does: $pair of $name', async ({ name, pair }) => {
    const shape = TINY_SHAPES[name]!;
    const wanted = await logitsOf(shape, 'cpu', 'f32', { pair });
    expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
    const worst = worstDifference(wanted, await logitsOf(shape, 'webgpu', 'f32', { pair }));
    const kl8 = meanDivergence(wanted, await logitsOf(shape, 'webgpu', 'int8', { pair }));
    const half = halves ? await logitsOf(shape, 'webgpu', 'int8', { pair, precision: 'f16' }) : null;
    console.log(
      `${pair} of ${name}: float32 within ${worst.toExponential(1)}, int8 KL ${kl8.toExponential(1)}`,
    );
    expect(worst).toBeLessThan(1e-2);
    expect(kl8).toBeLessThan(0.02);
    if (half !== null) expect(meanDivergence(wanted, half)).toBeLessThan(0.02);
  });

  it.skipIf(!halves).each(['llama', 'qwen2', 'gemma3', 'olmo2', 'phi3'] as const)(
    'answers in float16 as the processor does in float32: %s (skipped where the driver has no float16)',
    async (name) => {
      const shape = TINY_SHAPES[name]!;
      const wanted = await logitsOf(shape, 'cpu', 'f32');
      const kls: string[] = [];
      for (const weights of ['f32', 'int8'] as const) {
        const logits = await logitsOf(shape, 'webgpu', weights, { precision: 'f16' });
        const kl = meanDivergence(wanted, logits);
        kls.push(`${weights} KL ${kl.toExponential(1)}`);
        expect(kl).toBeLessThan(0.02);
      }
      console.log(`${name} in float16: ${kls.join(', ')}`);
    },
  );

  it.skipIf(halves)('says that the driver has no float16 where it has none', async () => {
    await expect(makeTinyRunner({ provider: 'webgpu', precision: 'f16' })).rejects.toThrow(
      /^--precision f16: this GPU or its driver does not support float16/,
    );
    const tiny = await makeTinyRunner({ provider: 'webgpu' });
    expect(tiny.runner.base.precision).toBeUndefined();
    await tiny.close();
  });
});
