/** The WebGPU provider on tiny bases, on SwiftShader: what every runner promises, and the native library's answers. */
import { describe, expect, it } from 'vitest';
import { ortLibrary } from '../../gpu-origin/runtime/native/ort-library.ts';
import { describeModelRunner } from '../contracts/model-runner.ts';
import { logitsOf, meanDivergence, worstDifference } from '../fixtures/provider-logits.ts';
import { useSoftwareVulkan } from '../fixtures/software-vulkan.ts';
import { TINY_SHAPES } from '../fixtures/tiny-base.ts';
import { makeTinyRunner } from '../fixtures/tiny-runner.ts';

const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

const missing = useSoftwareVulkan();
// Where it is needed, as in .ci/run, nothing is skipped.
if (missing !== null && process.env['GRAFT_TEST_WEBGPU'] === 'needed') throw new Error(missing);

describe.skipIf(missing !== null)(`WebGPU${missing === null ? '' : ` (skipped: ${missing})`}`, () => {
  for (const weights of ['f32', 'int8'] as const)
    describeModelRunner(`ONNX Runtime, provider webgpu, ${weights}`, async () => {
      const tiny = await makeTinyRunner({ provider: 'webgpu', weights, slots: 16 });
      return {
        runner: tiny.runner,
        file: ({ seed, rank, only }) =>
          tiny.file(`adapter ${seed}`, {
            ...{ seed, rank, alpha: rank },
            targets: only === 'qv' ? ['q_proj', 'v_proj'] : ALL,
          }),
        close: () => tiny.close(),
      };
    });

  it('releases what it took, and the device with it', async () => {
    const { alive } = ortLibrary();
    const before = Object.fromEntries(alive);
    const tiny = await makeTinyRunner({ provider: 'webgpu', weights: 'f32', slots: 4 });
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
  }, 180_000);

  // Between them every operator of the graphs: windows, biases, norms of heads, fused linears, both activations.
  it.each(['llama', 'qwen2', 'gemma3', 'phi3'] as const)(
    'answers as the processor does: %s',
    async (name) => {
      const shape = TINY_SHAPES[name]!;
      const wanted = await logitsOf(shape, 'cpu', 'f32');
      expect(new Set(wanted.slice(0, 4).map((logits) => logits.join())).size).toBe(4);
      const worst = worstDifference(wanted, await logitsOf(shape, 'webgpu', 'f32'));
      const kl8 = meanDivergence(wanted, await logitsOf(shape, 'webgpu', 'int8'));
      console.log(`${name}: float32 within ${worst.toExponential(1)}, int8 KL ${kl8.toExponential(1)}`);
      // What docs/engine.md promises of a GPU.
      expect(worst).toBeLessThan(1e-2);
      expect(kl8).toBeLessThan(0.02);
    },
    180_000,
  );
});
