import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { ResidentList } from '../../protocol/origin-wire.ts';
import type { TokenBytes } from '../generation/answer-text.ts';
import { AdapterCache } from './adapters/adapter-cache.ts';
import { batchOf, NO_ROWS } from './adapters/adapter-memory.ts';
import {
  deadlineExceeded,
  neverFits,
  noClassifier,
  noSuchBias,
  queueFull,
  shuttingDown,
  type ContextLengthExceeded,
  type EngineHandle,
  type EngineRequest,
  type EngineStats,
  type ServingEngine,
} from './requests.ts';
import { KvSlots, PrefixCache } from './kv-cache-manager.ts';
import type { EngineObserver, AdapterSource, Clock, GrammarMasks, ModelRunner } from './ports.ts';
import { ModelExecutor, SequenceLifecycle } from './model-executor.ts';
import { Scheduler, type CanSchedule, type Step, type Swap } from './scheduler.ts';
import { handleOf, newSequence, type Sequence } from './sequence.ts';

export { deadlineExceeded, NOT_FINITE, noSuchBias, timesOf } from './requests.ts';
export type * from './requests.ts';
export type { EngineObserver, Outcome } from './ports.ts';

export interface EngineOptions {
  readonly runner: ModelRunner;
  readonly source: AdapterSource;
  readonly tokens: TokenBytes;
  readonly eosTokenIds: readonly number[];
  readonly clock: Clock;
  /** Uniform in [0, 1); used by requests without a seed. */
  readonly random: () => number;
  readonly observer?: EngineObserver;
  /** For requests with a grammar; without it there must be none. */
  readonly masks?: GrammarMasks;
  /** Requests that may wait or load at once. */
  readonly maxQueue: number;
  /** Memory for resident adapters, bytes. */
  readonly adapterBudgetBytes: number;
  /** Decode steps between two turns of reading prompts; default 1. */
  readonly decodeStepsPerTurn?: number;
}

/**
 * Continuous batching: rows join and leave between steps, each with an adapter chain of its own or none. A step
 * is never interrupted, and only adapter loads overlap with it.
 */
export class Engine implements ServingEngine {
  readonly #runner: ModelRunner;
  readonly #options: EngineOptions;
  readonly #observer: EngineObserver;
  readonly #clock: Clock;
  readonly #eos: ReadonlySet<number>;
  readonly #adapters: AdapterCache;
  readonly #scheduler: Scheduler;
  readonly #slots: KvSlots<Sequence>;
  readonly #prefixes: PrefixCache;
  readonly #lifecycle: SequenceLifecycle;
  readonly #executor: ModelExecutor;
  #closed = false;
  /** An event that the loop has not handled yet. */
  #dirty = false;
  #wakeUp: (() => void) | null = null;
  readonly #loop: Promise<void>;

