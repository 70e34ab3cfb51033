import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { GraphBuilder } from '../model/onnx-proto.ts';
import { type Device, OrtError, type Provider, PROVIDERS } from './device.ts';

/**
 * `auto`: a GPU if it is faster than the processor, otherwise the native library if it loads, otherwise
 * WebAssembly.
 */
export const WANTED_PROVIDERS = ['auto', ...PROVIDERS] as const;
export type WantedProvider = (typeof WANTED_PROVIDERS)[number];

/** 270 million multiply-adds: milliseconds on a processor, less than one on a small GPU. */
const ROWS = 128;
const WIDTH = 512;
const PRODUCTS = 8;
/** The first run compiles shaders; the fastest of the others counts. */
const RUNS = 3;

/** Replaced by tests. */
export interface OpenProvider extends Record<Provider, (threads: number) => Promise<Device>> {
  /** The vendor of this machine's GPU, such as "NVIDIA"; null = none. Called after `cpu` has opened. */
  findGpu: () => Promise<string | null>;
  /** Milliseconds for the same work on any device. */
  measure: (device: Device) => Promise<number>;
}

/**
 * V8 collects garbage when its heap has grown by a quarter, arrays outside of it included: after each or every other
 * adapter that is loaded, and for 30 to 50 ms a core is missing to the step. With this it may triple. New adapters'
 * first tokens come 14 % sooner (bench/LOG.md).
 */
function collectLessOften(): void {
  // Bun has another engine.
  if (process.versions.bun === undefined) setFlagsFromString('--heap-growing-percent=200');
}

/** Each is loaded on demand, so koffi and onnxruntime-web need not both be installed. */
const OPEN: OpenProvider = {
  async cpu(threads) {
    collectLessOften();
    const { ortLibrary } = await import('./native/native-device.ts');
    const { NativeDevice } = await import('./native/native-device.ts');
    return new NativeDevice(ortLibrary(), threads);
  },
  async webgpu(threads) {
    collectLessOften();
    const { ortLibrary } = await import('./native/native-device.ts');
    const { WebgpuDevice } = await import('./native/webgpu-device.ts');
    return WebgpuDevice.open(ortLibrary(), threads);
  },
  async web(threads) {
    const { openWebDevice } = await import('./web/wasm-client.ts');
    return openWebDevice(threads);
  },
  async findGpu() {
    const { ortLibrary } = await import('./native/native-device.ts');
    const { findGpu } = await import('./native/webgpu-device.ts');
    return findGpu(ortLibrary());
  },
  measure: measureDevice,
};

/** What an operator can do if a provider does not start. */
const INSTEAD: Record<Provider, string> = {
  cpu: '--provider web needs no native library',
  webgpu:
    "it needs a GPU and its driver for Vulkan (Debian: libvulkan1 and the GPU's own), Direct3D 12 or " +
    'Metal; --provider cpu needs neither',
  web: '--provider cpu uses the native library instead',
};

/**
 * @param params.threads per run; default: all cores. @param params.noGpu why a GPU cannot run the base; default: it can.
 * @returns the device, and a sentence for the operator: what runs and, if it was not requested, why.
 * @throws OrtError with alternatives.
 */
export async function openDevice(params: {
  provider: WantedProvider;
  threads: number | undefined;
  noGpu?: string | null;
  open?: OpenProvider;
}): Promise<{ device: Device; message: string }> {
  const { provider, noGpu = null, open = OPEN } = params;
  const threads = params.threads ?? availableParallelism();
  if (provider === 'auto') return openBest(open, threads, noGpu);
  if (provider === 'webgpu' && noGpu !== null)
    throw new OrtError(`--provider ${provider}`, -1, `WebGPU ${noGpu}. Use --provider cpu`);
  const device = await open[provider](threads).catch((error: unknown) => {
    throw new OrtError(`--provider ${provider}`, -1, `${inShort(error)}; ${INSTEAD[provider]}`);
  });
  return { device, message: `provider ${provider}: ${device.description}` };
}

