/** The runner over a stored base, in this worker: on the GPU if that is wanted and can be, else in WebAssembly. */
import type { LlamaConfig } from '../../gpu-origin/model/base-model.ts';
import type { BuiltGraphs } from '../../gpu-origin/model/build-graphs.ts';
import { readConfigJson } from '../../gpu-origin/model/config-json.ts';
import { readFoldedGains } from '../../gpu-origin/model/folded-gains.ts';
import { FINAL_NORM, foldsGains } from '../../gpu-origin/model/prepare-weights.ts';
import { makeRotations, type RotationSet } from '../../gpu-origin/model/rotation.ts';
import { readGains } from '../../gpu-origin/runtime/base-gains.ts';
import { mostTokens } from '../../gpu-origin/runtime/check-attention.ts';
import type { Device } from '../../gpu-origin/runtime/device.ts';
import { GraphSessions } from '../../gpu-origin/runtime/graph-sessions.ts';
import { OrtRunner, PREFILL_CHUNK } from '../../gpu-origin/runtime/ort-runner.ts';
import { SlotCache } from '../../gpu-origin/runtime/slot-cache.ts';
import type { WebBaseFile } from '../../protocol/index.ts';
import { GraftError } from '../errors.ts';
import type { Progress, WantedDevice } from '../messages.ts';
import { findGpu, openGpu, openWasm } from './open-device.ts';
import type { WebBase } from './web-base.ts';

/** Tokens of a row unless the page says otherwise: keys and values of a row of SmolLM2-135M then take 94 MB. */
const CONTEXT = 2_048;

export interface RunnerHereParams {
  base: WebBase;
  /** Folder of the runtime's files. */
  runtimeUrl: string;
  device: WantedDevice;
  threads: number;
  rows: number;
  context: number | null;
  onProgress: (progress: Progress) => void;
}

export interface RunnerHere {
  runner: OrtRunner;
  device: Exclude<WantedDevice, 'auto'>;
  /** For people. */
  runtime: string;
  /** Why the GPU that ran it is gone, once it is: answers may then wait for ever. */
  lost: Promise<string>;
}

/** @throws GraftError `runtime_unavailable` */
export async function openRunnerHere(params: RunnerHereParams): Promise<RunnerHere> {
  const { base } = params;
  const config = readConfigJson(base.text('config.json'));
  const parts = { ...params, config, rotations: makeRotations(config) };
  const wanted = params.device;
  let why = '';
  if (wanted !== 'wasm') {
    const found = await findGpu(wanted === 'webgpu');
    try {
      if ('missing' in found) throw new Error(found.missing);
      const { device, lost } = await openGpu(base, { ...parts, ...found });
      const gone = lost.then((reason) => Promise.reject(new Error(`it is gone: ${reason}`)));
      const opening = async (): Promise<OrtRunner> => {
        // Before the base is read: a driver whose attention is wrong is of no use.
        const chunk = await mostTokens(device, device.own, config, PREFILL_CHUNK);
        return openRunner(parts, device, chunk);
      };
      const runner = await Promise.race([opening(), gone]);
      return { runner, device: 'webgpu', runtime: device.description, lost };
    } catch (error) {
      if (wanted === 'webgpu') throw cannotRunOnGpu(error);
      // Most browsers have none: nobody asks why.
      if ('gpu' in found) why = `; not on the GPU (${inShort(error)})`;
    }
  }
  try {
    const device = await openWasm(base, params);
    const runner = await openRunner(parts, device, PREFILL_CHUNK);
    const runtime = `${device.description}${why}`;
    return { runner, device: 'wasm', runtime, lost: new Promise(() => {}) };
  } catch (error) {
    throw cannotRun(error);
  }
}

/** Over a device that has just been opened. */
async function openRunner(
  params: RunnerHereParams & { config: LlamaConfig; rotations: RotationSet },
  device: Device,
  chunk: number,
): Promise<OrtRunner> {
  const { base, config, rotations, rows } = params;
  const step = (done: number): void => params.onProgress({ stage: 'runtime', done, total: 3 });
  step(1);
  const { id, digest } = base.manifest.base;
  const norms = readFoldedGains(base.file('gains.safetensors'), { id, digest, config });
  const context = Math.min(params.context ?? CONTEXT, base.manifest.base.context);
  const info = { ...base.manifest.base, context };
  const { own } = device;
  // Each session would hold weights of its own, so there is one, for all rows.
  const kinds = ['all'] as const;
  const onProgress = (): void => {};
  const sessions = await GraphSessions.open({ device, built: built(rotations), kinds, onProgress });
  step(2);
  return OrtRunner.open({
    ...{ base: info, config, device, sessions, rotations, slots: rows, parking: 0, chunk },
    ...(own === null ? {} : { openCache: (shape) => SlotCache.allocate({ ...shape, own }) }),
    gains: readGains(norms),
    finalGain: foldsGains(config) ? norms.tensor(FINAL_NORM, [config.hidden]) : null,
  });
}

/** Files of the base by their own names; weights are read where they are. */
const built = (rotations: BuiltGraphs['rotations']): BuiltGraphs => ({
  folder: '',
  weightsPath: 'weights.bin' satisfies WebBaseFile,
  weights: [],
  graphs: { none: 'none.onnx', qv: 'qv.onnx', all: 'all.onnx' } satisfies Record<string, WebBaseFile>,
  parts: [],
  rotations,
});

const inShort = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function cannotRunOnGpu(error: unknown): GraftError {
  const message = `The base does not run on the GPU here: ${inShort(error)}. With device: 'auto' it runs in WebAssembly then.`;
  return new GraftError({ code: 'runtime_unavailable', message });
}

function cannotRun(error: unknown): GraftError {
  const message = `The base does not run here: ${inShort(error)}. The page's policy must allow 'wasm-unsafe-eval' and the runtime's files, and the device must have memory for the base: about 1 GB for SmolLM2-135M.`;
  return new GraftError({ code: 'runtime_unavailable', message });
}
