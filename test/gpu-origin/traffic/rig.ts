/** A whole origin on a tiny base, short of everything, and an edge that brings it what is missing. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapterStore, type AdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';
import { Engine } from '../../../gpu-origin/engine/engine.ts';
import type { Grammar, ModelRunner } from '../../../gpu-origin/engine/ports.ts';
import { grammarTokens } from '../../../gpu-origin/grammar/ebnf.ts';
import { startLocalWorker } from '../../../gpu-origin/grammar/grammar-core.ts';
import { GrammarService } from '../../../gpu-origin/grammar/grammar-service.ts';
import { createApp } from '../../../gpu-origin/http/app.ts';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import type { OriginContext } from '../../../gpu-origin/http/origin-context.ts';
import { listen, Serving } from '../../../gpu-origin/http/serve.ts';
import { UsageMemory } from '../../../gpu-origin/http/run-prompts.ts';
import { systemClock } from '../../../gpu-origin/runtime/device.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { PromptQueue } from '../../../gpu-origin/prompts/prompt.ts';
import { engineTokens } from '../../../gpu-origin/model/tokenizer.ts';
import { newStartId, sign } from '../../../protocol/signature.ts';
import { makeTinyRunner, type TinyRunner } from '../../fixtures/tiny-runner.ts';
import { KEY, ORIGIN_ID, sha256 } from '../http/harness.ts';

export interface Shortage {
  slots: number;
  /** Tokens that there is memory for; every row's whole context unless given. */
  kvTokens?: number;
  adapterBytes: number;
  diskBytes: number;
  maxQueue: number;
  /** Memory for chunks of prompts, bytes. */
  prefixBytes: number;
}

export interface TrafficOrigin {
  readonly tiny: TinyRunner;
  readonly engine: Engine;
  readonly store: AdapterStore;
  readonly context: OriginContext;
  readonly faults: string[];
  /** Of observed requests, by outcome. */
  readonly finished: { outcome: string; promptTokens: number; completionTokens: number }[];
  /** Grammars that are lent, and rows of them that are open. */
  readonly grammars: { lent: number; open: number };
  send(path: string, init: SendInit): Promise<Response>;
  /** What lies in the store's folder. */
  files(): string[];
  /** What an origin that nobody asks anything holds of requests; empty = nothing. */
  leftOver(): string[];
  drain: { url: string; server: Awaited<ReturnType<typeof listen>>['server'] };
  stop(): Promise<void>;
}

interface SendInit {
  method: string;
  body?: string | Uint8Array<ArrayBuffer>;
  signal?: AbortSignal;
}

const CONTEXT = 320;

export async function startTrafficOrigin(shortage: Shortage): Promise<TrafficOrigin> {
  const { slots, adapterBytes, diskBytes, maxQueue, prefixBytes } = shortage;
  const tiny = await makeTinyRunner({ slots, context: CONTEXT, prefixBytes, threads: 1 });
  const { kvTokens = tiny.runner.kvTokens } = shortage;
  const runner: ModelRunner = Object.create(tiny.runner, { kvTokens: { value: kvTokens } }) as ModelRunner;
  const tokenizer = loadTokenizer({ kind: 'folder', path: join(tiny.folder, 'tiny-base') });
  const folder = mkdtempSync(join(tmpdir(), 'graft-traffic-'));
  let made: Engine | null = null;
  const store = await openAdapterStore({
    folder,
    budgetBytes: diskBytes,
    now: Date.now,
    isInUse: (digest) => made?.needs(digest) ?? false,
  });
  const faults: string[] = [];
  const finished: TrafficOrigin['finished'] = [];
  const counted = { lent: 0, open: 0 };
  const service = new GrammarService({
    startWorker: startLocalWorker,
    tokens: grammarTokens(tokenizer, runner.vocabSize),
    now: systemClock.now,
    onFault: (where, error) => faults.push(`${where}: ${String(error)}`),
  });
  const metrics = createMetrics();
  const engine = new Engine({
    runner,
    masks: service,
    source: store,
    tokens: engineTokens(tokenizer),
    eosTokenIds: tokenizer.eosIds,
    clock: systemClock,
    random: () => 0.5,
    observer: {
      ...metrics.observer,
      onFinish(finish) {
        metrics.observer.onFinish?.(finish);
        finished.push(finish);
      },
      onFault: ({ where, error }) => faults.push(`${where}: ${String(error)}`),
    },
    maxQueue,
    adapterBudgetBytes: adapterBytes,
  });
  made = engine;
  metrics.watch(engine, store.disk);
  const serving = new Serving();
  serving.ready();
  const context: OriginContext = {
    mode: {
      ...{ kind: 'signed', originId: ORIGIN_ID, keys: [KEY] },
      ...{ startedAt: Date.now() - 1_000, startId: newStartId() },
    },
    serving,
    metrics,
    services: {
      ...{ engine, base: runner.base, tokenizer },
      chatTemplate: createChatTemplate(tokenizer),
      prompts: new PromptQueue(systemClock),
      files: store,
      grammars: {
        update: (rows) => service.update(rows),
        close: () => service.close(),
        async prepare(request) {
          const prepared = await service.prepare(request);
          return prepared.ok ? { ok: true, value: count(prepared.value, counted) } : prepared;
        },
      },
    },
    now: Date.now,
    monotonic: systemClock.now,
    loopbackOnly: true,
    usage: new UsageMemory(Date.now),
    onFault: (where, error) => faults.push(`${where}: ${String(error)}`),
  };
  const { url, server } = await listen({ app: createApp(context), host: '127.0.0.1', port: 0 });
  return {
    ...{ tiny, engine, store, context, faults, finished, grammars: counted },
    drain: { url, server },
    async send(path, { method, body, signal }) {
      const signature = await sign(
        KEY,
        { originId: ORIGIN_ID, method, pathAndQuery: path, bodyHash: sha256(body ?? '') },
        Date.now(),
      );
      return fetch(url + path, {
        method,
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
        headers: { 'x-graft-signature': signature },
      });
    },
    files: () => [...readdirSync(folder), ...readdirSync(join(folder, 'incoming'))],
    leftOver() {
      const { running, waiting, loading, preempted, kvTokens: tokens } = engine.stats();
      const rows = (tiny.runner as unknown as { rows: unknown[] }).rows.filter((row) => row !== null);
      const held = engine.residents().adapters.filter((one) => one.references > 0);
      const left = {
        ...{ running, waiting, loading, preempted, tokens, rows: rows.length, held: held.length },
        ...{ lent: counted.lent, open: counted.open, inFlight: serving.inFlight },
      };
      return Object.entries(left).flatMap(([what, many]) => (many === 0 ? [] : [`${what}: ${many}`]));
    },
    async stop() {
      await engine.close();
      await service.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await tiny.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Counts what is lent of a grammar, and which rows of it are open. */
function count(grammar: Grammar, counted: { lent: number; open: number }): Grammar {
  counted.lent += 1;
  let released = false;
  return {
    open() {
      counted.open += 1;
      const row = grammar.open();
      const close = row.close.bind(row);
      row.close = () => {
        row.close = close;
        counted.open -= 1;
        close();
      };
      return row;
    },
    release() {
      if (!released) counted.lent -= 1;
      released = true;
      grammar.release();
    },
  };
}
