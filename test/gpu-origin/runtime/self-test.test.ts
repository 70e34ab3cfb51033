import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { PRECISIONS, type WeightEntry } from '../../../gpu-origin/model/base-model.ts';
import { GraphBuilder, MICROSOFT } from '../../../gpu-origin/model/onnx-proto.ts';
import { quantizeLinear } from '../../../gpu-origin/model/prepare-weights.ts';
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

/** A processor, with outputs `y` that a binding changes after a run. */
const broken = (harm: (tokens: number, output: Float32Array) => void, of = device): Device => {
  const bound = (binding: Binding): Binding => {
    let output: { values: Float32Array; tokens: number } | undefined;
    return {
      input: (name, tensor) => binding.input(name, tensor),
      output(name, tensor) {
        binding.output(name, tensor);
        if (name === 'y') output = places.get(tensor)!;
      },
      async run() {
        await binding.run();
        if (output !== undefined) harm(output.tokens, output.values);
      },
      close: () => binding.close(),
    };
  };
  const places = new Map<DeviceTensor, { values: Float32Array; tokens: number }>();
  const changed: Pick<Device, 'tensor' | 'session'> = {
    tensor(type, memory, at, dims) {
      const tensor = of.tensor(type, memory, at, dims);
      if ('buffer' in memory && type === 'f32') {
        const { buffer, offset, bytes } = memory as Awaited<ReturnType<Device['host']>>;
        places.set(tensor, { values: new Float32Array(buffer, offset, bytes >> 2), tokens: dims[1]! });
      }
      return tensor;
    },
    async session(...opened) {
      const session = await of.session(...opened);
      return { bind: () => bound(session.bind()), close: () => session.close() };
    },
  };
  return Object.assign(Object.create(of) as Device, changed);
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

/** What a kernel that adds pairs in 16 bits makes of equal weights and activations, for the self-test's 512 columns. */
const saturate = (output: Float32Array): void =>
  output.forEach((sum, at) => (output[at] = Math.min(sum, 32_767 * 256)));

const WAYS = [
  {
    kernel: 'exact',
    harm: () => {},
    limited: false,
    precise: false,
    given: { limited: false, precise: false },
  },
  {
    kernel: 'saturating, and so is the slower one',
    harm: (_: Device, output: Float32Array) => saturate(output),
    ...{ limited: true, precise: false, given: { limited: null, precise: true } },
  },
  {
    kernel: 'saturating, and the slower one is exact',
    harm: ({ preciseInt8 }: Device, output: Float32Array) => preciseInt8 || saturate(output),
    ...{ limited: true, precise: false, given: { limited: false, precise: true } },
  },
  {
    kernel: 'wrong with small weights too',
    harm: ({ preciseInt8 }: Device, output: Float32Array) => preciseInt8 || output.fill(0),
    ...{ limited: false, precise: true, given: { limited: false, precise: true } },
  },
  {
    kernel: 'never exact',
    harm: (_: Device, output: Float32Array) => void (output[95]! += 1),
    ...{ limited: null, precise: true, given: { limited: null, precise: true } },
  },
];

/** This processor as if its int8 kernels were exact, but for what `harm` does. */
async function processor(harm: (device: Device, output: Float32Array) => unknown): Promise<Device> {
  const { device } = await openDevice({ provider: 'cpu', threads: 1 });
  const changed: Device = broken((_, output) => harm(changed, output), device);
  return changed;
}

describe.skipIf(await chooseExactInt8(device))('where the fast int8 kernel is exact', () => {
  it.each(WAYS)('chooses the way of a processor whose kernel is $kernel', async (way) => {
    const changed = await processor(way.harm);
    expect(await chooseExactInt8(changed)).toBe(way.limited);
    expect(changed.preciseInt8).toBe(way.precise);
    expect(await chooseExactInt8(changed, false)).toBe(way.given.limited);
    expect(changed.preciseInt8).toBe(way.given.precise);
    await changed.close();
  });

  it.each([
    { way: WAYS[0]!, said: '' },
    {
      way: WAYS[1]!,
      said: ', whose int8 kernel adds pairs of products in 16 bits (x86 without VNNI): int8 weights are rounded',
    },
    {
      way: WAYS[3]!,
      said: ', whose faster int8 kernel adds pairs of products in 16 bits (x86 without VNNI): the slower one is',
    },
  ])('says so at the start, and serves weights that fit: $way.kernel', async ({ way, said }) => {
    const changed = await processor(way.harm);
    const unwanted = (): never => expect.unreachable();
    const messages: string[] = [];
    const tiny = await makeTinyRunner({
      ...{ slots: 1, provider: 'cpu', onProvider: (message) => messages.push(message) },
      open: {
        ...{ webgpu: unwanted, web: unwanted, findGpu: unwanted, measure: unwanted },
        cpu: async () => changed,
      },
    });
    const largest = largestPairs(join(tiny.folder, 'cache', 'graphs'));
    await tiny.close();
    expect(messages).toHaveLength(1);
    const [start, rest] = messages[0]!.split(changed.description);
    expect(start).toBe('provider cpu: ');
    if (said === '') expect(rest).toBe('');
    else expect(rest!.startsWith(said)).toBe(true);
    if (way.limited) expect(largest).toBeLessThanOrEqual(128);
    else expect(largest).toBeGreaterThan(128);
  });
});

/** The largest sum of two int8 weights that are added in 16 bits. @param folder of the only prepared base. */
function largestPairs(folder: string): number {
  const [built] = readdirSync(folder);
  const read = (file: string): Buffer => readFileSync(join(folder, built!, file));
  const { weights } = JSON.parse(read('manifest.json').toString()) as { weights: WeightEntry[] };
  const content = read('weights.bin');
  let largest = 0;
  for (const { type, dims, offset, bytes } of weights) {
    if (type !== 'i8') continue;
    const values = new Int8Array(content.buffer, content.byteOffset + offset, bytes);
    const [K, N] = dims as [number, number];
    for (let k = 0; k + 1 < K; k += 2)
      for (let n = 0; n < N; n++) {
        const [a, b] = [values[k * N + n]!, values[(k + 1) * N + n]!];
        if (a * b > 0) largest = Math.max(largest, Math.abs(a + b));
      }
  }
  return largest;
}

it('products of limited weights are exact in the fast kernel of every processor', async () => {
  const [K, N, M] = [518, 48, 5];
  let state = 1;
  const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  // Heavy tails: many pairs reach the limit.
  const weight = Float32Array.from({ length: K * N }, () => Math.tan(1.4 * (random() - 0.5)));
  const { values } = quantizeLinear(weight, N, K, true);
  const x = Uint8Array.from({ length: M * K }, (_, at) =>
    at < K ? 255 : random() < 0.5 ? 255 : 256 * random(),
  );
  const g = new GraphBuilder();
  g.input('x', 'u8', [1, M, K]);
  g.constant('w', 'i8', [K, N], values);
  g.constant('one', 'f32', [], new Float32Array([1]));
  g.constant('zero', 'u8', [], new Uint8Array([128]));
  g.node('MatMulIntegerToFloat', ['x', 'w', 'one', 'one', 'zero'], 'y', {}, MICROSOFT);
  g.output('y', 'f32', [1, M, N]);
  device.preciseInt8 = false;
  const session = await device.session(g.build('limited'), null);
  const [input, output] = [await device.host(M * K), await device.host(4 * M * N)];
  input.write(0, x);
  const binding = session.bind();
  binding.input('x', device.tensor('u8', input, 0, [1, M, K]));
  binding.output('y', device.tensor('f32', output, 0, [1, M, N]));
  await binding.run();
  const sums = Array.from({ length: M * N }, (_, at) => {
    const [m, n] = [Math.floor(at / N), at % N];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += (x[m * K + k]! - 128) * values[k * N + n]!;
    return sum;
  });
  expect([...new Float32Array(output.buffer, output.offset, M * N)]).toEqual(sums);
  binding.close();
  session.close();
});
