/** The origin in front of a vLLM server. */
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { checkLoading, createChainProofs } from './backends/vllm/prove-vllm.ts';
import { createVllmClient, type VllmClient } from './backends/vllm/vllm-client.ts';
import { failureText } from './backends/vllm/vllm-api.ts';
import { LoadedChains } from './backends/vllm/loaded-chains.ts';
import { openLoraFolders } from './backends/vllm/lora-folders.ts';
import { readServedBase } from './backends/vllm/served-base.ts';
import { VllmEngine } from './backends/vllm/vllm-engine.ts';
import { vllmGrammars } from './backends/vllm/completion-body.ts';
import { ConfigError, type VllmConfig } from './config.ts';
import { GrammarService } from './grammar/grammar-service.ts';
import { startThreadLane } from './grammar/thread-lane.ts';
import {
  checkTokenizer,
  openFiles,
  systemClock,
  type LoadedServices,
  type LoadParams,
} from './load-parts.ts';
import { createChatTemplate } from './model/chat-template.ts';
import { loadTokenizer } from './model/load-tokenizer.ts';
import { PromptQueue } from './prompts/prompt-queue.ts';
import { tokenBytesOf } from './prompts/token-text.ts';

/** Compared between the base and each chain. */
const PROBE = 'The patient has had a dry cough and a fever since Monday. What should be done? Write it down.';
/** Tokens of it. */
const PROBE_TOKENS = 20;

/** @throws errors whose messages are for the operator. */
export async function loadVllmServices(params: LoadParams, vllm: VllmConfig): Promise<LoadedServices> {
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
      'with --max-loras 1 one adapter runs at a time, and requests of others wait: start vLLM with --max-loras 16, say, and give the same here',
    );
  const probe = tokenizer.encode(PROBE, { allowSpecial: false }).slice(0, PROBE_TOKENS);
  const loaded = new LoadedChains({
    ...{ client, folders, clock: systemClock, observer, most: vllm.maxCpuLoras },
    proofs: createChainProofs({ client, baseName: served.name, probe }),
  });
  // Another one at each start: what lies in vLLM's prefix cache of a tenant is nobody's to guess.
  const secret = randomBytes(32);
  engine = new VllmEngine({
    ...{ client, base: info, vocabSize, baseName: served.name, slots: vllm.requests, maxQueue, observer },
    chains: loaded,
    source: files,
    tokens: tokenBytesOf(tokenizer),
    eosTokenIds: tokenizer.eosIds,
    clock: systemClock,
    maxLoras: vllm.maxLoras,
    saltOf: (tenant) => createHmac('sha256', secret).update(tenant).digest('base64url'),
  });
  const running = engine;
  const grammars = vllmGrammars(
    new GrammarService({
      startLane: startThreadLane,
      tokens: null,
      now: systemClock.now,
      onFault: (where, error) => observer.onFault?.({ where, error, requestIds: [] }),
    }),
  );
  return {
    engine,
    base: info,
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

/** The base, as vLLM calls it. @throws ConfigError */
async function servedModel(
  client: VllmClient,
  url: string,
  folder: string,
): Promise<{ name: string; context: number | null }> {
  const models = await client.models();
  if (!models.ok)
    throw new ConfigError(
      `--engine-url ${url}: ${failureText(models.error)}. Start vllm serve first, or give the address it listens on`,
    );
  const base = models.value.find((model) => model.parent == null);
  if (base === undefined) throw new ConfigError(`--engine-url ${url}: vLLM lists no model`);
  const { root } = base;
  // Where both are on one machine it is known which folder vLLM has read.
  if (root != null && existsSync(root) && realpathSync(root) !== realpathSync(folder))
    throw new ConfigError(`vLLM serves ${root}, and --base is ${folder}: give the folder that it serves`);
  return { name: base.id, context: base.max_model_len ?? null };
}

/** @throws ConfigError when adapters cannot be loaded while vLLM runs. */
async function checkRuntimeLoading(client: VllmClient): Promise<void> {
  // Nothing has this name: a server that knows the path says so, and one that does not says "Not Found".
  const asked = await client.unloadAdapter('graft-no-such-adapter');
  const knows =
    asked.ok || (asked.error.kind === 'refused' && !/"detail"\s*:\s*"Not Found"/.test(asked.error.message));
  if (!knows)
    throw new ConfigError(
      'vLLM does not load adapters while it runs: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora and --api-server-count 1',
    );
}
