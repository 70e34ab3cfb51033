/** `npm run bench -- activated`: the time to the first token of users with an activated adapter each and one system prompt. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { packAdapter } from '../adapters/index.ts';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { createOutput } from '../cli/output.ts';
import { Engine } from '../gpu-origin/engine/engine.ts';
import { GREEDY } from '../gpu-origin/generation/sampler.ts';
import { createChatTemplate } from '../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../gpu-origin/model/load-tokenizer.ts';
import { engineTokens, finish, type Tokenizer } from '../gpu-origin/model/tokenizer.ts';
import { createRunner } from '../gpu-origin/runtime/create-runner.ts';
import { systemClock } from '../gpu-origin/runtime/device.ts';
import { QV, writeRandomAdapter } from './adapters/write-random-adapter.ts';
import { describeMachine } from './machine.ts';
import { median, quantile } from './statistics.ts';

const USAGE = `npm run bench -- activated [--users N] [--tokens N]
  One engine with the default base. Users ask one after the other, each by an own adapter of rank 8 on q and v that it
  reads from disk, behind one system prompt. The time to the first token of each to the first user's: with activated
  adapters, with the same ones not activated, and with activated ones of a tenant each.
  --users N            default 200
  --tokens N           of the system prompt, default 1500`;

/** The opening of the assistant's turn. */
const INVOCATION = '<|im_start|>assistant\n';
/** Users without sharing: each reads everything, and all take the same time. */
const UNSHARED_USERS = 12;
const PREFIX_BYTES = 256 * 1024 ** 2;
const ADAPTER_BYTES = 2 * 1024 ** 3;

interface Measured {
  readonly what: string;
  readonly users: number;
  readonly firstMs: number;
  /** Of the others. */
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Prompt tokens that the last user's request did not read, and all of it. */
  readonly cached: number;
  readonly prompt: number;
}

