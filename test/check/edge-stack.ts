/** The whole stack on the real base, in a folder of its own, and the official client before it. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { createApiClient } from '../../cli/api-client.ts';
import { cacheFolder } from '../../cli/local/find-base.ts';
import { readKeysFile } from '../../cli/local/graft-folder.ts';
import { startStack } from '../../cli/local/stack.ts';
import { createOutput } from '../../cli/output.ts';
import { publishAdapter } from '../../cli/publish/publish-adapter.ts';

export interface EdgeStack {
  readonly client: OpenAI;
  /** The base's id, as `model`. */
  readonly base: string;
  /** A folder that is removed with the stack. */
  readonly folder: string;
  /** Publishes a PEFT folder without a parent. @returns the version. */
  publish(name: string, adapterFolder: string): Promise<number>;
  /** Reads the origin's `/metrics`. */
  metrics(): Promise<Metrics>;
  stop(): Promise<void>;
}

export interface Metrics {
  rowsRunning: number;
  waiting: number;
  /** Tokens in the KV cache. */
  kvTokens: number;
  /** Generated tokens of requests that have ended. */
  completionTokens: number;
  aborted: number;
  faults: number;
}

export const exampleFolder = (name: string): string =>
  fileURLToPath(new URL(`../../examples/adapters/${name}`, import.meta.url));

export async function startEdgeStack(): Promise<EdgeStack> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'graft-check-'));
  const output = createOutput({ json: true });
  const removeFolders = async () => {
    const keys = await readKeysFile(folder).catch(() => null);
    if (keys !== null)
      await rm(path.join(cacheFolder(process.env), `adapters-${keys.originId}`), {
        recursive: true,
        force: true,
      });
    await rm(folder, { recursive: true, force: true });
  };
  const stack = await startStack({
    folder,
    base: undefined,
    port: 0,
    originPort: 0,
    examples: true,
    originArgs: [],
    env: process.env,
    output,
  }).catch(async (error: unknown) => {
    await removeFolders();
    throw error;
  });
  const { url, key, adminKey, originUrl, base } = stack.local;
  const admin = createApiClient({ url, key: adminKey });
  return {
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 }),
    base,
    folder,
    async publish(name, adapterFolder) {
      const { version } = await publishAdapter({
        client: admin,
        given: adapterFolder,
        name,
        parent: null,
        stage: false,
        output,
      });
      return version.version;
    },
    async metrics() {
      const text = await (await fetch(`${originUrl}/metrics`)).text();
      /** Sum of a metric's samples; those of `labels` when given. */
      const sum = (name: string, labels = ''): number =>
        [...text.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'))]
          .filter((match) => (match[1] ?? '').includes(labels))
          .reduce((total, match) => total + Number(match[2]), 0);
      return {
        rowsRunning: sum('graft_rows_running'),
        waiting: sum('graft_requests_waiting'),
        kvTokens: sum('graft_kv_tokens'),
        completionTokens: sum('graft_completion_tokens_total'),
        aborted: sum('graft_requests_finished_total', 'outcome="aborted"'),
        faults: sum('graft_faults_total'),
      };
    },
    async stop() {
      await stack.stop();
      await removeFolders();
    },
  };
}

export interface Question {
  model: string;
  user: string;
  maxTokens: number;
  temperature?: number;
  seed?: number;
  ignoreEos?: boolean;
  logprobs?: number;
}

export interface Reply {
  text: string;
  /** `x-graft-adapter`: name and version that answered. */
  adapter: string | null;
  finishReason: string | null;
  /** Log-probability of each token and its alternatives, as sent. */
  logprobs: OpenAI.ChatCompletionTokenLogprob[];
}

function bodyOf(question: Question) {
  const { model, user, maxTokens, temperature = 0, seed, ignoreEos, logprobs } = question;
  return {
    model,
    messages: [{ role: 'user' as const, content: user }],
    max_tokens: maxTokens,
    temperature,
    ...(seed === undefined ? {} : { seed }),
    ...(ignoreEos === undefined ? {} : { ignore_eos: ignoreEos }),
    ...(logprobs === undefined ? {} : { logprobs: true, top_logprobs: logprobs }),
  };
}

export async function ask(client: OpenAI, question: Question): Promise<Reply> {
  const { data, response } = await client.chat.completions.create(bodyOf(question)).withResponse();
  const choice = data.choices[0]!;
  return {
    text: choice.message.content ?? '',
    adapter: response.headers.get('x-graft-adapter'),
    finishReason: choice.finish_reason,
    logprobs: choice.logprobs?.content ?? [],
  };
}

export interface OpenStream {
  readonly adapter: string | null;
  /** Reads one piece of text or more. */
  readSome(): Promise<string>;
  /** Reads to the end. @returns everything, what was read before included. */
  readRest(): Promise<Reply>;
  disconnect(): void;
}

export async function openStream(client: OpenAI, question: Question): Promise<OpenStream> {
  const { data: stream, response } = await client.chat.completions
    .create({ ...bodyOf(question), stream: true })
    .withResponse();
  const adapter = response.headers.get('x-graft-adapter');
  const reply: Reply = { text: '', adapter, finishReason: null, logprobs: [] };
  const chunks = stream[Symbol.asyncIterator]();
  /** @returns false at the end. */
  const read = async (): Promise<boolean> => {
    const { value, done } = await chunks.next();
    if (done === true) return false;
    const choice = value.choices[0];
    reply.text += choice?.delta.content ?? '';
    reply.finishReason = choice?.finish_reason ?? reply.finishReason;
    reply.logprobs.push(...(choice?.logprobs?.content ?? []));
    return true;
  };
  return {
    adapter,
    async readSome() {
      const before = reply.text.length;
      while (reply.text.length === before && (await read()));
      return reply.text.slice(before);
    },
    async readRest() {
      while (await read());
      return reply;
    },
    disconnect: () => stream.controller.abort(),
  };
}

export const askStreaming = async (client: OpenAI, question: Question): Promise<Reply> =>
  (await openStream(client, question)).readRest();

/** `run` over all items, at most `limit` at once. @returns in the order of the items. */
export async function inParallel<T, R>(
  items: readonly T[],
  limit: number,
  run: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < items.length; index = next++)
      results[index] = await run(items[index]!, index);
  };
  await Promise.all(Array.from({ length: limit }, worker));
  return results;
}
