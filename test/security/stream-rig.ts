/**
 * The path of a stream in one process and under virtual time: the edge's app, the signature, the origin's app, the
 * engine, and a model whose steps take as long as the real one's. Time moves with the steps alone, or when a test says.
 */
import { vi } from 'vitest';
import type { Clock } from '../../gpu-origin/engine/ports.ts';
import { PromptQueue } from '../../gpu-origin/prompts/prompt.ts';
import { Engine } from '../../gpu-origin/engine/engine.ts';
import type { Grammars } from '../../gpu-origin/grammar/ports.ts';
import { createApp } from '../../gpu-origin/http/app.ts';
import { Serving } from '../../gpu-origin/http/serve.ts';
import { createMetrics } from '../../gpu-origin/http/metrics.ts';
import { UsageMemory } from '../../gpu-origin/http/run-prompts.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { FakeRunner, type FakeStep } from '../gpu-origin/fake-runner.ts';
import type { AdapterFileStore } from '../../gpu-origin/adapter-files/adapter-store.ts';
import { letters } from '../gpu-origin/engine/harness.ts';
import { KEY } from '../gpu-origin/http/harness.ts';
import { tinyMetadata } from '../gpu-origin/model-tokenizer/tiny-tokenizer.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

/** SmolLM2-135M in int8 on two cores, ms: a chunk of 128 tokens, a step of 16 rows, and what of it is not its rows. */
const CHUNK_MS = 40;
const STEP_MS = 25;
const ROWS = 16;
const STEP_BASE_MS = 5;

const costOf = ({ kind, rows }: FakeStep): number =>
  kind === 'prefill' ? CHUNK_MS : STEP_BASE_MS + ((STEP_MS - STEP_BASE_MS) * rows.length) / ROWS;

/** Lets real work (hashes, streams) come to rest. */
export async function rest(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** What signatures and hashes are made with, on threads of their own. */
const ON_THREADS = ['digest', 'importKey', 'sign', 'verify'] as const;

/** @returns how many of them are under way; `vi.restoreAllMocks` ends the counting. */
function countOnThreads(): () => number {
  let underWay = 0;
  const subtle = crypto.subtle as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
  for (const method of ON_THREADS) {
    const real = subtle[method]!.bind(crypto.subtle);
    vi.spyOn(subtle, method).mockImplementation((...args) => {
      underWay += 1;
      return real(...args).finally(() => (underWay -= 1));
    });
  }
  return () => underWay;
}

export interface StreamRig {
  edge: AppHarness;
  engine: Engine;
  /** The origin does nothing any more and closes nothing, as a stopped process. */
  freeze(): void;
  keyOf(tenant: string): Promise<string>;
  chat(key: string, body: object): Promise<Response>;
  /** Nothing but time goes by, ms. */
  pass(ms: number): Promise<void>;
  /** Runs the model until `done`. @returns the time it took, ms. */
  run(done: () => boolean): Promise<number>;
  close(): Promise<void>;
}

/** From here on time is the rig's; `vi.useRealTimers` and `vi.restoreAllMocks` give it back. */
export async function createStreamRig(): Promise<StreamRig> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] });
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new DOMException('too late', 'TimeoutError')), ms);
    return controller.signal;
  });
  const onThreads = countOnThreads();
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
  let frozen = false;
  let closed = false;
  let step: { ms: number; end: () => void } | null = null;
  const runner = new FakeRunner({
    slots: ROWS,
    chunk: 128,
    context: 8_192,
    vocabSize: tokenizer.size,
    logit: (id, tokens) => (id * 7 + tokens.length * 13) % 31,
    duringStep: (run) => (closed ? undefined : new Promise((end) => (step = { ms: costOf(run), end }))),
  });
  const clock: Clock = {
    now: Date.now,
    timer(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    yield: () => new Promise((resolve) => setImmediate(resolve)),
  };
  const engine = new Engine({
    runner,
    source: { status: async () => 'missing', read: async () => null },
    tokens: letters,
    eosTokenIds: tokenizer.eosIds,
    clock,
    random: () => 0.5,
    maxQueue: 256,
    adapterBudgetBytes: 1_000,
  });
  const serving = new Serving();
  serving.ready();
  const edge = await createAppHarness();
  const tellTime = () => void (edge.clock.time = Date.now());
  tellTime();
  const origin = createApp({
    mode: { kind: 'signed', originId: 'o1', keys: [KEY], startedAt: Date.now() - 1_000 },
    serving,
    metrics: createMetrics(),
    services: {
      engine,
      base: { ...runner.base },
      tokenizer,
      chatTemplate: createChatTemplate(tokenizer),
      prompts: new PromptQueue(clock),
      files: { keep: () => () => undefined } as unknown as AdapterFileStore,
      grammars: {} as Grammars,
    },
    usage: new UsageMemory(Date.now),
    now: Date.now,
    monotonic: clock.now,
    onFault: (where, error) => {
      throw new Error(where, { cause: error });
    },
  });
  const answered = edge.origin.answer;
  edge.origin.answer = async (method, path, init, url) => {
    if (frozen)
      return new Promise((_, reject) =>
        init.signal?.addEventListener('abort', () => reject(new Error('off'))),
      );
    if (path === '/base') return answered(method, path, init);
    const response = await origin.fetch(new Request(url ?? path, init));
    const wire = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => (frozen ? new Promise(() => undefined) : controller.enqueue(chunk)),
    });
    return new Response(response.body?.pipeThrough(wire) ?? null, response);
  };
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 500) {
      await vi.advanceTimersByTimeAsync(Math.min(500, left));
      tellTime();
      // What waits for a signature begins its next timer when that is made, however busy the machine is.
      do for (let turn = 0; turn < 8; turn += 1) await rest();
      while (onThreads() > 0);
    }
  };
  return {
    edge,
    engine,
    freeze: () => void (frozen = true),
    async keyOf(tenant) {
      const made = await edge.request('/admin/keys', { body: { tenant } });
      return ((await made.json()) as { key: string }).key;
    },
    chat: (key, body) =>
      edge.request('/v1/chat/completions', {
        key,
        body: { model: 'base', stream: true, ignore_eos: true, temperature: 0, ...body },
      }),
    pass,
    async run(done) {
      const from = Date.now();
      let idle = 0;
      while (!done()) {
        await new Promise((resolve) => setImmediate(resolve));
        if (step === null) {
          idle += 1;
          if (idle > 100_000) throw new Error('the model stands still');
          continue;
        }
        idle = 0;
        const { ms, end } = step;
        step = null;
        await vi.advanceTimersByTimeAsync(ms);
        tellTime();
        end();
      }
      return Date.now() - from;
    },
    async close() {
      closed = true;
      const closing = engine.close();
      step?.end();
      await closing;
    },
  };
}
