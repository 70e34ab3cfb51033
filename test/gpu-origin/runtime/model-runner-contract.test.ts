import { FakeRunner } from '../fake-runner.ts';
import { describeModelRunner } from '../../contracts/model-runner.ts';
import { forContract, makeTinyRunner } from '../../fixtures/tiny-runner.ts';
import { digestOf } from '../engine/harness.ts';

describeModelRunner('fake', async () => {
  const ranks = new Map<string, number>();
  const runner = new FakeRunner({ slots: 16, mixes: true, rank: (digest) => ranks.get(digest)! });
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

// webgpu needs a device: test/browser/webgpu.test.ts.
for (const provider of ['cpu', 'web'] as const)
  for (const weights of ['int8', 'f32'] as const)
    describeModelRunner(`ONNX Runtime, provider ${provider}, ${weights}`, async () =>
      forContract(await makeTinyRunner({ provider, weights, slots: 16 })),
    );
