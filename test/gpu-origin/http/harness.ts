import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapterStore, type AdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';
import { Engine } from '../../../gpu-origin/engine/engine.ts';
import type { Clock } from '../../../gpu-origin/engine/ports.ts';
import { createApp, standaloneMode } from '../../../gpu-origin/http/app.ts';
import { type ConnectionLimits, type Connections, listen, Serving } from '../../../gpu-origin/http/serve.ts';
import { GrammarService } from '../../../gpu-origin/grammar/grammar-service.ts';
import { grammarTokens } from '../../../gpu-origin/grammar/ebnf.ts';
import { startLocalWorker } from '../../../gpu-origin/grammar/grammar-core.ts';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import type { OriginContext, Services } from '../../../gpu-origin/http/origin-context.ts';
import { PromptQueue } from '../../../gpu-origin/prompts/prompt.ts';
import { UsageMemory } from '../../../gpu-origin/http/run-prompts.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { FakeRunner, type FakeRunnerOptions } from '../fake-runner.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import { newStartId, sign, type SigningKey } from '../../../protocol/signature.ts';
import type { Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';

export const ORIGIN_ID = 'origin-1';
export const KEY: SigningKey = { kid: 'k1', secret: new Uint8Array(32).fill(7) };
export const OLD_KEY: SigningKey = { kid: 'k0', secret: new Uint8Array(32).fill(9) };

const clock: Clock = {
  now: () => performance.now(),
  timer(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  yield: () => new Promise((resolve) => setImmediate(resolve)),
};

export interface Origin {
  url: string;
  runner: FakeRunner;
  engine: Engine;
  store: AdapterStore;
  tokenizer: Tokenizer;
  serving: Serving;
  context: OriginContext;
  faults: unknown[];
  connections: Connections;
  /** Digest of an adapter that the origin holds under the name `alice/notes`. */
  adapter: string;
  stop(): Promise<void>;
}

export const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');

/** A whole origin with the fake runner and a tiny tokenizer, listening on loopback. */
export async function startTestOrigin(
  options: {
    signed?: boolean;
    runner?: FakeRunnerOptions;
    maxQueue?: number;
    diskBytes?: number;
    /** Memory of adapters. */
    adapterBytes?: number;
    now?: () => number;
    context?: Partial<OriginContext>;
    services?: Partial<Services>;
    /** Connection limits; default: the origin's own. */
    limits?: ConnectionLimits;
    port?: number;
  } = {},
): Promise<Origin> {
  const folder = mkdtempSync(join(tmpdir(), 'graft-http-'));
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
  const runner = new FakeRunner({ slots: 4, context: 512, ...options.runner, vocabSize: tokenizer.size });
  const now = options.now ?? Date.now;
  const store = await openAdapterStore({
    folder,
    budgetBytes: options.diskBytes ?? 10_000_000,
    now,
    isInUse: () => false,
  });
  const file = new TextEncoder().encode('adapter of alice');
  const adapter = sha256(file);
  await store.put(adapter, file);
  const metrics = createMetrics();
  const faults: unknown[] = [];
  const grammars = new GrammarService({
    startWorker: startLocalWorker,
    tokens: grammarTokens(tokenizer, tokenizer.size),
    now: () => 0,
    onFault: (_where, error) => faults.push(error),
  });
  const engine = new Engine({
    runner,
    masks: grammars,
    source: store,
    tokens: { bytes: (id) => tokenizer.tokenBytes(id) ?? new Uint8Array(0), isSpecial: tokenizer.isSpecial },
    eosTokenIds: tokenizer.eosIds,
    clock,
    random: () => 0.5,
    observer: { ...metrics.observer, onFault: (fault) => faults.push(fault) },
    maxQueue: options.maxQueue ?? 16,
    adapterBudgetBytes: options.adapterBytes ?? 100_000,
  });
  metrics.watch(engine, store.disk);
  const serving = new Serving();
  serving.ready();
  const chains = new Map<string, readonly ChainEntry[]>([['alice/notes', [{ digest: adapter, scale: 1 }]]]);
  const context: OriginContext = {
    mode: options.signed
      ? {
          kind: 'signed',
          originId: ORIGIN_ID,
          keys: [KEY, OLD_KEY],
          startedAt: now() - 1_000,
          startId: newStartId(),
        }
      : standaloneMode(chains),
    serving,
    metrics,
    services: {
      engine,
      base: runner.base,
      tokenizer,
      chatTemplate: createChatTemplate(tokenizer),
      prompts: new PromptQueue(clock),
      files: store,
      grammars,
      ...options.services,
    },
    now,
    monotonic: clock.now,
    loopbackOnly: true,
    usage: new UsageMemory(now),
    onFault: (_where, error) => faults.push(error),
    ...options.context,
  };
  const { url, server, connections } = await listen({
    app: createApp(context),
    host: '127.0.0.1',
    port: options.port ?? 0,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  return {
    url,
    runner,
    engine,
    store,
    tokenizer,
    serving,
    context,
    faults,
    connections,
    adapter,
    async stop() {
      await engine.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** `fetch` with a signature. `signed` overrides what is signed, not what is sent. */
export async function signedFetch(
  origin: Pick<Origin, 'url'>,
  path: string,
  init: {
    method?: string;
    body?: string | Uint8Array<ArrayBuffer>;
    headers?: Record<string, string>;
    signal?: AbortSignal;
  } = {},
  signed: {
    key?: SigningKey;
    originId?: string;
    method?: string;
    path?: string;
    bodyHash?: string;
    now?: number;
    nonce?: Uint8Array;
  } = {},
): Promise<Response> {
  const method = init.method ?? (init.body === undefined ? 'GET' : 'POST');
  const signature = await sign(
    signed.key ?? KEY,
    {
      originId: signed.originId ?? ORIGIN_ID,
      method: signed.method ?? method,
      pathAndQuery: signed.path ?? path,
      bodyHash: signed.bodyHash ?? sha256(init.body ?? ''),
    },
    signed.now ?? Date.now(),
    signed.nonce,
  );
  return fetch(origin.url + path, {
    method,
    ...(init.body === undefined ? {} : { body: init.body }),
    headers: { 'x-graft-signature': signature, ...init.headers },
    ...(init.signal === undefined ? {} : { signal: init.signal }),
  });
}

/** Body of a worker's request. */
export const envelope = (request: Record<string, unknown>, graft: Record<string, unknown> = {}): string =>
  JSON.stringify({
    request,
    graft: { chain: [], tenant: 't1', request_id: 'r1', model: 'alice/notes', ...graft },
  });

/** Data of each event of a stream; the last is `[DONE]` if nothing failed. */
export function events(text: string): string[] {
  return text
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice(6));
}
