import { type Config, ConfigError, type VllmConfig } from './config.ts';
import { Engine, type EngineObserver } from './engine/engine.ts';
import { GrammarService } from './grammar/grammar-service.ts';
import { grammarTokens } from './grammar/ebnf.ts';
import { startThreadWorker } from './grammar/thread-worker.ts';
import type { ModelRunner } from './engine/ports.ts';
import { PromptQueue } from './prompts/prompt.ts';
import { engineTokens, type Tokenizer } from './model/tokenizer.ts';
import { createChatTemplate } from './model/chat-template.ts';
import { loadTokenizer } from './model/load-tokenizer.ts';
import { createRunner } from './runtime/create-runner.ts';
import { systemClock } from './runtime/device.ts';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { checkLoading, createChainProofs, readServedBase } from './backends/vllm/prove-vllm.ts';
import { createVllmClient, type VllmClient, failureText } from './backends/vllm/vllm-client.ts';
import { LoadedChains, openLoraFolders } from './backends/vllm/loaded-chains.ts';
import { VllmEngine } from './backends/vllm/vllm-engine.ts';
import { vllmGrammars } from './backends/vllm/completion-body.ts';
import type { ChainEntry } from '../protocol/identity.ts';
import type { BaseInfo } from '../protocol/origin-wire.ts';
import { openAdapterStore, type AdapterStore } from './adapter-files/adapter-store.ts';
import type { DiskRefusal } from './adapter-files/disk-room.ts';
import { packFolders } from './adapter-files/pack-folders.ts';
import type { Services } from './http/origin-context.ts';
import { type ExpertSizes, expertSizes } from './model/experts.ts';
import { TokenizerError } from './model/tokenizer-definition.ts';

export interface LoadedServices extends Services {
  /** What `base.modules` leave out; null = nothing. */
  experts: ExpertSizes | null;
  /** Standalone adapters: each name's chain. */
  chains: ReadonlyMap<string, readonly ChainEntry[]>;
  close(): Promise<void>;
}

interface LoadParams {
  config: Config;
  observer: EngineObserver;
  onProgress: (stage: string, done: number, total: number) => void;
  onNotice: (message: string) => void;
  /** Called with the provider, and why it was chosen. */
  onProvider?: (message: string) => void;
  onDiskRefusal: (refusal: DiskRefusal) => void;
}

/** @throws errors whose messages are for the operator. */
export function loadServices(params: LoadParams): Promise<LoadedServices> {
  const { vllm } = params.config;
  return vllm === null ? loadOwnServices(params) : loadVllmServices(params, vllm);
}

/** Base -> runner -> tokenizer -> adapter store -> engine. */
async function loadOwnServices(params: LoadParams): Promise<LoadedServices> {
  const { config } = params;
  const { runner, tokenizer, experts } = await openRunner(params);

  let engine: Engine | null = null;
  const { files, chains } = await openFiles(params, runner.base, (digest) => engine?.needs(digest) ?? false);
  const grammars = new GrammarService({
    startWorker: startThreadWorker,
    tokens: grammarTokens(tokenizer, runner.vocabSize),
    now: systemClock.now,
    onFault: (where, error) => params.observer.onFault?.({ where, error, requestIds: [] }),
  });
  engine = new Engine({
    runner,
    masks: grammars,
    source: files,
    tokens: engineTokens(tokenizer),
    eosTokenIds: tokenizer.eosIds,
    clock: systemClock,
    random: Math.random,
    observer: params.observer,
    maxQueue: config.maxQueue,
    adapterBudgetBytes: config.adapterRamBytes,
  });
  const running = engine;
  return {
    engine,
    base: runner.base,
    experts,
    tokenizer,
    chatTemplate: createChatTemplate(tokenizer),
    prompts: new PromptQueue(systemClock),
    files,
    grammars,
    chains,
    async close() {
      await running.close();
      await grammars.close();
      await runner.close();
    },
  };
}

