/** What runs the graphs in this worker: the GPU by WebGPU where there is one, else WebAssembly. */
import type { LlamaConfig } from '../../gpu-origin/model/base-model.ts';
import { BlockWeights, WeightEntries } from '../../gpu-origin/model/web-base.ts';
import type { Precision } from '../../gpu-origin/model/graph-form.ts';
import { buildLlamaGraph } from '../../gpu-origin/model/llama-graph.ts';
import type { RotationSet } from '../../gpu-origin/model/rotation.ts';
import { SameThread, WasmApi } from '../../gpu-origin/runtime/web/wasm-api.ts';
import type { WasmFactory, WebgpuFactory } from '../../gpu-origin/runtime/web/wasm-module.ts';
import { WebDevice, WebGpuDevice } from '../../gpu-origin/runtime/web/web-device.ts';
import type { WebBaseFile } from '../../protocol/index.ts';
import type { WebBase } from './web-base.ts';

/** Of onnxruntime-web, by what has it run: without WebGPU, and with it where WebAssembly can wait for promises (JSPI). */
const RUNTIME_FILES = { wasm: 'ort-wasm-simd-threaded.mjs', webgpu: 'ort-wasm-simd-threaded.jspi.mjs' };
/** What the graph for all rows is called in each precision; of a GPU there is no file. */
export const GPU_GRAPHS = { f32: 'all.onnx', f16: 'all.f16.onnx' } as const satisfies Record<
  Precision,
  string
>;
/** What drivers that draw with the processor call themselves. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render/i;

/** Folder of the runtime's files. */
type Where = { runtimeUrl: string };

/** @throws Error when it does not start. */
export async function openWasm(
  base: WebBase,
  { runtimeUrl, threads }: Where & { threads: number },
): Promise<WebDevice> {
  const factory = await load<WasmFactory>(RUNTIME_FILES.wasm, runtimeUrl);
  const host = new SameThread(await WasmApi.load(factory, threads), {
    model: (name) => base.file(name as WebBaseFile),
    weights: (name, open) => open({ name, data: base.external(name as WebBaseFile) }),
  });
  const count = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  return new WebDevice(host, `ONNX Runtime in WebAssembly, ${count}`);
}

/**
 * Its graphs are made here, and their weights as they are read.
 * @returns the device, and why it is gone, once it is.
 * @throws Error when it does not start.
 */
export async function openGpu(
  base: WebBase,
  {
    runtimeUrl,
    config,
    rotations,
    gpu,
  }: Where & { config: LlamaConfig; rotations: RotationSet; gpu: string },
): Promise<{ device: WebGpuDevice; lost: Promise<string> }> {
  const factory = await load<WebgpuFactory>(RUNTIME_FILES.webgpu, runtimeUrl);
  const api = await WasmApi.loadWithGpu(factory, 1);
  const blocks = new BlockWeights(WeightEntries.parse(JSON.parse(base.text('weights.json'))));
  const file = base.external('weights.bin');
  const host = new SameThread(api, {
    model: (name) =>
      buildLlamaGraph({
        ...{ config, rotations, kind: 'all', format: 'int8', flavour: 'gpu' },
        precision: name === GPU_GRAPHS.f16 ? 'f16' : 'f32',
        context: base.manifest.base.context,
        ...{ weights: blocks.entries, weightsFile: 'weights.bin' satisfies WebBaseFile },
      }),
    weights: (name, open) =>
      open({
        name,
        data: {
          byteLength: blocks.byteLength,
          subarray: (begin, end) => blocks.read(begin, end, (from, to) => file.subarray(from, to)),
        },
      }),
  });
  const device = await WebGpuDevice.open(
    host,
    `ONNX Runtime on the GPU by WebGPU${gpu === '' ? '' : ` (${gpu})`}`,
    () => api.gpuRunsHalves,
  );
  return { device, lost: api.gpuLost };
}

async function load<T>(name: string, folder: string): Promise<T> {
  const address = new URL(name, folder).href;
  return ((await import(/* @vite-ignore */ address)) as { default: T }).default;
}

/**
 * @param forced a GPU that the processor's own cores draw will do.
 * @returns whose GPU there is, such as "nvidia ampere", or why there is none.
 */
export async function findGpu(forced: boolean): Promise<{ gpu: string } | { missing: string }> {
  if (!('Suspending' in WebAssembly)) return { missing: "this browser's WebAssembly cannot wait (JSPI)" };
  if (!('gpu' in navigator)) return { missing: 'this browser has no WebGPU' };
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) return { missing: 'WebGPU finds no GPU' };
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  const isSoftware = isFallbackAdapter || SOFTWARE.test(`${architecture} ${description}`);
  if (isSoftware && !forced) return { missing: 'WebGPU runs on the processor' };
  return { gpu: `${vendor} ${architecture}`.trim() };
}
