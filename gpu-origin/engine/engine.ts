import { chainId, err, ok, type ApiError, type ResidentList, type Result } from '../../protocol/index.ts';
import type { TokenBytes } from '../generation/detokenizer.ts';
import { AdapterCache } from './adapter-cache.ts';
import { batchOf, NO_ROWS } from './adapter-memory.ts';
import { Alarm } from './alarm.ts';
import {
  checkRequest,
  deadlineExceeded,
  MODEL_FAILED,
  neverFits,
  queueFull,
  rowFault,
  shuttingDown,
} from './admission.ts';
import type {
  EngineContract,
  EngineHandle,
  EngineObserver,
  EngineRequest,
  EngineStats,
} from './engine-types.ts';
import { guardObserver } from './guard-observer.ts';
import { KvSlots } from './kv-slots.ts';
import { leaseAdapters } from './lease-adapters.ts';
import { Lifecycle } from './lifecycle.ts';
import { handleOf, newSequence } from './new-sequence.ts';
import type { AdapterSource, Clock, ModelRunner } from './ports.ts';
import { Scheduler, type Fits, type PrefillStep, type Step, type Swap } from './scheduler.ts';
import { scorePrompt, wantedPositions } from './score-prompt.ts';
import type { Sequence } from './sequence.ts';
import { engineStats } from './stats.ts';

export { NOT_FINITE, noSuchBias } from './admission.ts';
export type * from './engine-types.ts';

export interface EngineOptions {
  readonly runner: ModelRunner;
  readonly source: AdapterSource;
  readonly tokens: TokenBytes;
  readonly eosTokenIds: readonly number[];
  readonly clock: Clock;
  /** Uniform in [0, 1); used by requests without a seed. */
  readonly random: () => number;
  readonly observer?: EngineObserver;
  /** Requests that may wait (or load) at once. */
  readonly maxQueue: number;
  /** Memory for resident adapters, bytes. */
  readonly adapterBudgetBytes: number;
  /** Decode steps between two prefill chunks; 1 unless given. */
  readonly decodeStepsPerChunk?: number;
}

/**
 * Continuous batching: rows join and leave between steps, each with an adapter chain of its own or none.
 * A step is never interrupted and nothing but adapter loads overlaps with it.
 */
