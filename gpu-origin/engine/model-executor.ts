import { rankOf, scoreToken } from '../generation/sampler.ts';
import { MODEL_FAILED, rowFault, NOT_FINITE } from './requests.ts';
import type { KvSlots, PrefixCache } from './kv-cache-manager.ts';
import type { PooledStates, AnswerPart, Sequence } from './sequence.ts';
import {
  type ClassifierHead,
  type Clock,
  type DecodeRows,
  type GrammarMasks,
  type MaskUpdate,
  type ModelRunner,
  type EngineObserver,
  NONE_CLIPPED,
  type Outcome,
} from './ports.ts';
import type { PrefillStep, Step, Scheduler } from './scheduler.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import type { FinishReason } from '../../protocol/completion-answers.ts';
import type { AdapterCache } from './adapters/adapter-cache.ts';

/** A row of 49,152 logits takes half a millisecond: other work waits at most 8 ms. */
const ROWS_BETWEEN_YIELDS = 16;

/**
 * How long a step waits for missing masks after the model has run, ms: less than a step takes, and more than
 * most masks take on a busy machine. A row with a later mask sits out steps until it arrives.
 */
const MASK_GRACE_MS = 5;

export interface StepReport {
  /** `mixed`: a chunk was read, and rows decoded in the same run. */
  readonly kind: Step['kind'] | 'mixed';
  /** Rows that decode, including those that sit it out; 1 if none does. */
  readonly batch: number;
  /** Tokens fed. */
  readonly tokens: number;
  /** From its beginning to its postprocessing. */
  readonly ms: number;
}

/** Runs one step of the model and applies its results to the rows. */
export class ModelExecutor {
  readonly #runner: ModelRunner;
  readonly #slots: KvSlots<Sequence>;
  readonly #lifecycle: SequenceLifecycle;
  readonly #clock: Clock;
  readonly #masks: GrammarMasks;
  readonly #prefixes: PrefixCache;
  readonly #wake: () => void;

  constructor(params: {
    runner: ModelRunner;
    slots: KvSlots<Sequence>;
    lifecycle: SequenceLifecycle;
    clock: Clock;
    masks: GrammarMasks;
    prefixes: PrefixCache;
    /** Called when masks arrive: a row may have waited for them. */
    wake: () => void;
  }) {
    this.#wake = params.wake;
    this.#prefixes = params.prefixes;
    this.#masks = params.masks;
    this.#runner = params.runner;
    this.#slots = params.slots;
    this.#lifecycle = params.lifecycle;
    this.#clock = params.clock;
  }

  /** An error of the runner ends only the step's rows. */
  async run(step: Step): Promise<StepReport> {
    const startedAt = this.#clock.now();
    const decoding = [...(step.kind === 'decode' ? step.rows : (step.beside ?? []))];
    const rows = step.kind === 'decode' ? decoding : [...decoding, step.sequence];
    const decoded = decoding.filter(({ keptLogits }) => keptLogits === null).length;
    try {
      // Masks depend on earlier tokens only, so they are computed while the model runs.
      const masks = this.#updateMasks(step, decoding);
      const output = step.kind === 'decode' ? await this.#decode(decoding) : await this.#prefill(step);
      await this.#grace(masks);
      const read = output.length - decoding.length * this.#runner.vocabSize;
      if (decoding.length > 0) this.#decoded(decoding, output.subarray(read));
      if (step.kind === 'prefill') await this.#readTo(step, output.subarray(0, read));
    } catch (error) {
      this.#lifecycle.fault('step', error, rows);
      // From the last slot down, so that none of them is moved first.
      for (const row of [...rows].reverse())
        if (!row.ended) this.#lifecycle.fail(row, rowFault(MODEL_FAILED));
    }
    const kind = step.kind === 'prefill' && decoding.length > 0 ? 'mixed' : step.kind;
    const tokens = decoded + (step.kind === 'decode' ? 0 : this.#tokensRead(step));
    const batch = kind === 'prefill' ? 1 : decoding.length;
    return { kind, batch, tokens, ms: this.#clock.now() - startedAt };
  }

  /** @param output of the row whose chunk, or some parts of it, was read. */
  async #readTo(step: PrefillStep, output: Float32Array): Promise<void> {
    if (step.parts.to < this.#runner.parts) step.sequence.partsRead = step.parts.to;
    else await this.#prefilled(step, output);
  }

  /** Rows whose masks have arrived take their token and run again. Between two steps. */
  goOn(): void {
    for (const row of [...this.#slots.rows]) {
      const { keptLogits } = row;
      if (keptLogits === null || row.late) continue;
      row.keptLogits = null;
      try {
        this.#choose(row, keptLogits, 0);
      } catch (error) {
        this.#lifecycle.fault('step', error, [row]);
        if (!row.ended) this.#lifecycle.fail(row, rowFault(MODEL_FAILED));
      }
    }
  }

  /** A chunk's tokens count with its last part. */
  #tokensRead({ from, to, parts }: PrefillStep): number {
    return parts.to < this.#runner.parts ? 0 : to - from;
  }

  #decode(rows: readonly Sequence[]): Promise<Float32Array> {
    return this.#runner.decode(fed(rows));
  }

  #decoded(rows: readonly Sequence[], logits: Float32Array): void {
    const { vocabSize } = this.#runner;
    const ran = rows.map((row) => row.keptLogits === null);
    // All of them first: a row that ends moves another one, along with its KV.
    for (const [slot, row] of rows.entries()) if (ran[slot] === true) row.length += 1;
    for (const [slot, row] of rows.entries())
      if (ran[slot] === true) this.#choose(row, logits, slot * vocabSize);
      else this.#lifecycle.satOut(row);
  }