async function openRunner(
  params: LoadParams,
): Promise<{ runner: ModelRunner; tokenizer: Tokenizer; experts: ExpertSizes | null }> {
  const { config, onProgress, onNotice, onProvider } = params;
  const { basePath, baseId, weights, slots, context, threads, provider, precision, kv, cacheDir } = config;
  let tokenizer: Tokenizer | null = null;
  const { runner, config: base } = await createRunner({
    basePath,
    baseId,
    weights,
    slots,
    context,
    threads,
    provider,
    precision,
    kv,
    cacheDir,
    onProgress,
    onNotice,
    adapterBytes: config.adapterRamBytes,
    prefixBytes: config.prefixCacheBytes,
    ...(onProvider === undefined ? {} : { onProvider }),
    onMemory: onNotice,
    onKv: onNotice,
    onTokenizer(source, vocabSize) {
      tokenizer = loadTokenizer(source);
      checkTokenizer(tokenizer, vocabSize);
    },
  });
  return { runner, tokenizer: tokenizer!, experts: expertSizes(base) };
}

/** Compared between the base and each chain. */
const PROBE = 'The patient has had a dry cough and a fever since Monday. What should be done? Write it down.';
/** Tokens of it. */
const PROBE_TOKENS = 20;

/** The origin in front of a vLLM server. @throws errors whose messages are for the operator. */
async function loadVllmServices(params: LoadParams, vllm: VllmConfig): Promise<LoadedServices> {
  const { config, observer, onProgress, onNotice } = params;
  const { basePath, baseId, cacheDir, maxQueue, mode } = config;
  const client = createVllmClient({ url: vllm.url, apiKey: vllm.apiKey, clock: systemClock });
  const served = await servedModel(client, vllm.url, basePath);
  await checkRuntimeLoading(client);
  const { info, vocabSize } = await readServedBase({
    ...{ folder: basePath, id: baseId, cacheDir, onProgress },
    context: Math.min(served.context ?? Infinity, config.context ?? Infinity),
    maxRank: vllm.maxLoraRank,
  });
  const tokenizer = loadTokenizer({ kind: 'folder', path: basePath });
  checkTokenizer(tokenizer, vocabSize);
  let engine: VllmEngine | null = null;
  const { files, chains } = await openFiles(params, info, (digest) => engine?.needs(digest) ?? false);
  const folder = join(cacheDir, `vllm-${mode.kind === 'dev' ? 'standalone' : mode.originId}`);
  const folders = await openLoraFolders({
    folder,
    ...{ baseModel: info.id, maxRank: vllm.maxLoraRank, source: files },
  });
  const wrong = await checkLoading({ client, folder, base: info, maxRank: vllm.maxLoraRank });
  if (wrong !== null) throw new ConfigError(`--engine-url ${vllm.url}: ${wrong}`);
  if (vllm.maxLoras === 1)
    onNotice(
      'with --max-loras 1, only one adapter runs at a time and requests for others wait. Start vLLM ' +
        'with a higher value, such as --max-loras 16, and give the same value here',
    );
  const probe = tokenizer.encode(PROBE, { allowSpecial: false }).slice(0, PROBE_TOKENS);
  const loaded = new LoadedChains({
    ...{ client, folders, clock: systemClock, observer, most: vllm.maxCpuLoras },
    proofs: createChainProofs({ client, baseName: served.name, probe }),
  });
  // Different at each start: nobody can guess what vLLM's prefix cache has of a tenant.
  const secret = randomBytes(32);
  engine = new VllmEngine({
    ...{ client, base: info, vocabSize, baseName: served.name, slots: vllm.requests, maxQueue, observer },
    chains: loaded,
    source: files,
    tokens: engineTokens(tokenizer),
    eosTokenIds: tokenizer.eosIds,
    clock: systemClock,
    maxLoras: vllm.maxLoras,
    saltOf: (tenant) => createHmac('sha256', secret).update(tenant).digest('base64url'),
  });
  const running = engine;
  const grammars = vllmGrammars(
    new GrammarService({
      startWorker: startThreadWorker,
      tokens: null,
      now: systemClock.now,
      onFault: (where, error) => observer.onFault?.({ where, error, requestIds: [] }),
    }),
  );
  return {
    engine,
    base: info,
    experts: null,
    tokenizer,
    chatTemplate: createChatTemplate(tokenizer),
    prompts: new PromptQueue(systemClock),
    files,
    grammars,
    chains,
    async close() {
      await running.close();
      await grammars.close();
    },
  };
}

