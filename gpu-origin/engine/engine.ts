import {
  chainId,
  err,
  ok,
  type ApiError,
  type ChainEntry,
  type ResidentList,
  type Result,
} from '../../protocol/index.ts';
import type { TokenBytes } from '../generation/answer-text.ts';
import { AdapterCache } from './adapters/adapter-cache.ts';
import { batchOf, NO_ROWS } from './adapters/adapter-memory.ts';
import { leaseAdapters } from './adapters/lease-adapters.ts';
import { Alarm } from './alarm.ts';
import { checkRequest, deadlineExceeded, neverFits, queueFull, shuttingDown } from './admission.ts';
import type { EngineHandle, EngineRequest, EngineStats, ServingEngine } from './engine-types.ts';
import { KvSlots } from './kv-slots.ts';
import { guardObserver, type EngineObserver } from './observer.ts';
import type { AdapterSource, Clock, GrammarMasks, ModelRunner } from './ports.ts';
import { PrefixCache } from './prefix-cache.ts';
import { StepRunner } from './run-step.ts';
import { Scheduler, type Fits, type Step, type Swap } from './scheduler.ts';
import { SequenceEndings } from './sequence-endings.ts';
import { handleOf, newSequence, type Sequence } from './sequence.ts';

export {
  contextFull,
  deadlineExceeded,
  NOT_FINITE,
  noSuchBias,
  type ContextLengthExceeded,
} from './admission.ts';
export type * from './engine-types.ts';
export type { EngineObserver, Outcome } from './observer.ts';

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
  /** Requests that may wait (or load) at once. */
  readonly maxQueue: number;
  /** Memory for resident adapters, bytes. */
  readonly adapterBudgetBytes: number;
  /** Decode steps between two turns of reading prompts; 1 unless given. */
  readonly decodeStepsPerTurn?: number;
}

