/** The WebGPU provider on a tiny base, on SwiftShader: what every runner promises. */
import { describe } from 'vitest';
import { describeModelRunner } from '../contracts/model-runner.ts';
import { useSoftwareVulkan } from '../fixtures/software-vulkan.ts';
import { makeTinyRunner } from '../fixtures/tiny-runner.ts';

const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

const missing = useSoftwareVulkan();

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
});