/** The base as vLLM names it. @throws ConfigError */
async function servedModel(
  client: VllmClient,
  url: string,
  folder: string,
): Promise<{ name: string; context: number | null }> {
  const models = await client.models();
  if (!models.ok)
    throw new ConfigError(
      `--engine-url ${url}: ${failureText(models.error)}. Start vllm serve first, or correct the address`,
    );
  const base = models.value.find((model) => model.parent == null);
  if (base === undefined) throw new ConfigError(`--engine-url ${url}: vLLM lists no model`);
  const { root } = base;
  // On one machine the folder that vLLM has read can be checked.
  if (root != null && existsSync(root) && realpathSync(root) !== realpathSync(folder))
    throw new ConfigError(`vLLM serves ${root}, but --base is ${folder}. Give the folder that vLLM serves`);
  return { name: base.id, context: base.max_model_len ?? null };
}

/** @throws ConfigError when vLLM cannot load adapters at run time. */
async function checkRuntimeLoading(client: VllmClient): Promise<void> {
  // Nothing has this name: a server that knows the path says so, any other says "Not Found".
  const asked = await client.unloadAdapter('graft-no-such-adapter');
  const knows =
    asked.ok || (asked.error.kind === 'refused' && !/"detail"\s*:\s*"Not Found"/.test(asked.error.message));
  if (!knows)
    throw new ConfigError(
      'vLLM does not load adapters at run time. Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, ' +
        '--enable-lora and --api-server-count 1',
    );
}

/** The store of adapter files, including those of `--adapter`. */
async function openFiles(
  { config, onProgress, onNotice, onDiskRefusal }: LoadParams,
  base: BaseInfo,
  isInUse: (digest: string) => boolean,
): Promise<{ files: AdapterStore; chains: ReadonlyMap<string, readonly ChainEntry[]> }> {
  const { mode } = config;
  const files = await openAdapterStore({
    // Two origins on one machine may share the graph cache, but not the files that each of them removes.
    folder: join(config.cacheDir, `adapters-${mode.kind === 'dev' ? 'standalone' : mode.originId}`),
    budgetBytes: config.adapterDiskBytes,
    now: Date.now,
    onDiskRefusal,
    isInUse,
  });
  const chains = await packFolders({
    folders: mode.kind === 'dev' ? mode.adapters : [],
    base,
    store: files,
    onWarning: onNotice,
    onProgress: (done, total) => onProgress('Packing the adapters', done, total),
  });
  return { files, chains };
}

/** Cheap, and detects a tokenizer of another base. @throws TokenizerError */
export function checkTokenizer(tokenizer: Tokenizer, vocabSize: number): void {
  if (tokenizer.size > vocabSize)
    throw new TokenizerError(`the tokenizer has ${tokenizer.size} tokens, but the base only ${vocabSize}`);
  const text = 'Hello, world: 1 234 é你\n';
  const ids = tokenizer.encode(text, { allowSpecial: false });
  const bytes = ids.flatMap((id) => [...(tokenizer.tokenBytes(id) ?? [])]);
  if (new TextDecoder().decode(Uint8Array.from(bytes)).trim() !== text.trim())
    throw new TokenizerError('the tokenizer does not decode what it encoded');
}