/**
 * Continuous batching: rows join and leave between steps, each with an adapter chain of its own or none.
 * A step is never interrupted and nothing but adapter loads overlaps with it.
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
  readonly #endings: SequenceEndings;
  readonly #steps: StepRunner;
  readonly #alarm: Alarm;
  #closed = false;
  readonly #loop: Promise<void>;

  constructor(options: EngineOptions) {
    const { runner, clock } = options;
    this.#options = options;
    this.#runner = runner;
    this.#clock = clock;
    this.#alarm = new Alarm(clock);
    this.#observer = guardObserver(options.observer ?? {});
    this.#eos = new Set(options.eosTokenIds);
    this.#slots = new KvSlots(runner);
    this.#prefixes = new PrefixCache(runner);
    this.#scheduler = new Scheduler({
      cached: (sequence) => this.#prefixes.tokensOf(sequence),
      slots: runner.slots,
      ...{ chunk: runner.chunk, parts: runner.parts, doublingTokens: runner.doublingTokens },
      maxQueue: options.maxQueue,
      decodeStepsPerTurn: options.decodeStepsPerTurn ?? 1,
    });
    this.#adapters = new AdapterCache({
      runner,
      source: options.source,
      clock,
      budgetBytes: options.adapterBudgetBytes,
      observer: this.#observer,
      wake: this.#alarm.ring,
    });
    this.#endings = new SequenceEndings({
      scheduler: this.#scheduler,
      slots: this.#slots,
      clock,
      observer: this.#observer,
      wake: this.#alarm.ring,
    });
    this.#steps = new StepRunner({
      ...{ runner, clock, slots: this.#slots, endings: this.#endings, prefixes: this.#prefixes },
      masks: options.masks ?? NO_GRAMMARS,
    });
    this.#loop = this.#run();
  }

  /**
   * Queues a request, or refuses it before anything is queued: `invalid_request`, `context_length_exceeded`,
   * `queue_full`, `adapter_missing`, `adapter_loading`, `adapter_unavailable`, `origin_unavailable` (closed).
   */
  async add(request: EngineRequest): Promise<Result<EngineHandle, ApiError>> {
    const added = await this.addChoices(request, [request.sampling.seed]);
    return added.ok ? ok(added.value[0]!) : added;
  }

  /**
   * Queues several answers to one request, one for each seed, or none of them: each takes a slot of its own, and
   * the prompt's whole chunks are read once, where they are kept. Refuses as `add` does; `queue_full` without a time to come back when they never fit.
   */
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
        wake: this.#alarm.ring,
      }),
    );
    for (const sequence of sequences) this.#endings.add(sequence);
    this.#alarm.ring();
    return ok(sequences.map(handleOf));
  }

  async #admit(
    request: EngineRequest,
    rows: number,
  ): Promise<Result<{ maxTokens: number; chainId: string }, ApiError>> {
    const limits = checkRequest(request, this.#runner);
    if (!limits.ok) return limits;
    const refusal =
      this.#full(request.tenant, rows) ??
      (await this.#adapters.check(request.chain.map(({ digest }) => digest)));
    if (refusal !== null) return err(refusal);
    const id = request.chain.length === 0 ? '' : await chainId(request.chain);
    return ok({ ...limits.value, chainId: id });
  }

  /** Width of an embedding. */
  get hiddenSize(): number {
    return this.#runner.hiddenSize;
  }

  stats(): EngineStats {
    const { slots, kvTokens: kvCapacity, blockBytes } = this.#runner;
    let loading = 0;
    let kvTokens = 0;
    for (const sequence of this.#endings.live) {
      if (sequence.state === 'loading') loading += 1;
      kvTokens += sequence.length;
    }
    return {
      slots,
      running: this.#slots.running,
      waiting: this.#scheduler.queued - loading,
      loading,
      parked: this.#slots.parked,
      kvTokens,
      kvCapacity,
      prefixBytes: this.#prefixes.used * blockBytes,
    };
  }

  /** Is the whole chain in memory, so that a request for it waits for no adapter? */
  holds(chain: readonly ChainEntry[]): boolean {
    return this.#adapters.holds(chain);
  }

  residents(): ResidentList {
    return this.#adapters.residents();
  }

  /** @returns `adapter_missing`, `adapter_loading` or `adapter_unavailable` when one of them cannot be had; else null. */
  check(digests: readonly string[]): Promise<ApiError | null> {
    return this.#adapters.check(digests);
  }

  /**
   * Loads an adapter without a request; resolves when it is ready. A pinned one stays in memory until `keepPinned`;
   * pinned ones have half of the memory for adapters, and beyond that it is `adapter_unavailable`.
   */
  prefetch(digest: string, options: { pinned?: boolean } = {}): Promise<Result<void, ApiError>> {
    return this.#adapters.prefetch(digest, options.pinned ?? false);
  }

  /** Unpins all others. @returns how many were pinned. */
  keepPinned(digests: ReadonlySet<string>): number {
    return this.#adapters.keepPinned(digests);
  }

  /** Lets go of them, of those that a row has when it ends. @returns how many that is. */
  async drop(digests: ReadonlySet<string>): Promise<number> {
    return this.#adapters.drop(digests);
  }

  /** Aborts every request and ends the loop. The runner stays open. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#alarm.ring();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      this.#settle();
      const step = this.#scheduler.next(this.#slots, this.#fits);
      if (step === null) await this.#sleep();
      else if (isSwap(step)) this.#endings[step.kind](step.sequence);
      else {
        const report = await this.#steps.run(step);
        this.#observer.onStep?.({ ...report, ...this.stats() });
      }
    }
    for (const sequence of this.#endings.live) this.#endings.abort(sequence);
    this.#adapters.setBatch(NO_ROWS);
    this.#adapters.settle();
  }

  /** What happened since the last step takes effect here, between steps: adapters, aborts, deadlines. */
  #settle(): void {
    this.#alarm.clear();
    const now = this.#clock.now();
    this.#adapters.setBatch(batchOf(this.#slots.batch));
    leaseAdapters({ queue: this.#scheduler.queue(), adapters: this.#adapters, slots: this.#runner.slots });
    this.#adapters.settle();
    for (const sequence of this.#endings.live) {
      const outcome = sequence.state === 'loading' ? sequence.lease?.outcome : undefined;
      if (sequence.abortWanted) this.#endings.abort(sequence);
      else if (now >= sequence.deadline) this.#endings.fail(sequence, deadlineExceeded());
      else if (sequence.needsNoStep) this.#endings.finish(sequence, 'length');
      else if (outcome?.ok === true) sequence.become('ready');
      else if (outcome?.ok === false) this.#endings.fail(sequence, outcome.error);
    }
  }

  readonly #fits: Fits = (sequence, without) => {
    if (!this.#slots.hasMemoryFor(sequence)) return false;
    const rows = this.#slots.batch.filter((row) => row !== without);
    return this.#adapters.fits(batchOf([...rows, sequence]));
  };

  /** Until something happens: a request, an abort, a loaded adapter, a deadline. */
  async #sleep(): Promise<void> {
    if (this.#closed) return;
    await this.#alarm.wait(Math.min(...[...this.#endings.live].map((sequence) => sequence.deadline)));
  }

  /** Why `tenant` may not queue `rows` more sequences now. */
  #full(tenant: string, rows: number): ApiError | null {
    if (this.#closed) return shuttingDown();
    const alone = [...this.#endings.live].every((sequence) => sequence.tenant === tenant);
    const refusal = this.#scheduler.refuse({ tenant, rows, alone });
    if (refusal === null) return null;
    return refusal === 'never' ? neverFits(rows) : queueFull(this.#scheduler.queued, refusal);
  }
}

const NO_GRAMMARS: GrammarMasks = {
  update: () => Promise.reject(new Error('this engine holds no answer to a grammar')),
};

const isSwap = (step: Step | Swap): step is Swap => step.kind === 'park' || step.kind === 'resume';
