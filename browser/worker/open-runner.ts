/** The runner over a stored base, in this worker: on the GPU if wanted and possible, otherwise in WebAssembly. */
import {
  type LlamaConfig,
  type GraphKind,
  type Precision,
  wrongOnGpu,
} from '../../gpu-origin/model/base-model.ts';
import type { BuiltGraphs } from '../../gpu-origin/model/build-graphs.ts';
import {
  readConfigJson,
  readFoldedGains,
  BlockWeights,
  WeightEntries,
} from '../../gpu-origin/model/web-base.ts';
import { FINAL_NORM, foldsGains } from '../../gpu-origin/model/prepare-weights.ts';
import { makeRotations, type RotationSet } from '../../gpu-origin/model/rotation.ts';
import { readGains, type WeightTransform } from '../../gpu-origin/runtime/adapter-batch.ts';
import { mostTokens } from '../../gpu-origin/runtime/self-test.ts';
import type { Device } from '../../gpu-origin/runtime/device.ts';
import { GraphSessions, openFp16 } from '../../gpu-origin/runtime/bindings.ts';
import { OrtRunner, PREFILL_CHUNK } from '../../gpu-origin/runtime/ort-runner.ts';
import { SlotCache } from '../../gpu-origin/runtime/kv-cache.ts';
import { WebGpuDevice, WebDevice } from '../../gpu-origin/runtime/web/web-device.ts';
import type { WebBaseFile } from '../../protocol/browser-downloads.ts';
import { GraftError, type Progress, type WantedDevice, type WantedPrecision } from '../messages.ts';
import type { WebBase } from './fetch-base.ts';
import { buildLlamaGraph } from '../../gpu-origin/model/llama-graph.ts';
import { SameThread, WasmApi } from '../../gpu-origin/runtime/web/wasm-api.ts';
import type { WasmFactory, WebgpuFactory } from '../../gpu-origin/runtime/web/wasm-module.ts';

/** Default tokens of a row: keys and values of a row of SmolLM2-135M then take 94 MB. */
const CONTEXT = 2_048;

export interface RunnerHereParams {
  base: WebBase;
  /** Folder of the runtime's files. */
  runtimeUrl: string;
  device: WantedDevice;
  precision: WantedPrecision;
  threads: number;
  rows: number;
  context: number | null;
  onProgress: (progress: Progress) => void;
}

/** The open base as a trainer reads it: the same weights, on the same device. */
export interface BaseToTrain extends WeightTransform {
  device: Device;
  config: LlamaConfig;
  base: WebBase;
}

export interface RunnerHere {
  runner: OrtRunner;
  toTrain: BaseToTrain;
  device: Exclude<WantedDevice, 'auto'>;
  /** For people. */
  runtime: string;
  /** Why the GPU was lost, once it is: answers may then wait forever. */
  lost: Promise<string>;
}

/** @throws GraftError `runtime_unavailable` */
export async function openRunnerHere(params: RunnerHereParams): Promise<RunnerHere> {
  const { base } = params;
  const config = readConfigJson(base.text('config.json'));
  const parts = { ...params, config, rotations: makeRotations(config) };
  const wanted = params.device;
  const noGpu = wrongOnGpu(config);
  let why = '';
  if (wanted !== 'wasm') {
    const found = await findGpu(wanted === 'webgpu');
    try {
      if ('missing' in found) throw new Error(found.missing);
      if (noGpu !== null) throw new Error(`WebGPU ${noGpu}`);
      const { device, lost } = await openGpu(base, { ...parts, ...found });
      const gone = lost.then((reason) => Promise.reject(new Error(`the GPU was lost: ${reason}`)));
      const { said, ...opened } = await Promise.race([openOnGpu(parts, device), gone]);
      return { ...opened, device: 'webgpu', runtime: `${device.description}${said}`, lost };
    } catch (error) {
      if (wanted === 'webgpu') throw cannotRunOnGpu(error);
      // Most browsers have none, so no reason is reported.
      if ('gpu' in found) why = `; not on the GPU (${inShort(error)})`;
    }
  }
  try {
    const device = await openWasm(base, params);
    const sessions = await GraphSessions.open(graphsOf(parts, device));
    const opened = await openRunner(parts, { device, sessions, chunk: PREFILL_CHUNK, precision: 'f32' });
    const runtime = `${device.description}${why}`;
    return { ...opened, device: 'wasm', runtime, lost: new Promise(() => {}) };
  } catch (error) {
    throw cannotRun(error);
  }
}

const inFloats = (why: string): string => `; in float32, because ${why}`;

type OpenRunner = Pick<RunnerHere, 'runner' | 'toTrain'>;

interface Parts extends RunnerHereParams {
  config: LlamaConfig;
  rotations: RotationSet;
}