export async function benchActivated(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      users: { type: 'string', default: '200' },
      tokens: { type: 'string', default: '1500' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-activated-'));
  try {
    const rows = await measure({ users: Number(values.users), tokens: Number(values.tokens), work, signal });
    console.log(formatActivated(rows));
    console.log(
      JSON.stringify({ date: new Date().toISOString(), machine: await describeMachine(), activated: rows }),
    );
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function formatActivated(rows: readonly Measured[]): string {
  const ms = (value: number): string => value.toFixed(0);
  const table = new Table({
    head: [
      'users',
      'count',
      'first ms',
      'others p50',
      'p99',
      'max',
      'p50 to first',
      'p99 to first',
      'cached',
    ],
    style: { head: [], border: [] },
  });
  for (const { what, users, firstMs, medianMs, p99Ms, maxMs, cached, prompt } of rows)
    table.push([
      ...[what, users, ms(firstMs), ms(medianMs), ms(p99Ms), ms(maxMs)],
      ...[(medianMs / firstMs).toFixed(3), (p99Ms / firstMs).toFixed(3), `${cached} of ${prompt}`],
    ]);
  return table.toString();
}

async function measure(params: {
  users: number;
  tokens: number;
  work: string;
  signal: AbortSignal;
}): Promise<Measured[]> {
  const { users, tokens, work, signal } = params;
  const base = await findBase({
    ...{ base: undefined, cache: cacheFolder(process.env), env: process.env },
    output: createOutput({ json: false }),
  });
  const { runner, tokenizerSource } = await createRunner({
    basePath: base,
    weights: 'int8',
    slots: 4,
    prefixBytes: PREFIX_BYTES,
    cacheDir: cacheFolder(process.env),
    onProgress: () => undefined,
    onNotice: (message) => process.stderr.write(`${message}\n`),
  });
  const tokenizer = loadTokenizer(tokenizerSource);
  const invocation = tokenizer.encode(INVOCATION, { allowSpecial: true });
  const pack = async (user: number, activated: boolean): Promise<string> => {
    const folder = path.join(work, 'adapter');
    await writeRandomAdapter({ folder, seed: user, rank: 8, modules: QV });
    const config = JSON.parse(await readFile(path.join(folder, 'adapter_config.json'), 'utf8')) as object;
    const { bytes, digest } = await packAdapter({
      files: {
        configJson: JSON.stringify({
          ...config,
          ...(activated ? { alora_invocation_tokens: invocation } : {}),
        }),
        weights: new Uint8Array(await readFile(path.join(folder, 'adapter_model.safetensors'))),
      },
      baseId: runner.base.id,
      parentChainId: null,
    });
    await writeFile(path.join(work, digest), bytes);
    return digest;
  };
  const promptOf = promptsOf(tokenizer, tokens);
  const rows: Measured[] = [];
  for (const { what, count, activated, tenantOf } of [
    { what: 'activated, one tenant', count: users, activated: true, tenantOf: () => 'clinic' },
    { what: 'not activated', count: UNSHARED_USERS, activated: false, tenantOf: () => 'clinic' },
    { what: 'activated, a tenant each', count: UNSHARED_USERS, activated: true, tenantOf: String },
  ]) {
    const digests: string[] = [];
    for (let user = 0; user < count; user += 1) digests.push(await pack(user, activated));
    // A new one each time: nothing of the prompts and adapters before is in memory.
    const engine = new Engine({
      runner,
      source: {
        status: async () => 'held',
        read: async (digest) => {
          const { buffer, byteOffset, byteLength } = await readFile(path.join(work, digest));
          return new Uint8Array(buffer, byteOffset, byteLength);
        },
      },
      tokens: engineTokens(tokenizer),
      eosTokenIds: tokenizer.eosIds,
      clock: systemClock,
      random: () => 0.5,
      maxQueue: 4,
      adapterBudgetBytes: ADAPTER_BYTES,
    });
    const ask = async (chain: string[], tenant: string, prompt: readonly number[]) => {
      signal.throwIfAborted();
      const startedAt = performance.now();
      const added = await engine.add({
        ...{ id: 'bench', tenant, prompt, promptLogprobs: null, budgetMs: null },
        chain: chain.map((digest) => ({ digest, scale: 1 })),
        sampling: { ...GREEDY, maxTokens: 1, ignoreEos: true },
      });
      if (!added.ok) throw new Error(added.error.message);
      let ms = NaN;
      let cached = 0;
      for await (const event of added.value.events) {
        if (event.kind === 'tokens') ms = performance.now() - startedAt;
        if (event.kind === 'error') throw new Error(event.error.message);
        if (event.kind === 'end') cached = event.usage.prompt_tokens_details?.cached_tokens ?? 0;
      }
      return { ms, cached };
    };
    // Sessions are opened and memory becomes resident with the first prompts; another tenant's.
    await ask([digests[0]!], 'warm-up', promptOf(count));
    await ask([], 'warm-up', promptOf(count));
    const times: number[] = [];
    let last = { ms: 0, cached: 0 };
    for (const [user, digest] of digests.entries()) {
      last = await ask([digest], tenantOf(user), promptOf(user));
      times.push(last.ms);
    }
    await engine.close();
    const [firstMs, ...others] = times as [number, ...number[]];
    rows.push({
      ...{ what, users: count, firstMs },
      medianMs: median(others),
      p99Ms: quantile(others, 0.99),
      maxMs: Math.max(...others),
      cached: last.cached,
      prompt: promptOf(count - 1).length,
    });
    process.stderr.write(`${what}: first ${firstMs.toFixed(0)} ms, then ${median(others).toFixed(0)} ms\n`);
  }
  await runner.close();
  return rows;
}

/** @returns makes a user's prompt: a system prompt of `tokens` tokens, and the user's own question. */
function promptsOf(tokenizer: Tokenizer, tokens: number): (user: number) => readonly number[] {
  const template = createChatTemplate(tokenizer);
  if (template === null) throw new Error('the base has no chat template');
  const words = ['You', 'are', 'the', 'assistant', 'of', 'a', 'clinic', 'and', 'answer', 'with', 'care'];
  const encode = (content: string): number => tokenizer.encode(content, { allowSpecial: false }).length;
  let system = '';
  for (let word = 0; encode(system) < tokens; word += 1) system += `${words[(word * 7) % words.length]!} `;
  return (user) => {
    const messages = [
      { role: 'system', content: system },
      { role: 'user', content: `I am patient ${user}. When is my next visit?` },
    ];
    const ids = finish(template.encodeChunked(messages, tokens + 500));
    if (ids === null) throw new Error('the prompt is too long');
    return ids;
  };
}
