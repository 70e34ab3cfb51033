import { FakeRunner } from '../../../gpu-origin/runtime/fake-runner.ts';
import { describeModelRunner } from '../../contracts/model-runner.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';
import { digestOf } from '../engine/harness.ts';

describeModelRunner('fake', async () => {
  const ranks = new Map<string, number>();
  const runner = new FakeRunner({ slots: 16, rank: (digest) => ranks.get(digest)! });
  return {
    runner,
    async file({ seed, rank }) {
      const digest = await digestOf(`adapter ${seed}`);
      ranks.set(digest, rank);
      return { bytes: Uint8Array.of(seed), digest };
    },
    close: () => runner.close(),
  };
});

const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

// webgpu needs a device: test/browser/webgpu.test.ts.
for (const provider of ['cpu', 'web'] as const)
  for (const weights of ['int8', 'f32'] as const)
    describeModelRunner(`ONNX Runtime, provider ${provider}, ${weights}`, async () => {
      const tiny = await makeTinyRunner({ provider, weights, slots: 16 });
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
