/** One origin's process in a simulated world: the product's HTTP app, engine and adapter store over the fake runner. */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { parseSafetensors } from '../../../adapters/format/safetensors.ts';
import { type AdapterFileStore, openAdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';
import { Engine } from '../../../gpu-origin/engine/engine.ts';
import type { Clock, ResidentAdapter } from '../../../gpu-origin/engine/ports.ts';
import { GrammarService } from '../../../gpu-origin/grammar/grammar-service.ts';
import { createApp } from '../../../gpu-origin/http/app.ts';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import type { OriginContext } from '../../../gpu-origin/http/origin-context.ts';
import { UsageMemory } from '../../../gpu-origin/http/run-prompts.ts';
import { drain, Serving } from '../../../gpu-origin/http/serve.ts';
import { openJobStore } from '../../../gpu-origin/jobs/job-store.ts';
import { Jobs } from '../../../gpu-origin/jobs/jobs.ts';
import type { StartTraining } from '../../../gpu-origin/jobs/start-training.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { engineTokens } from '../../../gpu-origin/model/tokenizer.ts';
import { PromptQueue } from '../../../gpu-origin/prompts/prompt.ts';
import type { BaseInfo } from '../../../protocol/origin-wire.ts';
import { newStartId, type SigningKey } from '../../../protocol/signature.ts';
import { FakeRunner, type FakeRunnerOptions } from '../../gpu-origin/fake-runner.ts';
import { onlyLetters } from './expected-answer.ts';
import { GrammarWatch } from './grammar-watch.ts';
import { EngineWatch, type OriginLedger } from './origin-ledger.ts';
import { grammarTokensOf, loadSimTokenizer } from './sim-tokenizer.ts';

export interface OriginParams {
  id: string;
  keys: readonly SigningKey[];
  base: BaseInfo;
  runner: FakeRunnerOptions;
  /** A step of the batch, and the loading of an adapter, ms. */
  stepMs: number;
  loadMs: number;
  maxQueue: number;
  adapterBytes: number;
  diskBytes: number;
  ledger: OriginLedger;
  /** null = it does not train. */
  startTraining: StartTraining | null;
}

/** As load-jobs.ts composes them; with what an earlier start left removed where it does not train. */
async function loadJobs(
  params: OriginParams,
  rest: { files: AdapterFileStore; timer: Clock['timer']; onFault: (error: unknown) => void },
): Promise<Jobs | null> {
  const { base, startTraining: start } = params;
  if (start === null) {
    await rm(JOBS_FOLDER, { recursive: true, force: true });
    return null;
  }
  return new Jobs({
    ...rest,
    store: await openJobStore({ folder: JOBS_FOLDER }),
    base: base.digest,
    start,
    memoryProblem: () => null,
    now: Date.now,
    onEnd: () => undefined,
    onTrouble: (id, code, reason) => console.log(`training ${id} failed: ${code} ${reason}`),
  });
}

const JOBS_FOLDER = '/jobs';

export interface OriginProcess {
  fetch(request: Request): Response | Promise<Response>;
  /** Unexpected exceptions, and breaches of the runner's contract. */
  faults(): readonly string[];
  /** Whether there are any; asked after each event. */
  isFaulty(): boolean;
  /** What it still holds of requests; empty = nothing. */
  leftOver(): string[];
  budgets: { adapters: number; disk: number; loadMs: number; stepMs: number };
  usedBytes(): { adapters: number; disk: number };
  /** Digests of adapters in its memory. */
  residents(): { digest: string; pinned: boolean; ready: boolean }[];
  /** As SIGTERM does. */
  drain(graceMs: number): Promise<void>;
}

/** The product's engine, watched. */
class WatchedEngine extends Engine {
  readonly #watch: EngineWatch;

  constructor(options: ConstructorParameters<typeof Engine>[0], watch: EngineWatch) {
    super(options);
    this.#watch = watch;
    watch.watch(this);
  }

  override async addChoices(
    request: Parameters<Engine['addChoices']>[0],
    seeds: Parameters<Engine['addChoices']>[1],
  ): ReturnType<Engine['addChoices']> {
    const begun = this.#watch.begin(request, seeds.length);
    const added = await super.addChoices(begun.request, seeds);
    if (added.ok) begun.added();
    return added;
  }
}

/** The largest of its layers'. @returns 1 for what is damaged. */
function rankOf(file: Uint8Array): number {
  try {
    const { tensors } = parseSafetensors(file);
    return Math.max(
      1,
      ...[...tensors].map(([name, { shape }]) => (name.endsWith('.lora_A') ? (shape[0] ?? 1) : 1)),
    );
  } catch {
    return 1;
  }
}

/** Weights are what the file says, whatever name it has: a damaged file answers as another adapter. */
class SimRunner extends FakeRunner {
  override readonly base: BaseInfo;
  readonly #letters: (logits: Float32Array) => Float32Array;
  readonly #ranks: Map<string, number>;

  constructor(base: BaseInfo, options: FakeRunnerOptions, letters: (logits: Float32Array) => Float32Array) {
    const ranks = new Map<string, number>();
    super({ ...options, rank: (digest) => ranks.get(digest) ?? 1 });
    this.#ranks = ranks;
    this.base = base;
    this.#letters = letters;
  }

  override loadAdapter(file: Uint8Array<ArrayBuffer>, _digest: string): Promise<ResidentAdapter> {
    const digest = createHash('sha256').update(file).digest('hex');
    this.#ranks.set(digest, rankOf(file));
    return super.loadAdapter(file, digest);
  }

  override async prefill(params: Parameters<FakeRunner['prefill']>[0]): Promise<Float32Array> {
    return this.#letters(await super.prefill(params));
  }

  override async decode(params: Parameters<FakeRunner['decode']>[0]): Promise<Float32Array> {
    return this.#letters(await super.decode(params));
  }
}

export async function startOrigin(params: OriginParams): Promise<OriginProcess> {
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  const clock: Clock = {
    now: () => performance.now(),
    timer(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    yield: () => new Promise((resolve) => setImmediate(resolve)),
  };
  const tokenizer = loadSimTokenizer();
  const runner = new SimRunner(
    params.base,
    {
      ...params.runner,
      vocabSize: tokenizer.size,
      context: params.base.context,
      duringStep: () => sleep(params.stepMs),
      duringLoad: () => sleep(params.loadMs),
    },
    onlyLetters(tokenizer),
  );
  const faults: string[] = [];
  const onFault = (where: string, error: unknown): void =>
    void faults.push(`${where}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  let made: Engine | null = null;
  const store = await openAdapterStore({
    folder: '/adapters',
    budgetBytes: params.diskBytes,
    now: Date.now,
    isInUse: (digest) => made?.needs(digest) ?? false,
    freeBytes: undefined as never,
  });
  const constraints = new GrammarWatch(sleep);
  const grammars = new GrammarService({
    startWorker: constraints.startWorker,
    tokens: grammarTokensOf(tokenizer),
    now: clock.now,
    onFault,
  });
  const metrics = createMetrics();
  const watch = new EngineWatch(params.ledger, clock, runner, {
    stepMs: params.stepMs,
    maxQueue: params.maxQueue,
    adapterBytes: params.adapterBytes,
    largestAdapter: 1_000,
    name: params.id,
  });
  const engine = new WatchedEngine(
    {
      runner,
      masks: grammars,
      source: store,
      tokens: engineTokens(tokenizer),
      eosTokenIds: tokenizer.eosIds,
      clock,
      random: Math.random,
      observer: {
        ...metrics.observer,
        onStep: (step) => {
          metrics.observer.onStep?.(step);
          watch.step(step.kind);
        },
        onFault: ({ where, error }) => onFault(where, error),
      },
      maxQueue: params.maxQueue,
      adapterBudgetBytes: params.adapterBytes,
    },
    watch,
  );
  made = engine;
  const jobs = await loadJobs(params, {
    files: store,
    timer: clock.timer,
    onFault: (error) => onFault('jobs', error),
  });
  const serving = new Serving();
  serving.ready();
  const context: OriginContext = {
    mode: {
      kind: 'signed',
      originId: params.id,
      keys: params.keys,
      startedAt: Date.now(),
      startId: newStartId(),
    },
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
    },
    now: Date.now,
    monotonic: clock.now,
    usage: new UsageMemory(Date.now),
    jobs,
    onFault,
  };
  jobs?.begin();
  const app = createApp(context);
  return {
    fetch: (request) => app.fetch(request, {}),
    faults: () => [...faults, ...runner.misuses],
    isFaulty: () => faults.length + runner.misuses.length > 0,
    leftOver() {
      const { running, waiting, loading, preempted, kvTokens } = engine.stats();
      const held = engine.residents().adapters.filter(({ references }) => references > 0).length;
      const left = {
        running,
        waiting,
        loading,
        preempted,
        kvTokens,
        rows: runner.occupied.length,
        constrained: constraints.open,
        held,
        inFlight: serving.inFlight,
        trainings: jobs?.running ?? 0,
      };
      return Object.entries(left).flatMap(([what, many]) => (many === 0 ? [] : [`${what}: ${many}`]));
    },
    budgets: {
      adapters: params.adapterBytes,
      disk: params.diskBytes,
      loadMs: params.loadMs,
      stepMs: params.stepMs,
    },
    residents: () =>
      engine
        .residents()
        .adapters.map(({ digest, pinned, state }) => ({ digest, pinned, ready: state === 'ready' })),
    usedBytes: () => ({ adapters: engine.residents().used_bytes, disk: store.disk().usedBytes }),
    async drain(graceMs) {
      const halted = jobs?.halt();
      await drain({
        ...{ serving, graceMs, sleep, abortAll: () => engine.close() },
        // The network knows what has been sent.
        server: { close: (closed) => closed(), closeIdleConnections() {}, closeAllConnections() {} },
        connections: { whenSent: () => Promise.resolve() },
      });
      await halted;
    },
  };
}