/** In float16 if wanted, supported and equal to float32. @returns also what to tell people about it. */
async function openOnGpu(parts: Parts, device: WebGpuDevice): Promise<OpenRunner & { said: string }> {
  const { own } = device;
  const { config } = parts;
  let said = '';
  if (parts.precision === 'f16' && !(await device.hasFp16())) said = inFloats('it does not support float16');
  else if (parts.precision === 'f16') {
    // Before the base is read: a driver with wrong attention is useless.
    const chunk = await mostTokens(device, own, config, PREFILL_CHUNK, 'f16');
    const sessions = await openFp16({ ...graphsOf(parts, device), own, config, chunk });
    if (typeof sessions !== 'string') {
      const opened = await openRunner(parts, { device, sessions, chunk, precision: 'f16' });
      return { ...opened, said: ', in float16' };
    }
    said = inFloats(sessions);
  }
  const chunk = await mostTokens(device, own, config, PREFILL_CHUNK, 'f32');
  const sessions = await GraphSessions.open(graphsOf(parts, device));
  return { ...(await openRunner(parts, { device, sessions, chunk, precision: 'f32' })), said };
}

/** Files of the base by name; weights are read in place. */
function graphsOf<D extends Device>({ rotations, onProgress }: Parts, device: D) {
  onProgress({ ...STEPS, done: 1 });
  // Each session would have its own weights, so there is one for all rows.
  const kinds: readonly GraphKind[] = ['all'];
  const graphs = (all: string): BuiltGraphs['graphs'] => ({ none: 'none.onnx', qv: 'qv.onnx', all });
  const built: BuiltGraphs = {
    folder: '',
    weightsPath: 'weights.bin' satisfies WebBaseFile,
    weights: [],
    graphs: graphs(GPU_GRAPHS.f32),
    fp16Graphs: graphs(GPU_GRAPHS.f16),
    mixed: null,
    parts: [],
    rotations,
  };
  return { device, built, kinds, onProgress: () => {} };
}

/** Of the progress that a page sees. */
const STEPS = { stage: 'runtime', total: 3 } as const;

async function openRunner(
  params: Parts,
  opened: { device: Device; sessions: GraphSessions; chunk: number; precision: Precision },
): Promise<OpenRunner> {
  const { base, config, rotations, rows } = params;
  const { device, precision } = opened;
  params.onProgress({ ...STEPS, done: 2 });
  const { id, digest } = base.manifest.base;
  const norms = readFoldedGains(base.file('gains.safetensors'), { id, digest, config });
  const context = Math.min(params.context ?? CONTEXT, base.manifest.base.context);
  const info = { ...base.manifest.base, context };
  const { own } = device;
  const gains = readGains(norms);
  const runner = await OrtRunner.open({
    ...{ base: info, config, rotations, slots: rows, swapSlots: 0, ...opened },
    ...(own === null ? {} : { openCache: (shape) => SlotCache.allocate({ ...shape, own, precision }) }),
    gains,
    finalGain: foldsGains(config) ? norms.tensor(FINAL_NORM, [config.hidden]) : null,
  });
  return { runner, toTrain: { device, config, base, gains, rotations } };
}

const inShort = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function cannotRunOnGpu(error: unknown): GraftError {
  const message = `The base does not run on the GPU here: ${inShort(error)}. Use device: 'auto' to run it in WebAssembly.`;
  return new GraftError({ code: 'runtime_unavailable', message });
}

function cannotRun(error: unknown): GraftError {
  const message =
    `The base does not run here: ${inShort(error)}. The page's policy must allow 'wasm-unsafe-eval' and ` +
    "the runtime's files, and the device needs memory for the base: about 1 GB for SmolLM2-135M.";
  return new GraftError({ code: 'runtime_unavailable', message });
}

/**
 * Files of onnxruntime-web, by device: without WebGPU, and with it if WebAssembly can wait for promises (JSPI).
 */
const RUNTIME_FILES = { wasm: 'ort-wasm-simd-threaded.mjs', webgpu: 'ort-wasm-simd-threaded.jspi.mjs' };
/** Names of the graph for all rows, by precision; GPUs have no file. */
const GPU_GRAPHS = { f32: 'all.onnx', f16: 'all.f16.onnx' } as const satisfies Record<Precision, string>;
/** Names that software GPUs report. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render/i;

/** Folder of the runtime's files. */
type Where = { runtimeUrl: string };

/** @throws Error when it does not start. */
async function openWasm(
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
 * Its graphs are built here, and their weights as they are read.
 * @returns the device, and why it was lost, once it is.
 * @throws Error when it does not start.
 */
async function openGpu(
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
    () => api.gpuHasFp16,
  );
  return { device, lost: api.gpuLost };
}

async function load<T>(name: string, folder: string): Promise<T> {
  const address = new URL(name, folder).href;
  return ((await import(/* @vite-ignore */ address)) as { default: T }).default;
}

/**
 * @param forced accept a software GPU.
 * @returns the GPU's vendor, such as "nvidia ampere", or why there is none.
 */
async function findGpu(forced: boolean): Promise<{ gpu: string } | { missing: string }> {
  if (!('Suspending' in WebAssembly)) return { missing: "this browser's WebAssembly cannot wait (JSPI)" };
  if (!('gpu' in navigator)) return { missing: 'this browser has no WebGPU' };
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) return { missing: 'WebGPU finds no GPU' };
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  const isSoftware = isFallbackAdapter || SOFTWARE.test(`${architecture} ${description}`);
  if (isSoftware && !forced) return { missing: 'WebGPU runs on the processor' };
  return { gpu: `${vendor} ${architecture}`.trim() };
}
