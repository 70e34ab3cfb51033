import { join } from 'node:path';
import type { ChainEntry } from '../protocol/index.ts';
import { openAdapterStore } from './adapter-files/adapter-store.ts';
import type { DiskRefusal } from './adapter-files/disk-room.ts';
import { packFolders } from './adapter-files/pack-folders.ts';
import type { Config } from './config.ts';
import { Engine, type EngineObserver } from './engine/engine.ts';
import { GrammarService } from './grammar/grammar-service.ts';
import { grammarTokens } from './grammar/grammar-tokens.ts';
import { startThreadLane } from './grammar/thread-lane.ts';
import type { Clock, ModelRunner } from './engine/ports.ts';
import type { Services } from './http/origin-context.ts';
import { PromptQueue } from './prompts/prompt-queue.ts';
import { createChatTemplate } from './model/chat-template.ts';
import { loadTokenizer, type Tokenizer, TokenizerError, type TokenizerSource } from './model/tokenizer.ts';
import { createRunner } from './runtime/create-runner.ts';
import { FakeRunner } from './runtime/fake-runner.ts';

const NOTHING = new Uint8Array(0);

const systemClock: Clock = {
  now: () => performance.now(),
  timer(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  yield: () => new Promise((resolve) => setImmediate(resolve)),
};

export interface LoadedServices extends Services {
  /** Standalone adapters: each name's chain. */
  chains: ReadonlyMap<string, readonly ChainEntry[]>;
  close(): Promise<void>;
}

/** Base -> runner -> tokenizer -> adapter store -> engine. @throws errors whose messages are for the operator. */
export async function loadServices(params: {
  config: Config;
  observer: EngineObserver;
  onProgress: (stage: string, done: number, total: number) => void;
  onNotice: (message: string) => void;
  onDiskRefusal: (refusal: DiskRefusal) => void;
}): Promise<LoadedServices> {
  const { config, onProgress, onNotice } = params;
  const { runner, tokenizerSource } = await openRunner(params);
  const tokenizer = loadTokenizer(tokenizerSource);
  checkTokenizer(tokenizer, runner);

  const { mode } = config;
  let engine: Engine | null = null;
  const files = await openAdapterStore({
    // Two origins on one machine may share the cache of graphs, but not the files that each of them removes.
    folder: join(config.cacheDir, `adapters-${mode.kind === 'dev' ? 'standalone' : mode.originId}`),
    budgetBytes: config.adapterDiskBytes,
    now: Date.now,
    onDiskRefusal: params.onDiskRefusal,
    isInUse: (digest) =>
      engine?.residents().adapters.some((a) => a.digest === digest && a.references > 0) ?? false,
  });
  const chains = await packFolders({
    folders: mode.kind === 'dev' ? mode.adapters : [],
    baseId: runner.base.id,
    attention: runner.base.attention
      ? { heads: runner.base.attention.heads, kvHeads: runner.base.attention.kv_heads }
      : null,
    store: files,
    onWarning: onNotice,
    onProgress: (done, total) => onProgress('Packing the adapters', done, total),
  });
  const grammars = new GrammarService({
    startLane: startThreadLane,
    tokens: grammarTokens(tokenizer, runner.vocabSize),
    rows: runner.slots,
    now: systemClock.now,
    onFault: (where, error) => params.observer.onFault?.({ where, error, requestIds: [] }),
  });
  engine = new Engine({
    runner,
    masks: grammars,
    source: files,
    tokens: {
      bytes: (id) => tokenizer.tokenBytes(id) ?? NOTHING,
      isSpecial: (id) => tokenizer.isSpecial(id),
    },
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
}): Promise<{ runner: ModelRunner; tokenizerSource: TokenizerSource }> {
  const { config, onProgress, onNotice } = params;
  const { basePath, baseId, weights, slots, context, threads, cacheDir } = config;
  if (config.runner === 'ort')
    return createRunner({
      basePath,
      baseId,
      weights,
      slots,
      context,
      threads,
      cacheDir,
      onProgress,
      onNotice,
    });
  const tokenizerSource: TokenizerSource = { kind: 'folder', path: basePath };
  const vocabSize = loadTokenizer(tokenizerSource).size;
  return {
    runner: new FakeRunner({ slots, vocabSize, ...(context === undefined ? {} : { context }) }),
    tokenizerSource,
  };
}

/** Cheap, and it catches a tokenizer that is not this base's. @throws TokenizerError */
function checkTokenizer(tokenizer: Tokenizer, runner: ModelRunner): void {
  if (tokenizer.size > runner.vocabSize)
    throw new TokenizerError(`the tokenizer has ${tokenizer.size} tokens, the base only ${runner.vocabSize}`);
  const text = 'Hello, world: 1 234 é你\n';
  const ids = tokenizer.encode(text, { allowSpecial: false });
  const bytes = ids.flatMap((id) => [...(tokenizer.tokenBytes(id) ?? NOTHING)]);
  if (new TextDecoder().decode(Uint8Array.from(bytes)).trim() !== text.trim())
    throw new TokenizerError('the tokenizer does not give back the text that it encoded');
}
