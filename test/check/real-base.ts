/** What `npm run check` shares: the pinned base, the example adapters, the reference outputs of PyTorch and PEFT. */
import { readFileSync } from 'node:fs';
import { packAdapter, type AdapterFiles } from '../../adapters/index.ts';
import { createOutput } from '../../cli/output.ts';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import type { RowDelta } from '../../gpu-origin/engine/ports.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import type { Tokenizer } from '../../gpu-origin/model/tokenizer.ts';
import { createRunner } from '../../gpu-origin/runtime/create-runner.ts';
import type { Provider } from '../../gpu-origin/runtime/device.ts';
import type { KvFormat } from '../../gpu-origin/runtime/kv-cache.ts';
import type { OrtRunner } from '../../gpu-origin/runtime/ort-runner.ts';
import { ON_SWIFTSHADER, prefillAll } from '../fixtures/tiny-runner.ts';

export interface ReferencePrompt {
  user: string;
  prompt_tokens: number[];
  /** Token id -> natural log-probability, the ten likeliest. */
  first_logprobs: Record<string, number>;
  greedy_tokens: number[];
}
export interface ReferenceChain {
  chain: string[];
  prompts: ReferencePrompt[];
  /** Teacher-forced over the task's first 40 rows, nats a token, the end of the turn included. */
  mean_nll: number;
}

const fixture = (path: string): string =>
  readFileSync(new URL(`../fixtures/${path}`, import.meta.url), 'utf8');

export const reference = JSON.parse(fixture('smollm2-135m-reference.json')) as Record<string, ReferenceChain>;

export interface TaskRow {
  user: string;
  expected: string;
}
export const taskRows = (task: string): TaskRow[] =>
  fixture(`tasks/${task}.jsonl`)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TaskRow);

export const EXAMPLES = ['medicine', 'cardiology', 'dr-lee', 'intent-v1', 'intent-v2'] as const;

export const exampleFiles = (name: string): AdapterFiles => {
  const read = (file: string): Buffer =>
    readFileSync(new URL(`../../examples/adapters/${name}/${file}`, import.meta.url));
  return {
    configJson: read('adapter_config.json').toString('utf8'),
    weights: new Uint8Array(read('adapter_model.safetensors')),
  };
};

export interface RealRunner {
  runner: OrtRunner;
  tokenizer: Tokenizer;
  delta(chain: readonly string[]): RowDelta | null;
  /** Makes an adapter available to `delta`. */
  add(name: string, files: AdapterFiles): Promise<void>;
  /** A user turn, as the reference encodes it. */
  encodePrompt(user: string): number[];
  encodeAnswer(text: string): number[];
}

/** @param provider the native library by default: the reference is compared with what usually runs. */
export async function makeRealRunner(
  weights: 'int8' | 'f32',
  slots: number,
  provider: Provider = 'cpu',
  context = 2_048,
  kv?: KvFormat,
): Promise<RealRunner> {
  const cache = cacheFolder(process.env);
  const basePath = await ensurePinnedBase({ cache, output: createOutput({ json: false }) });
  const { runner, tokenizerSource } = await createRunner({
    basePath,
    weights,
    provider,
    slots,
    context,
    kv,
    cacheDir: cache,
    onProgress: () => {},
    onNotice: (message) => {
      if (!ON_SWIFTSHADER.test(message)) throw new Error(message);
    },
  });
  const members = new Map<string, Awaited<ReturnType<OrtRunner['loadAdapter']>>>();
  const add = async (name: string, files: AdapterFiles): Promise<void> => {
    const packed = await packAdapter({ files, baseId: runner.base.id, parentChainId: null });
    members.set(name, await runner.loadAdapter(packed.bytes, packed.digest));
  };
  for (const name of EXAMPLES) await add(name, exampleFiles(name));
  const tokenizer = loadTokenizer(tokenizerSource);
  const template = createChatTemplate(tokenizer)!;
  return {
    runner,
    tokenizer,
    add,
    delta: (chain) =>
      chain.length === 0
        ? null
        : runner.compose(chain.map((name) => ({ adapter: members.get(name)!, scale: 1 }))),
    encodePrompt: (user) => template.encode([{ role: 'user', content: user }]),
    encodeAnswer: (text) => tokenizer.encode(text, { allowSpecial: true }),
  };
}

/** Logits behind the prompt and behind every forced token. */
export async function teacherForced(
  real: RealRunner,
  chain: readonly string[],
  prompt: readonly number[],
  answer: readonly number[],
): Promise<Float32Array[]> {
  real.runner.assign(0, real.delta(chain));
  const tokens = [...prompt, ...answer.slice(0, -1)];
  const positions = answer.map((_, i) => prompt.length - 1 + i);
  const rows = await prefillAll(real.runner, 0, tokens, positions);
  real.runner.release(0);
  return rows;
}