export class Engine implements EngineContract {
  readonly #runner: ModelRunner;
  readonly #options: EngineOptions;
  readonly #observer: EngineObserver;
  readonly #clock: Clock;
  readonly #eos: ReadonlySet<number>;
  readonly #adapters: AdapterCache;
  readonly #scheduler: Scheduler;
  readonly #slots: KvSlots<Sequence>;
  readonly #lifecycle: Lifecycle;
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
    this.#scheduler = new Scheduler({
      slots: runner.slots,
      chunk: runner.chunk,
      maxQueue: options.maxQueue,
      decodeStepsPerChunk: options.decodeStepsPerChunk ?? 1,
    });
    this.#adapters = new AdapterCache({
      runner,
      source: options.source,
      clock,
      budgetBytes: options.adapterBudgetBytes,
      observer: this.#observer,
      wake: this.#alarm.ring,
    });
    this.#lifecycle = new Lifecycle({
      scheduler: this.#scheduler,
      slots: this.#slots,
      clock,
      observer: this.#observer,
      wake: this.#alarm.ring,
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
      this.#observer.onRefuse?.({ id: request.id, tenant: request.tenant, error });
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
    for (const sequence of sequences) this.#lifecycle.add(sequence);
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

  stats(): EngineStats {
    return engineStats(this.#lifecycle.live, this.#slots, this.#scheduler, this.#runner);
  }

  residents(): ResidentList {
    return this.#adapters.residents();
  }

  check(digests: readonly string[]): Promise<ApiError | null> {
    return this.#adapters.check(digests);
  }

  prefetch(digest: string, options: { pinned?: boolean } = {}): Promise<Result<void, ApiError>> {
    return this.#adapters.prefetch(digest, options.pinned ?? false);
  }

  keepPinned(digests: ReadonlySet<string>): number {
    return this.#adapters.keepPinned(digests);
  }

  unload(digest: string): boolean {
    return this.#adapters.unload(digest);
  }

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
      else if (isSwap(step)) this.#lifecycle[step.kind](step.sequence);
      else await this.#execute(step);
    }
    for (const sequence of this.#lifecycle.live) this.#lifecycle.abort(sequence);
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
    for (const sequence of this.#lifecycle.live) {
      const outcome = sequence.state === 'loading' ? sequence.lease?.outcome : undefined;
      if (sequence.abortWanted) this.#lifecycle.abort(sequence);
      else if (now >= sequence.deadline) this.#lifecycle.fail(sequence, deadlineExceeded());
      else if (sequence.needsNoStep) this.#lifecycle.finish(sequence, 'length');
      else if (outcome?.ok === true) sequence.become('ready');
      else if (outcome?.ok === false) this.#lifecycle.fail(sequence, outcome.error);
    }
  }

  readonly #fits: Fits = (sequence, without) => {
    const rows = this.#slots.batch.filter((row) => row !== without);
    return this.#adapters.fits(batchOf([...rows, sequence]));
  };

  async #execute(step: Step): Promise<void> {
    const startedAt = this.#clock.now();
    const rows = step.kind === 'decode' ? [...step.rows] : [step.sequence];
    try {
      if (step.kind === 'decode') this.#decoded(rows, await this.#decode(rows));
      else await this.#prefilled(step, await this.#prefill(step));
    } catch (error) {
      this.#lifecycle.fault('step', error, rows);
      // From the last slot down, so that none of them is moved first.
      for (const row of rows.reverse()) if (!row.ended) this.#lifecycle.fail(row, rowFault(MODEL_FAILED));
    }
    this.#observer.onStep?.({
      kind: step.kind,
      batch: rows.length,
      tokens: step.kind === 'decode' ? rows.length : step.to - step.from,
      ms: this.#clock.now() - startedAt,
      ...this.stats(),
    });
  }

  #decode(rows: readonly Sequence[]): Promise<Float32Array> {
    return this.#runner.decode({
      tokens: rows.map((row) => row.answer.ids.at(-1)!),
      lengths: rows.map((row) => row.length),
    });
  }

  #decoded(rows: readonly Sequence[], logits: Float32Array): void {
    const { vocabSize } = this.#runner;
    // All of them first: a row that ends makes another one move, with all that its KV holds by now.
    for (const row of rows) row.length += 1;
    for (const [slot, row] of rows.entries())
      this.#lifecycle.advance(row, row.answer.next(logits, slot * vocabSize, vocabSize));
  }

  #prefill({ sequence, from, to }: PrefillStep): Promise<Float32Array> {
    if (sequence.state === 'ready') {
      sequence.become('prefill');
      sequence.startedAt = this.#clock.now();
      this.#slots.enter(sequence, sequence.delta);
    }
    return this.#runner.prefill({
      slot: this.#slots.prefilling!.slot,
      tokens: sequence.prompt.slice(from, to),
      past: from,
      positions: wantedPositions(sequence, from, to),
    });
  }

  async #prefilled({ sequence, from, to }: PrefillStep, logits: Float32Array): Promise<void> {
    const { vocabSize } = this.#runner;
    sequence.length = to;
    if (!(await scorePrompt({ sequence, from, to, logits, vocabSize, clock: this.#clock }))) {
      this.#lifecycle.advance(sequence, null);
      return;
    }
    if (to < sequence.prompt.length) return;
    if (sequence.promptScores !== null)
      sequence.events.push({ kind: 'prompt', tokens: sequence.promptScores });
    if (sequence.maxTokens === 0) {
      this.#lifecycle.finish(sequence, 'length');
      return;
    }
    const lastRow = wantedPositions(sequence, from, to).length - 1;
    const part = sequence.answer.next(logits, lastRow * vocabSize, vocabSize);
    if (part !== null && part.finish === null) {
      this.#slots.join();
      sequence.become('decode');
    }
    this.#lifecycle.advance(sequence, part);
  }

  /** Until something happens: a request, an abort, a loaded adapter, a deadline. */
  async #sleep(): Promise<void> {
    if (this.#closed) return;
    await this.#alarm.wait(Math.min(...[...this.#lifecycle.live].map((sequence) => sequence.deadline)));
  }

  /** Why `tenant` may not queue `rows` more sequences now. */
  #full(tenant: string, rows: number): ApiError | null {
    if (this.#closed) return shuttingDown();
    const alone = [...this.#lifecycle.live].every((sequence) => sequence.tenant === tenant);
    const refusal = this.#scheduler.refuse({ tenant, rows, alone });
    if (refusal === null) return null;
    return refusal === 'never' ? neverFits(rows) : queueFull(this.#scheduler.queued, refusal);
  }
}

const isSwap = (step: Step | Swap): step is Swap => step.kind === 'park' || step.kind === 'resume';
