/** The engine over a stored base, in this worker. */
import { Engine } from '../../gpu-origin/engine/engine.ts';
import type { AdapterSource, Clock } from '../../gpu-origin/engine/ports.ts';
import type { LlamaConfig } from '../../gpu-origin/model/base-model.ts';
import type { BuiltGraphs } from '../../gpu-origin/model/build-graphs.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { readConfigJson } from '../../gpu-origin/model/config-json.ts';
import { createTokenizer, type Tokenizer } from '../../gpu-origin/model/create-tokenizer.ts';
import { readFoldedGains } from '../../gpu-origin/model/folded-gains.ts';
import { FINAL_NORM, foldsGains } from '../../gpu-origin/model/prepare-weights.ts';
import { makeRotations, type RotationSet } from '../../gpu-origin/model/rotation.ts';
import { TokenizerDefinitionJson } from '../../gpu-origin/model/tokenizer-definition.ts';
import type { PromptServices } from '../../gpu-origin/prompts/prompt.ts';
import { PromptQueue } from '../../gpu-origin/prompts/prompt-queue.ts';
import { tokenBytesOf } from '../../gpu-origin/prompts/token-text.ts';
import { readGains } from '../../gpu-origin/runtime/base-gains.ts';
import { mostTokens } from '../../gpu-origin/runtime/check-attention.ts';
import type { Device } from '../../gpu-origin/runtime/device.ts';
import { GraphSessions } from '../../gpu-origin/runtime/graph-sessions.ts';
import { nextTurn } from '../../gpu-origin/runtime/next-turn.ts';
import { OrtRunner, PREFILL_CHUNK } from '../../gpu-origin/runtime/ort-runner.ts';
import { SlotCache } from '../../gpu-origin/runtime/slot-cache.ts';
import type { WebBaseFile } from '../../protocol/index.ts';
import { GraftError } from '../errors.ts';
import type { Progress, WantedDevice } from '../messages.ts';
import { findGpu, openGpu, openWasm } from './open-device.ts';
import type { WebBase } from './web-base.ts';

/** Tokens of a row unless the page says otherwise: keys and values of a row of SmolLM2-135M then take 94 MB. */
const CONTEXT = 2_048;
/** For adapters, bytes: a rank-16 one on q and v of SmolLM2-135M takes 3.7 MB. */
const ADAPTER_BYTES = 256e6;
/** Answers that may wait for a row. */
const MAX_QUEUE = 64;

export interface EngineHere extends PromptServices {
  engine: Engine;
  tokenizer: Tokenizer;
  /** For people. */
  runtime: string;
  device: Exclude<WantedDevice, 'auto'>;
  /** Why the GPU that ran it is gone, once it is: answers may then wait for ever. */
  lost: Promise<string>;
  close(): Promise<void>;
}

export interface EngineHereParams {
  base: WebBase;
  /** Of adapters' files. */
  source: AdapterSource;
  /** Folder of the runtime's files. */
  runtimeUrl: string;
  device: WantedDevice;
  threads: number;
  rows: number;
  context: number | null;
  onProgress: (progress: Progress) => void;
}

const clock: Clock = {
  now: () => performance.now(),
  timer(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  yield: nextTurn,
};

/** @throws GraftError `runtime_unavailable` */
export async function openEngineHere(params: EngineHereParams): Promise<EngineHere> {
  const { base, rows, onProgress } = params;
  const step = (done: number): void => onProgress({ stage: 'runtime', done, total: 3 });
  step(0);
  const config = readConfigJson(base.text('config.json'));
  const definition = TokenizerDefinitionJson.parse(JSON.parse(base.text('tokenizer.json')));
  const tokenizer = createTokenizer(definition);
  const { id, digest } = base.manifest.base;
  const norms = readFoldedGains(base.file('gains.safetensors'), { id, digest, config });
  const context = Math.min(params.context ?? CONTEXT, base.manifest.base.context);
  const info = { ...base.manifest.base, context };
  const rotations = makeRotations(config);
  /** Over a device that has just been opened. */
  const run = async ({ device, chunk }: { device: Device; chunk: number }): Promise<OrtRunner> => {
    step(1);
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
  };
  const { runner, device, why, lost } = await openRunner({ ...params, config, rotations }, run);
  const engine = new Engine({
    ...{ runner, source: params.source, clock, random: Math.random, maxQueue: MAX_QUEUE },
    tokens: tokenBytesOf(tokenizer),
    eosTokenIds: tokenizer.eosIds,
    adapterBudgetBytes: ADAPTER_BYTES,
  });
  step(3);
  return {
    ...{ engine, tokenizer, base: info, runtime: `${device.description}${why}`, lost },
    device: device.own === null ? 'wasm' : 'webgpu',
    chatTemplate: createChatTemplate(tokenizer),
    prompts: new PromptQueue(clock),
    async close() {
      await engine.close();
      await runner.close();
    },
  };
}

interface OpenedRunner {
  runner: OrtRunner;
  device: Device;
  /** Why it is another one than was wanted, for people; '' = it is not. */
  why: string;
  lost: EngineHere['lost'];
}

/** On the GPU if that is wanted and can be, else in WebAssembly if that will do. @throws GraftError */
async function openRunner(
  params: EngineHereParams & { config: LlamaConfig; rotations: RotationSet },
  run: (opened: { device: Device; chunk: number }) => Promise<OrtRunner>,
): Promise<OpenedRunner> {
  const { base, config } = params;
  const wanted = params.device;
  let why = '';
  if (wanted !== 'wasm') {
    const found = await findGpu(wanted === 'webgpu');
    try {
      if ('missing' in found) throw new Error(found.missing);
      const { device, lost } = await openGpu(base, { ...params, ...found });
      const gone = lost.then((reason) => Promise.reject(new Error(`it is gone: ${reason}`)));
      const opening = async (): Promise<OrtRunner> => {
        // Before the base is read: a driver whose attention is wrong is of no use.
        const chunk = await mostTokens(device, device.own, config, PREFILL_CHUNK);
        return run({ device, chunk });
      };
      return { runner: await Promise.race([opening(), gone]), device, why, lost };
    } catch (error) {
      if (wanted === 'webgpu') throw cannotRunOnGpu(error);
      // Most browsers have none: nobody asks why.
      if ('gpu' in found) why = `; not on the GPU (${inShort(error)})`;
    }
  }
  try {
    const device = await openWasm(base, params);
    return { runner: await run({ device, chunk: PREFILL_CHUNK }), device, why, lost: new Promise(() => {}) };
  } catch (error) {
    throw cannotRun(error);
  }
}

/** Files of the base by their own names; weights are read where they are. */
const built = (rotations: BuiltGraphs['rotations']): BuiltGraphs => ({
  folder: '',
  weightsPath: 'weights.bin' satisfies WebBaseFile,
  weights: [],
  graphs: { none: 'none.onnx', qv: 'qv.onnx', all: 'all.onnx' } satisfies Record<string, WebBaseFile>,
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