async function openBest(
  open: OpenProvider,
  threads: number,
  noGpu: string | null,
): Promise<{ device: Device; message: string }> {
  let cpu: Device;
  try {
    cpu = await open.cpu(threads);
  } catch (error) {
    const reason = inShort(error);
    const device = await open.web(threads).catch((second: unknown) => {
      throw new OrtError(
        '--provider auto',
        -1,
        `neither cpu (${reason}) nor web (${inShort(second)}) starts`,
      );
    });
    const why = `because the native library does not load (${reason})`;
    return { device, message: `provider web: ${device.description}, ${why}` };
  }
  const vendor = await open.findGpu();
  if (vendor === null) return { device: cpu, message: `provider cpu: ${cpu.description}` };
  const gpu = noGpu ?? (await fasterGpu(open, cpu, threads));
  if (typeof gpu === 'string')
    return {
      device: cpu,
      message: `provider cpu: ${cpu.description}, because this machine's GPU (${vendor}) ${gpu}`,
    };
  await cpu.close();
  const why =
    `because this machine's GPU (${vendor}) is faster than its processor; use --provider cpu for rows ` +
    'whose bits do not depend on the batch';
  return { device: gpu, message: `provider webgpu: ${gpu.description}, ${why}` };
}

/** Vulkan may call a software renderer a GPU, but that is never faster than the processor it runs on. */
async function fasterGpu(open: OpenProvider, cpu: Device, threads: number): Promise<Device | string> {
  let gpu: Device | undefined;
  try {
    gpu = await open.webgpu(threads);
    const [its, ours] = [await open.measure(gpu), await open.measure(cpu)];
    if (its < ours) return gpu;
    await gpu.close();
    return `took ${its.toFixed(1)} ms with WebGPU for products that took the processor ${ours.toFixed(1)} ms`;
  } catch (error) {
    await gpu?.close();
    return `does not start with WebGPU (${inShort(error)})`;
  }
}

/** The first line, without ONNX Runtime's source location. */
function inShort(error: unknown): string {
  const line = (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
  return line.replace(/^(\w+: )?\/\S+\.(cc|h):\d+ .* was false\. /, '');
}

/**
 * @returns milliseconds of some consecutive float32 products, including input and output.
 * @throws OrtError
 */
async function measureDevice(device: Device): Promise<number> {
  const g = new GraphBuilder();
  g.input('x', 'f32', [1, ROWS, WIDTH]);
  // Keeps outputs in the range of the inputs.
  g.constant('w', 'f32', [WIDTH, WIDTH], new Float32Array(WIDTH * WIDTH).fill(1 / WIDTH));
  let at = 'x';
  for (let product = 1; product < PRODUCTS; product++) at = g.node('MatMul', [at, 'w'], `x.${product}`);
  g.node('MatMul', [at, 'w'], 'y');
  g.output('y', 'f32', [1, ROWS, WIDTH]);
  const session = await device.session(g.build('measure'), null);
  const bytes = ROWS * WIDTH * Float32Array.BYTES_PER_ELEMENT;
  const [input, output] = [await device.memory(bytes), await device.host(bytes)];
  input.write(0, new Float32Array(ROWS * WIDTH).fill(1));
  const tensors = [input, output].map((memory) => device.tensor('f32', memory, 0, [1, ROWS, WIDTH]));
  const binding = session.bind();
  try {
    binding.input('x', tensors[0]!);
    binding.output('y', tensors[1]!);
    let fastest = Infinity;
    for (let run = 0; run < RUNS; run++) {
      const start = performance.now();
      await binding.run();
      fastest = Math.min(fastest, performance.now() - start);
    }
    return fastest;
  } finally {
    binding.close();
    for (const tensor of tensors) tensor.close();
    for (const memory of [input, output]) memory.close();
    session.close();
  }
}
