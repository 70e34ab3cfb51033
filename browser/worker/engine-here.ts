/** The engine over a stored base, in this worker. */
import { Engine } from '../../gpu-origin/engine/engine.ts';
import type { AdapterSource, Clock } from '../../gpu-origin/engine/ports.ts';
import type { BuiltGraphs } from '../../gpu-origin/model/build-graphs.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { readConfigJson } from '../../gpu-origin/model/config-json.ts';
import { createTokenizer, type Tokenizer } from '../../gpu-origin/model/create-tokenizer.ts';
import { readFoldedGains } from '../../gpu-origin/model/folded-gains.ts';
import { FINAL_NORM, foldsGains } from '../../gpu-origin/model/prepare-weights.ts';
import { makeRotations } from '../../gpu-origin/model/rotation.ts';
import { TokenizerDefinitionJson } from '../../gpu-origin/model/tokenizer-definition.ts';
import type { PromptServices } from '../../gpu-origin/prompts/prompt.ts';
import { PromptQueue } from '../../gpu-origin/prompts/prompt-queue.ts';
import { tokenBytesOf } from '../../gpu-origin/prompts/token-text.ts';
import { readGains } from '../../gpu-origin/runtime/base-gains.ts';
import { GraphSessions } from '../../gpu-origin/runtime/graph-sessions.ts';
import { nextTurn } from '../../gpu-origin/runtime/next-turn.ts';
import { OrtRunner } from '../../gpu-origin/runtime/ort-runner.ts';
import { SameThread } from '../../gpu-origin/runtime/web/same-thread.ts';
import { WasmApi } from '../../gpu-origin/runtime/web/wasm-api.ts';
import type { WasmFactory } from '../../gpu-origin/runtime/web/wasm-module.ts';
import { WebDevice } from '../../gpu-origin/runtime/web/web-device.ts';
import type { WebBaseFile } from '../../protocol/index.ts';
import { GraftError } from '../errors.ts';
import type { Progress } from '../messages.ts';
import type { WebBase } from './web-base.ts';

/** Of onnxruntime-web, without WebGPU. */
const RUNTIME_FILE = 'ort-wasm-simd-threaded.mjs';
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
  close(): Promise<void>;
}

export interface EngineHereParams {
  base: WebBase;
  /** Of adapters' files. */
  source: AdapterSource;
  /** Folder of the runtime's files. */
  runtimeUrl: string;
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
  const device = await openDevice(params);
  step(1);
  try {
    const rotations = makeRotations(config);
    // Each session would hold weights of its own, so there is one, for all rows.
    const kinds = ['all'] as const;
    const sessions = await GraphSessions.open({
      device,
      built: built(rotations),
      kinds,
      onProgress: () => {},
    });
    step(2);
    const runner = await OrtRunner.open({
      ...{ base: info, config, device, sessions, rotations, slots: rows, parking: 0 },
      gains: readGains(norms),
      finalGain: foldsGains(config) ? norms.tensor(FINAL_NORM, [config.hidden]) : null,
    });
    const engine = new Engine({
      ...{ runner, source: params.source, clock, random: Math.random, maxQueue: MAX_QUEUE },
      tokens: tokenBytesOf(tokenizer),
      eosTokenIds: tokenizer.eosIds,
      adapterBudgetBytes: ADAPTER_BYTES,
    });
    step(3);
    return {
      ...{ engine, tokenizer, base: info, runtime: device.description },
      chatTemplate: createChatTemplate(tokenizer),
      prompts: new PromptQueue(clock),
      async close() {
        await engine.close();
        await runner.close();
      },
    };
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
  parts: [],
  rotations,
});

async function openDevice({ base, runtimeUrl, threads }: EngineHereParams): Promise<WebDevice> {
  try {
    const address = new URL(RUNTIME_FILE, runtimeUrl).href;
    const { default: factory } = (await import(/* @vite-ignore */ address)) as { default: WasmFactory };
    const api = await WasmApi.load(factory, threads);
    const host = new SameThread(api, {
      model: (name) => base.file(name as WebBaseFile),
      weights: (name, open) => open({ name, data: base.external(name as WebBaseFile) }),
    });
    const count = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
    return new WebDevice(host, `ONNX Runtime in WebAssembly, ${count}`);
  } catch (error) {
    throw cannotRun(error);
  }
}

function cannotRun(error: unknown): GraftError {
  const reason = error instanceof Error ? error.message : String(error);
  const message = `The base does not run here: ${reason}. The page's policy must allow 'wasm-unsafe-eval' and the runtime's files, and the device must have memory for the base: about 1 GB for SmolLM2-135M.`;
  return new GraftError({ code: 'runtime_unavailable', message });
}
