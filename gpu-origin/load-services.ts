import type { Config } from './config.ts';
import { Engine } from './engine/engine.ts';
import { GrammarService } from './grammar/grammar-service.ts';
import { grammarTokens } from './grammar/alphabet.ts';
import { startThreadLane } from './grammar/thread-lane.ts';
import type { ModelRunner } from './engine/ports.ts';
import {
  checkTokenizer,
  openFiles,
  systemClock,
  type LoadedServices,
  type LoadParams,
} from './load-parts.ts';
import { loadVllmServices } from './load-vllm-services.ts';
import { PromptQueue } from './prompts/prompt-queue.ts';
import { tokenBytesOf } from './prompts/token-text.ts';
import { createChatTemplate } from './model/chat-template.ts';
import { loadTokenizer } from './model/load-tokenizer.ts';
import { createRunner } from './runtime/create-runner.ts';
import type { Tokenizer } from './model/tokenizer.ts';
import { FakeRunner } from './runtime/fake-runner.ts';

/** @throws errors whose messages are for the operator. */
export function loadServices(params: LoadParams): Promise<LoadedServices> {
  const { vllm } = params.config;
  return vllm === null ? loadOwnServices(params) : loadVllmServices(params, vllm);
}

/** Base -> runner -> tokenizer -> adapter store -> engine. */
async function loadOwnServices(params: LoadParams): Promise<LoadedServices> {
  const { config } = params;
  const { runner, tokenizer } = await openRunner(params);

  let engine: Engine | null = null;
  const { files, chains } = await openFiles(params, runner.base, (digest) => engine?.needs(digest) ?? false);
  const grammars = new GrammarService({
    startLane: startThreadLane,
    tokens: grammarTokens(tokenizer, runner.vocabSize),
    now: systemClock.now,
    onFault: (where, error) => params.observer.onFault?.({ where, error, requestIds: [] }),
  });
  engine = new Engine({
    runner,
    masks: grammars,
    source: files,
    tokens: tokenBytesOf(tokenizer),
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

async function openRunner(params: {
  config: Config;
  onProgress: (stage: string, done: number, total: number) => void;
  onNotice: (message: string) => void;
  onProvider?: (message: string) => void;
}): Promise<{ runner: ModelRunner; tokenizer: Tokenizer }> {
  const { config, onProgress, onNotice, onProvider } = params;
  const { basePath, baseId, weights, slots, context, threads, provider, precision, cacheDir } = config;
  if (config.runner === 'ort') {
    let tokenizer: Tokenizer | null = null;
    const { runner } = await createRunner({
      ...{ basePath, baseId, weights, slots, context, threads, provider, precision, cacheDir },
      ...{ onProgress, onNotice },
      adapterBytes: config.adapterRamBytes,
      prefixBytes: config.prefixCacheBytes,
      ...(onProvider === undefined ? {} : { onProvider }),
      onMemory: onNotice,
      onTokenizer(source, vocabSize) {
        tokenizer = loadTokenizer(source);
        checkTokenizer(tokenizer, vocabSize);
      },
    });
    return { runner, tokenizer: tokenizer! };
  }
  const tokenizer = loadTokenizer({ kind: 'folder', path: basePath });
  checkTokenizer(tokenizer, tokenizer.size);
  const vocabSize = tokenizer.size;
  return {
    runner: new FakeRunner({
      vocabSize,
      ...(slots === undefined ? {} : { slots }),
      ...(context === undefined ? {} : { context }),
    }),
    tokenizer,
  };
}
