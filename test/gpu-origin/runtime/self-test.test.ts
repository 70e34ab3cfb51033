import { afterAll, expect, it } from 'vitest';
import { PRECISIONS } from '../../../gpu-origin/model/base-model.ts';
import { chooseExactInt8, mostTokens } from '../../../gpu-origin/runtime/self-test.ts';
import {
  type Binding,
  bytesOf,
  type Device,
  type DeviceTensor,
  type OwnMemory,
} from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';

const { device } = await openDevice({ provider: 'cpu', threads: 1 });
afterAll(() => device.close());

const heads = { heads: 4, kvHeads: 2, headDim: 16 };

const own: OwnMemory = {
  allocate: async (type, dims) => device.tensor(type, await device.memory(bytesOf(type, dims)), 0, dims),
  first: () => expect.unreachable(),
  hasFp16: () => expect.unreachable(),
};

/** The processor, with outputs that a binding changes after a run. */
const broken = (harm: (tokens: number, output: Float32Array) => void): Device => {
  const bound = (binding: Binding): Binding => {
    let output: { values: Float32Array; tokens: number };
    return {
      input: (name, tensor) => binding.input(name, tensor),
      output(name, tensor) {
        binding.output(name, tensor);
        if (name === 'y') output = places.get(tensor)!;
      },
      async run() {
        await binding.run();
        harm(output.tokens, output.values);
      },
      close: () => binding.close(),
    };
  };
  const places = new Map<DeviceTensor, { values: Float32Array; tokens: number }>();
  return {
    ...device,
    memory: (bytes: number) => device.memory(bytes),
    host: (bytes: number) => device.host(bytes),
    tensor(type, memory, at, dims) {
      const tensor = device.tensor(type, memory, at, dims);
      if ('buffer' in memory && type === 'f32') {
        const { buffer, offset, bytes } = memory as Awaited<ReturnType<Device['host']>>;
        places.set(tensor, { values: new Float32Array(buffer, offset, bytes >> 2), tokens: dims[1]! });
      }
      return tensor;
    },
    async session(model, weights) {
      const session = await device.session(model, weights);
      return { bind: () => bound(session.bind()), close: () => session.close() };
    },
  };
};

it.each(PRECISIONS)(
  'lets a device with correct attention read as many tokens as it wants: %s',
  async (precision) => {
    expect(await mostTokens(device, own, heads, 128, precision)).toBe(128);
  },
);

it.each([
  ['f32', 0.01],
  ['f16', 0.05],
] as const)('lets one read few at once whose attention is wrong over many: %s', async (precision, error) => {
  const many = broken((tokens, output) => tokens >= 32 && (output[5 * 64 + 3]! += error));
  expect(await mostTokens(many, own, heads, 128, precision)).toBe(31);
});

it('rejects a device whose attention is always wrong, or NaN', async () => {
  const refusal = /attention over 31 tokens is wrong on this GPU or in its driver\. Use --provider cpu/;
  const wrong = broken((_, output) => (output[0]! += 0.01));
  await expect(mostTokens(wrong, own, heads, 128, 'f32')).rejects.toThrow(refusal);
  const nothing = broken((_, output) => output.fill(NaN));
  await expect(mostTokens(nothing, own, heads, 128, 'f16')).rejects.toThrow(refusal);
});

it.each([false, true])(
  'the start reports whether it uses the slower int8 kernel: without the faster one %s',
  async (forced) => {
    await chooseExactInt8(device);
    const unwanted = (): never => expect.unreachable();
    const cpu = async (): Promise<Device> => {
      const { device } = await openDevice({ provider: 'cpu', threads: 1 });
      if (forced) Object.defineProperty(device, 'preciseInt8', { get: () => true, set: () => {} });
      return device;
    };
    const said: string[] = [];
    const tiny = await makeTinyRunner({
      ...{ slots: 1, provider: 'cpu', onProvider: (message) => said.push(message) },
      open: { cpu, webgpu: unwanted, web: unwanted, findGpu: unwanted, measure: unwanted },
    });
    await tiny.close();
    const slower = expect.stringMatching(
      /, with the slower of its int8 kernels, since .* \(x86 without VNNI\)/,
    ) as string;
    expect(said).toEqual([forced || device.preciseInt8 ? slower : `provider cpu: ${device.description}`]);
  },
);