  /** The row's next token; without a mask, its logits are kept for later. */
  #choose(row: Sequence, logits: Float32Array, offset: number): void {
    const { vocabSize } = this.#runner;
    const { grammar } = row.answer;
    if (grammar?.ready === false) row.keptLogits = logits.slice(offset, offset + vocabSize);
    else if (grammar !== null && grammar.failure !== null) this.#lifecycle.fail(row, grammar.failure);
    else this.#lifecycle.advance(row, row.answer.next(logits, offset, vocabSize));
  }

  /** Of the rows that get a token. */
  #updateMasks(step: Step, decoding: readonly Sequence[]): readonly MaskUpdate[] {
    const last =
      step.kind === 'prefill' &&
      step.parts.to === this.#runner.parts &&
      step.to === step.sequence.prompt.length;
    const held = [...decoding, ...(last ? [step.sequence] : [])].flatMap((row) =>
      row.keptLogits === null ? (row.answer.grammar ?? []) : [],
    );
    if (held.length === 0) return [];
    const updates = this.#masks.update(held);
    for (const { done } of updates) void done.then(this.#wake);
    return updates;
  }

  /** Waits a short time for masks that do not take long. */
  async #grace(updates: readonly MaskUpdate[]): Promise<void> {
    const soon = updates.filter(({ slow }) => !slow);
    if (soon.length === 0) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.timer(MASK_GRACE_MS, resolve);
      void Promise.all(soon.map(({ done }) => done)).then(() => {
        cancel();
        resolve();
      });
    });
  }

  #prefill({ sequence, from, to, parts, beside }: PrefillStep): Promise<Float32Array> {
    if (sequence.state === 'ready') {
      sequence.become('prefill');
      sequence.startedAt = this.#clock.now();
      sequence.request.onBegin?.();
      this.#slots.enter(sequence, sequence.stages[0]?.delta ?? null);
      if (from > 0) this.#reuse(sequence, from);
    }
    if (parts.from === 0) this.#act(sequence, from);
    const chunk = {
      slot: this.#slots.prefilling!.slot,
      tokens: sequence.prompt.slice(from, to),
      past: from,
      parts,
    };
    if (sequence.readsStates(to)) return this.#runner.hiddenStates(chunk);
    return this.#runner.prefill({
      ...{ ...chunk, positions: wantedPositions(sequence, from, to) },
      ...(beside === undefined ? {} : { beside: fed(beside) }),
    });
  }

  /** The row gets its prompt's first `tokens` from kept chunks. */
  #reuse(sequence: Sequence, tokens: number): void {
    const { slot } = this.#slots.prefilling!;
    for (const { from, to, block } of this.#prefixes.use(sequence)) {
      this.#act(sequence, from);
      this.#runner.reuse({ slot, at: from, block, tokens: to - from });
    }
    sequence.length = tokens;
    sequence.cached = tokens;
  }

  /** The row gets another delta, if one begins to act at this token. */
  #act({ stages }: Sequence, at: number): void {
    const stage = at === 0 ? undefined : stages.find(({ from }) => from === at);
    if (stage !== undefined) this.#runner.changeDelta(this.#slots.prefilling!.slot, stage.delta);
  }

  /** Stores a chunk that was read, for prompts with the same beginning. */
  #keep({ sequence, from, to }: PrefillStep): void {
    const block = this.#prefixes.add(sequence, to);
    const { slot } = this.#slots.prefilling!;
    if (block !== null) this.#runner.keep({ slot, at: from, block, tokens: to - from });
  }

  #countClipped(sequence: Sequence): void {
    if (sequence.clipped === null) return;
    const chunk = this.#runner.clipped?.(this.#slots.prefilling!.slot) ?? NONE_CLIPPED;
    const { clipped, values, lost } = sequence.clipped;
    sequence.clipped = {
      clipped: clipped + chunk.clipped,
      values: values + chunk.values,
      lost: lost + chunk.lost,
    };
  }

  /** @param output logits of the requested positions; hidden states where the sequence reads them. */
  async #prefilled(step: PrefillStep, output: Float32Array): Promise<void> {
    const { sequence, to } = step;
    sequence.length = to;
    sequence.partsRead = 0;
    // What is kept is rounded first.
    this.#countClipped(sequence);
    this.#keep(step);
    if (sequence.pooled !== null)
      this.#pool(sequence, sequence.pooled, sequence.readsStates(to) ? output : null);
    else await this.#read(step, output);
  }

  /** @param states of a chunk; null = they were not needed. */
  #pool(sequence: Sequence, pooled: PooledStates, states: Float32Array | null): void {
    if (states !== null && !pooled.add(states, this.#runner.hiddenSize)) {
      this.#lifecycle.advance(sequence, null);
      return;
    }
    if (!sequence.promptRead) return;
    const values = pooled.value();
    if (sequence.request.classifies !== true) sequence.events.push({ kind: 'embedding', values });
    else if (!this.#classify(sequence, values)) {
      this.#lifecycle.advance(sequence, null);
      return;
    }
    this.#lifecycle.finish(sequence, 'stop');
  }

  /** @returns false when a score is not finite. */
  #classify(sequence: Sequence, state: Float64Array): boolean {
    const head = sequence.lease?.classifier ?? null;
    if (head === null) throw new Error('a sequence without a classification head is to be classified');
    const scores = classScores(head, state);
    if (!scores.every(Number.isFinite)) return false;
    sequence.events.push({ kind: 'classes', scores, head });
    return true;
  }

  async #read({ sequence, from, to }: PrefillStep, logits: Float32Array): Promise<void> {
    const { vocabSize } = this.#runner;
    if (!(await scorePrompt({ sequence, from, to, logits, vocabSize, clock: this.#clock }))) {
      this.#lifecycle.advance(sequence, null);
      return;
    }
    if (to < sequence.prompt.length) return;
    if (sequence.promptScores !== null)
      sequence.events.push({ kind: 'prompt', tokens: sequence.promptScores });
    if (sequence.clipped !== null) sequence.events.push({ kind: 'clipped', ...sequence.clipped });
    if (sequence.maxTokens === 0) {
      this.#lifecycle.finish(sequence, 'length');
      return;
    }
    const { grammar } = sequence.answer;
    const last = (wantedPositions(sequence, from, to).length - 1) * vocabSize;
    if (grammar !== null && grammar.failure !== null) {
      this.#lifecycle.fail(sequence, grammar.failure);
      return;
    }
    if (grammar?.ready === false) {
      this.#slots.join();
      sequence.become('decode');
      this.#choose(sequence, logits, last);
      return;
    }
    const part = sequence.answer.next(logits, last, vocabSize);
    if (part !== null && part.finish === null) {
      this.#slots.join();
      sequence.become('decode');
    }
    this.#lifecycle.advance(sequence, part);
  }
}

/** The product of a head and a hidden state, summed in float64 and rounded once: `[classes]`. */
export function classScores({ weight }: Pick<ClassifierHead, 'weight'>, state: Float64Array): Float32Array {
  const width = state.length;
  return Float32Array.from({ length: weight.length / width }, (_, at) => {
    let sum = 0;
    for (let i = 0, from = at * width; i < width; i += 1) sum += weight[from + i]! * state[i]!;
    return sum;
  });
}

/** What the rows of a step are fed. */
const fed = (rows: readonly Sequence[]): DecodeRows => ({
  tokens: rows.map((row) => (row.keptLogits === null ? row.answer.ids.at(-1)! : null)),
  lengths: rows.map((row) => row.length),
});

/** Positions of the chunk `from` … `to`-1 whose logits this sequence needs, counted from `from`. */
export function wantedPositions(
  sequence: Pick<Sequence, 'prompt' | 'maxTokens' | 'promptScores'>,
  from: number,
  to: number,
): number[] {
  const { prompt, maxTokens } = sequence;
  const last = maxTokens > 0 ? prompt.length - 1 : prompt.length - 2;
  const first = sequence.promptScores === null ? prompt.length - 1 : from;
  const positions: number[] = [];
  for (let at = Math.max(first, from); at <= Math.min(last, to - 1); at += 1) positions.push(at - from);
  return positions;
}

/**
 * Scores the prompt tokens that the chunk `from` … `to`-1 predicts. Row j of `logits` belongs to position from + j.
 * @returns false when a row is not finite.
 */
async function scorePrompt(params: {
  sequence: Sequence;
  from: number;
  to: number;
  logits: Float32Array;
  vocabSize: number;
  clock: Clock;
}): Promise<boolean> {
  const { sequence, from, to, logits, vocabSize, clock } = params;
  const scores = sequence.promptScores;
  const count = sequence.request.promptLogprobs;
  if (scores === null || count === null) return true;
  const ranks = sequence.request.promptRanks === true;
  if (from === 0) scores.push({ id: sequence.prompt[0]!, logprob: null, top: [] });
  for (let row = 0; row < to - from; row += 1) {
    const id = sequence.prompt[from + row + 1];
    if (id === undefined) break;
    const score = scoreToken({ logits, offset: row * vocabSize, length: vocabSize, id, count });
    if (score === null) return false;
    scores.push(ranks ? { ...score, rank: rankOf(logits, row * vocabSize, vocabSize, id) } : score);
    if ((row + 1) % ROWS_BETWEEN_YIELDS === 0) await clock.yield();
  }
  return true;
}

/**
 * Adapters are held for this many times the slots in addition to running rows: enough that a freed slot finds a
 * ready request.
 */
const LOOK_AHEAD = 2;

/**
 * Gives sequences their adapters, and ends them: the only place that releases their slot, adapters and queue
 * position.
 */
export class SequenceLifecycle {
  /** Everything that has not ended. */
  readonly live = new Set<Sequence>();
  readonly #scheduler: Scheduler;
  readonly #slots: KvSlots<Sequence>;
  readonly #clock: Clock;
  readonly #observer: EngineObserver;
  readonly #wake: () => void;

  constructor(params: {
    scheduler: Scheduler;
    slots: KvSlots<Sequence>;
    clock: Clock;
    observer: EngineObserver;
    /** Called after each end: someone may have waited for its slot or its adapters' memory. */
    wake: () => void;
  }) {
    this.#scheduler = params.scheduler;
    this.#slots = params.slots;
    this.#clock = params.clock;
    this.#observer = params.observer;
    this.#wake = params.wake;
  }

  add(sequence: Sequence): void {
    this.live.add(sequence);
    this.#scheduler.add(sequence);
  }

  /**
   * Lets queued sequences acquire adapters, in the order of service. Only the front of the queue does, so that
   * a long queue does not fill the memory; one tenant has at most half of these places. A sequence that finds
   * no room is overtaken by those with loaded adapters, but only so often that its turn comes.
   * @param slots of the batch.
   */
  lease(adapters: AdapterCache, slots: number): void {
    const queue = [...this.#scheduler.queue()];
    const places = new Map<string, number>();
    let taken = 0;
    const take = (tenant: string): void => {
      taken += 1;
      places.set(tenant, (places.get(tenant) ?? 0) + 1);
    };
    // A preempted row holds its adapters like a running one.
    for (const sequence of queue)
      if (sequence.lease !== null && sequence.state !== 'preempted') take(sequence.tenant);

    let blocked: Sequence | null = null;
    for (const sequence of queue) {
      if (sequence.state !== 'waiting') continue;
      if (sequence.chain.length === 0) {
        sequence.become('ready');
        continue;
      }
      if (blocked !== null && blocked.bypassed >= LOOK_AHEAD * slots) continue;
      if (taken >= LOOK_AHEAD * slots || (places.get(sequence.tenant) ?? 0) >= slots) continue;
      const { chain, activating } = sequence;
      const cold = !adapters.holds(chain);
      const lease = adapters.acquire({ chain, prompt: activating, mayLoad: blocked === null });
      if (lease === null) {
        blocked ??= sequence;
        continue;
      }
      if (blocked !== null) blocked.bypassed += 1;
      take(sequence.tenant);
      sequence.lease = lease;
      // Counted from zero: it may also find no memory in the batch.
      sequence.bypassed = 0;
      if (cold) sequence.loadingAt = this.#clock.now();
      sequence.become('loading');
    }
  }

  /** One more token of an answer. @param part null: its logits are not finite. */
  advance(sequence: Sequence, part: AnswerPart | null): void {
    if (part === null) {
      this.fault('logits', new Error('logits that are not finite'), [sequence]);
      this.fail(sequence, rowFault(NOT_FINITE));
      return;
    }
    const { tenant } = sequence;
    const now = this.#clock.now();
    if (sequence.lastTokenAt === null) {
      sequence.firstTokenAt = now;
      this.#observer.onFirstToken?.({ tenant, ms: now - sequence.addedAt });
    } else this.#observer.onToken?.({ tenant, ms: now - sequence.lastTokenAt });
    sequence.lastTokenAt = now;
    this.#scheduler.generated(tenant, 1);
    const { text, tokens, finish } = part;
    const shown = text.length > 0 || tokens.length > 0;
    if (shown && !sequence.events.push({ kind: 'tokens', text, tokens })) sequence.abort();
    if (finish !== null) this.finish(sequence, finish);
  }

  /** A row that is late within a step: the step costs the same. */
  satOut(sequence: Sequence): void {
    this.#scheduler.generated(sequence.tenant, 1);
  }

  /** A row is preempted for another tenant's, and keeps all its state. */
  preempt(sequence: Sequence): void {
    this.#swap(sequence, () => {
      this.#slots.swapOut(sequence);
      sequence.become('preempted');
      this.#scheduler.preempt(sequence);
      this.#observer.onPreempt?.({ tenant: sequence.tenant });
    });
  }

  /** Its turn has come again. */
  resume(sequence: Sequence): void {
    this.#swap(sequence, () => {
      const state = sequence.promptRead ? 'decode' : 'prefill';
      this.#slots.swapIn(sequence, state);
      this.#scheduler.drop(sequence);
      sequence.become(state);
    });
  }

  #swap(sequence: Sequence, swap: () => void): void {
    try {
      swap();
    } catch (error) {
      this.fault('swap', error, [sequence]);
      this.fail(sequence, rowFault(MODEL_FAILED));
    }
  }

  finish(sequence: Sequence, reason: FinishReason): void {
    this.#end(sequence, reason, null, (at) => sequence.finish(reason, at));
  }

  abort(sequence: Sequence): void {
    this.#end(sequence, 'aborted', null, (at) => sequence.endAborted(at));
  }

  fail(sequence: Sequence, error: ApiError): void {
    this.#end(sequence, 'failed', error, (at) => sequence.fail(error, at));
  }

  #end(sequence: Sequence, outcome: Outcome, error: ApiError | null, end: (at: number) => void): void {
    const now = this.#clock.now();
    if (sequence.queued) this.#scheduler.drop(sequence);
    if (sequence.held) {
      try {
        this.#slots.leave(sequence);
      } catch (fault) {
        this.fault('release', fault, [sequence]);
      }
      this.#scheduler.rowEnded(now);
    }
    end(now);
    this.live.delete(sequence);
    this.#wake();
    this.#observer.onFinish?.({
      id: sequence.request.id,
      traceId: sequence.request.parent?.traceId,
      tenant: sequence.tenant,
      outcome,
      error,
      promptTokens: sequence.usage.prompt_tokens,
      completionTokens: sequence.usage.completion_tokens,
      cachedTokens: sequence.cached,
      ms: now - sequence.addedAt,
      queuedMs: sequence.startedAt === null ? null : sequence.startedAt - sequence.addedAt,
    });
  }

  fault(where: string, error: unknown, rows: readonly Sequence[]): void {
    this.#observer.onFault?.({ where, error, requestIds: rows.map((row) => row.request.id) });
  }
}