  constructor(options: EngineOptions) {
    const { runner, clock } = options;
    this.#options = options;
    this.#runner = runner;
    this.#clock = clock;
    this.#observer = guardObserver(options.observer ?? {});
    this.#eos = new Set(options.eosTokenIds);
    this.#slots = new KvSlots(runner);
    this.#prefixes = new PrefixCache(runner);
    this.#scheduler = new Scheduler({
      cached: (sequence) => this.#prefixes.tokensOf(sequence),
      roomToKeep: (sequence) => this.#prefixes.hasRoomFor(sequence),
      slots: runner.slots,
      ...{ chunk: runner.chunk, parts: runner.parts, doublingTokens: runner.doublingTokens },
      mixes: runner.mixes,
      maxQueue: options.maxQueue,
      decodeStepsPerTurn: options.decodeStepsPerTurn ?? 1,
    });
    this.#adapters = new AdapterCache({
      runner,
      source: options.source,
      clock,
      budgetBytes: options.adapterBudgetBytes,
      observer: this.#observer,
      wake: this.#wake,
    });
    this.#lifecycle = new SequenceLifecycle({
      scheduler: this.#scheduler,
      slots: this.#slots,
      clock,
      observer: this.#observer,
      wake: this.#wake,
    });
    this.#executor = new ModelExecutor({
      ...{ runner, clock, slots: this.#slots, lifecycle: this.#lifecycle, prefixes: this.#prefixes },
      ...{ masks: options.masks ?? NO_GRAMMARS, wake: this.#wake },
    });
    this.#loop = this.#run();
  }

  async add(request: EngineRequest): Promise<Result<EngineHandle, ApiError>> {
    const added = await this.addChoices(request, [request.sampling.seed]);
    return added.ok ? ok(added.value[0]!) : added;
  }

  async addChoices(
    request: EngineRequest,
    seeds: readonly (number | null)[],
  ): Promise<Result<readonly EngineHandle[], ApiError>> {
    const admitted = await this.#admit(request, seeds.length);
    // The queue may have filled while the source was asked.
    const refusal = admitted.ok ? this.#full(request.tenant, seeds.length) : admitted.error;
    if (!admitted.ok || refusal !== null) {
      const error = refusal ?? shuttingDown();
      this.#observer.onRefuse?.({
        ...{ id: request.id, traceId: request.parent?.traceId, tenant: request.tenant, error },
      });
      return err(error);
    }
    const sequences = seeds.map((seed) =>
      newSequence({
        ...this.#options,
        ...admitted.value,
        request,
        seed,
        eos: this.#eos,
        wake: this.#wake,
      }),
    );
    for (const sequence of sequences) this.#lifecycle.add(sequence);
    this.#wake();
    return ok(sequences.map(handleOf));
  }

  async #admit(request: EngineRequest, rows: number): Promise<Result<{ maxTokens: number }, ApiError>> {
    if (request.classifies === true && request.chain.length === 0) return err(noClassifier());
    const limits = checkRequest(request, this.#runner);
    if (!limits.ok) return limits;
    const refusal =
      this.#full(request.tenant, rows) ??
      (await this.#adapters.check(request.chain.map(({ digest }) => digest)));
    return refusal === null ? limits : err(refusal);
  }

  get hiddenSize(): number {
    return this.#runner.hiddenSize;
  }

  stats(): EngineStats {
    const { slots, kvTokens: kvCapacity, blockBytes } = this.#runner;
    let loading = 0;
    let kvTokens = 0;
    for (const sequence of this.#lifecycle.live) {
      if (sequence.state === 'loading') loading += 1;
      kvTokens += sequence.length;
    }
    return {
      slots,
      running: this.#slots.running,
      waiting: this.#scheduler.queued - loading,
      loading,
      preempted: this.#slots.preempted,
      kvTokens,
      kvCapacity,
      prefixBytes: this.#prefixes.used * blockBytes,
    };
  }

  holds(chain: readonly ChainEntry[]): boolean {
    return this.#adapters.holds(chain);
  }

  residents(): ResidentList {
    return this.#adapters.residents();
  }

  needs(digest: string): boolean {
    return anyNeeds(this.#lifecycle.live, digest);
  }

  check(digests: readonly string[], files?: boolean): Promise<ApiError | null> {
    return this.#adapters.check(digests, files);
  }

  prefetch(digest: string, options: { pinned?: boolean } = {}): Promise<Result<void, ApiError>> {
    return this.#adapters.prefetch(digest, options.pinned ?? false);
  }

  keepPinned(digests: ReadonlySet<string>): number {
    return this.#adapters.keepPinned(digests);
  }

  async drop(digests: ReadonlySet<string>): Promise<number> {
    return this.#adapters.drop(digests);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      this.#applyPending();
      const step = this.#scheduler.next(this.#slots, this.#canSchedule);
      if (step === null) await this.#sleep();
      else if (isSwap(step)) this.#lifecycle[step.kind](step.sequence);
      else {
        const report = await this.#executor.run(step);
        this.#observer.onStep?.({ ...report, ...this.stats() });
      }
    }
    for (const sequence of this.#lifecycle.live) this.#lifecycle.abort(sequence);
    this.#adapters.setBatch(NO_ROWS);
    this.#adapters.applyPending();
  }

  /** Applies what happened since the last step, between steps: adapters, aborts, deadlines. */
  #applyPending(): void {
    this.#dirty = false;
    const now = this.#clock.now();
    this.#adapters.setBatch(batchOf(this.#slots.batch));
    this.#lifecycle.lease(this.#adapters, this.#runner.slots);
    this.#adapters.applyPending();
    for (const sequence of this.#lifecycle.live) {
      const outcome = sequence.state === 'loading' ? sequence.lease?.outcome : undefined;
      if (sequence.abortWanted) this.#lifecycle.abort(sequence);
      else if (now >= sequence.deadline) this.#lifecycle.fail(sequence, deadlineExceeded());
      else if (sequence.needsNoStep) this.#lifecycle.finish(sequence, 'length');
      else if (outcome?.ok === true) {
        if (sequence.loadingAt !== null) sequence.loadedAt = now;
        const { unfit } = sequence;
        if (unfit === null) sequence.become('ready');
        else this.#lifecycle.fail(sequence, unfit);
      } else if (outcome?.ok === false) this.#lifecycle.fail(sequence, outcome.error);
    }
    this.#executor.goOn();
  }

  readonly #canSchedule: CanSchedule = (sequence, without) => {
    if (!this.#slots.hasMemoryFor(sequence)) return false;
    const rows = this.#slots.batch.filter((row) => row !== without);
    return this.#adapters.fits(batchOf([...rows, sequence]));
  };

  /**
   * Waits for an event, or returns at once if one has happened since `#applyPending`: a request, an abort, a
   * loaded adapter, a deadline.
   */
  async #sleep(): Promise<void> {
    if (this.#dirty) return;
    const at = Math.min(...[...this.#lifecycle.live].map((sequence) => sequence.deadline));
    const cancel =
      at === Infinity ? null : this.#clock.timer(Math.max(0, at - this.#clock.now()), this.#wake);
    await new Promise<void>((resolve) => (this.#wakeUp = resolve));
    cancel?.();
  }

  readonly #wake = (): void => {
    this.#dirty = true;
    this.#wakeUp?.();
    this.#wakeUp = null;
  };

  /** Why `tenant` may not queue `rows` more sequences now. */
  #full(tenant: string, rows: number): ApiError | null {
    if (this.#closed) return shuttingDown();
    const alone = [...this.#lifecycle.live].every((sequence) => sequence.tenant === tenant);
    const refusal = this.#scheduler.refuse({ tenant, rows, alone });
    if (refusal === null) return null;
    return refusal === 'never' ? neverFits(rows) : queueFull(this.#scheduler.queued, refusal);
  }
}

const NO_GRAMMARS: GrammarMasks = {
  update: () => {
    throw new Error('this engine does not constrain answers');
  },
};

const isSwap = (step: Step | Swap): step is Swap => step.kind === 'preempt' || step.kind === 'resume';

/** Checks of a request that do not depend on the queue. @returns the effective limit of tokens: what fits. */
export function checkRequest(
  request: EngineRequest,
  runner: Pick<ModelRunner, 'base' | 'vocabSize'>,
): Result<{ maxTokens: number }, ApiError> {
  const { prompt, sampling } = request;
  const { context } = runner.base;
  if (prompt.length === 0)
    return err({ code: 'invalid_request', message: 'The prompt is empty.', param: 'prompt' });
  const unknown = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= runner.vocabSize);
  if (unknown !== undefined)
    return err({
      code: 'invalid_request',
      message: `Token ${unknown} is not in the vocabulary of ${runner.vocabSize} tokens.`,
      param: 'prompt',
    });
  const beyond = sampling.adjustments?.bias.find(([id]) => id >= runner.vocabSize);
  if (beyond !== undefined) return err(noSuchBias(beyond[0]));
  const full = contextFull({ context, prompt: prompt.length, maxTokens: sampling.maxTokens, param: null });
  if (full !== null) return err(full);
  const room = context - prompt.length;
  return ok({ maxTokens: Math.min(sampling.maxTokens ?? room, room) });
}

/** Of requests that wait or run. */
export function anyNeeds(requests: Iterable<Pick<EngineRequest, 'chain'>>, digest: string): boolean {
  for (const { chain } of requests) if (chain.some((member) => member.digest === digest)) return true;
  return false;
}

/**
 * Why a prompt of this many tokens does not fit: there must be room for one generated token, if one is wanted.
 */
export function contextFull(params: {
  context: number;
  prompt: number;
  maxTokens: number | null;
  param: string | null;
}): ContextLengthExceeded | null {
  const { context, prompt, maxTokens, param } = params;
  if (context - prompt >= Math.min(1, maxTokens ?? 1)) return null;
  const message =
    `This model's maximum context length is ${context} tokens. However, the prompt has ${prompt}, ` +
    'which leaves no room for an answer. The prompt is too long: please reduce its length.';
  return { code: 'context_length_exceeded', message, param, promptTokens: prompt };
}

type Notice = (event: never) => void;

/**
 * Protects the loop from an observer: the first error of its methods goes to its own `onFault`; later ones are
 * dropped, because a broken method fails for every token. Errors of `onFault` are dropped.
 */
export function guardObserver(observer: EngineObserver): EngineObserver {
  const told = new Set<string>();
  const onFault: NonNullable<EngineObserver['onFault']> = (fault) => {
    try {
      observer.onFault?.(fault);
    } catch {
      // Nobody is left to report to.
    }
  };
  const guard = <T extends Notice>(name: string, notice: T | undefined): T | undefined => {
    if (notice === undefined) return undefined;
    const guarded: Notice = (event) => {
      try {
        notice.call(observer, event);
      } catch (error) {
        if (told.has(name)) return;
        told.add(name);
        onFault({ where: `observer ${name}`, error, requestIds: [] });
      }
    };
    return guarded as T;
  };
  const names = [
    'onStep',
    'onPreempt',
    'onFirstToken',
    'onToken',
    'onFinish',
    'onRefuse',
    'onAdapterLoad',
    'onAdapterEvict',
  ];
  const entries = (names as (keyof EngineObserver)[]).map((name) => [
    name,
    guard(name, observer[name] as Notice | undefined),
  ]);
  return { ...(Object.fromEntries(entries) as EngineObserver), onFault };
}
