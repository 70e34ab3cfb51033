import { type TokenBytes, Detokenizer, StopScanner, tokenEnds } from '../generation/answer-text.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import type { FinishReason, Usage } from '../../protocol/completion-answers.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { AdapterLease, RowStage } from './adapters/adapter-memory.ts';
import {
  noClassifier,
  onlyClassifies,
  timesOf,
  type EngineEvent,
  type EngineHandle,
  type EngineRequest,
  type Pooling,
  type ScoredToken,
} from './requests.ts';
import {
  type Clipped,
  type Clock,
  NONE_CLIPPED,
  type Outcome,
  type RowDelta,
  type RowGrammar,
} from './ports.ts';
import { Sampler, type SamplingParams } from '../generation/sampler.ts';

/**
 * waiting -> loading -> ready -> prefill -> decode -> finished. A request of the base model has nothing to
 * load; every state may end in aborted or failed. A preempted row later continues where it was.
 */
export type SequenceState =
  'waiting' | 'loading' | 'ready' | 'prefill' | 'decode' | 'preempted' | 'finished' | 'aborted' | 'failed';

const NEXT: Record<SequenceState, readonly SequenceState[]> = {
  waiting: ['loading', 'ready', 'finished', 'aborted', 'failed'],
  loading: ['ready', 'finished', 'aborted', 'failed'],
  ready: ['prefill', 'finished', 'aborted', 'failed'],
  prefill: ['decode', 'preempted', 'finished', 'aborted', 'failed'],
  decode: ['preempted', 'finished', 'aborted', 'failed'],
  preempted: ['decode', 'prefill', 'finished', 'aborted', 'failed'],
  finished: [],
  aborted: [],
  failed: [],
};

/**
 * Answer tokens for which memory is reserved when a row is admitted. Requests without a limit may use the rest
 * of the context, but hardly any does: reserving all of it, a base of 131,072 tokens would run one row at a
 * time.
 */
const LIKELY_ANSWER = 1_024;

/** Nothing but the base, from the first token on. */
const BASE_ALONE: readonly RowStage[] = [{ from: 0, key: '', delta: null }];

/** A request's life. Batches are views of sequences. */
export class Sequence {
  readonly request: EngineRequest;
  readonly maxTokens: number;
  readonly addedAt: number;
  /** On the engine's clock; Infinity = none. */
  readonly deadline: number;
  readonly answer: Answer;
  readonly events: EventChannel;
  /** The prompt's scores so far; null if not requested. */
  readonly promptScores: ScoredToken[] | null;
  /** What int8 cannot hold of the prompt so far; null if not requested. */
  clipped: Clipped | null;
  /** The prompt's hidden states so far; null when an answer is wanted. */
  readonly pooled: PooledStates | null;
  /** Held from `loading` to the end; null for the base model. */
  lease: AdapterLease | null = null;
  /** Tokens that the KV cache holds. */
  length = 0;
  /** Parts read of the chunk behind these. */
  partsRead = 0;
  /** Prompt tokens reused from an earlier prompt. */
  cached = 0;
  /** The logits of its next token, kept until its grammar's mask arrives; null = it waits for none. */
  keptLogits: Float32Array | null = null;
  /** It began to wait for adapters that were not in memory. */
  loadingAt: number | null = null;
  /** … and had them. */
  loadedAt: number | null = null;
  startedAt: number | null = null;
  firstTokenAt: number | null = null;
  lastTokenAt: number | null = null;
  /** Requests that overtook this one while it found no room: first for its adapters, then in the batch. */
  bypassed = 0;
  #state: SequenceState = 'waiting';
  #abortWanted = false;
  /** `length` when it last joined the batch, or started to decode. */
  #joinedAt = 0;

  constructor(params: {
    request: EngineRequest;
    maxTokens: number;
    addedAt: number;
    answer: Answer;
    /** Called when the request is to be aborted, once. */
    wake: () => void;
  }) {
    const { request } = params;
    this.request = request;
    this.maxTokens = params.maxTokens;
    this.addedAt = params.addedAt;
    this.deadline = request.budgetMs === null ? Infinity : params.addedAt + request.budgetMs;
    this.answer = params.answer;
    this.promptScores = request.promptLogprobs === null ? null : [];
    this.clipped = request.countsClipped === true ? NONE_CLIPPED : null;
    const pooling = request.classifies === true ? 'last' : request.pooling;
    this.pooled = pooling === undefined ? null : new PooledStates(pooling);
    this.#wake = params.wake;
    this.events = new EventChannel(() => this.abort());
    if (request.signal?.aborted === true) this.abort();
    else request.signal?.addEventListener('abort', this.abort, { once: true });
  }

  readonly #wake: () => void;

  get tenant(): string {
    return this.request.tenant;
  }

  get prompt(): readonly number[] {
    return this.request.prompt;
  }

  get chain(): readonly ChainEntry[] {
    return this.request.chain;
  }

  get state(): SequenceState {
    return this.#state;
  }

  get abortWanted(): boolean {
    return this.#abortWanted;
  }

  /** Tokens of the prompt that may activate adapters. */
  get activating(): readonly number[] {
    const { prompt, answerFrom = prompt.length } = this.request;
    return prompt.slice(0, answerFrom);
  }

  /** What acts on its tokens, once its adapters are loaded. */
  get stages(): readonly RowStage[] {
    const outcome = this.lease?.outcome;
    return outcome?.ok === true ? outcome.value : BASE_ALONE;
  }

  /** Of its answer, once its adapters are loaded; null where only the base acts. */
  get delta(): RowDelta | null {
    return this.stages.at(-1)?.delta ?? null;
  }

  /** No token is generated, scored or pooled: there is nothing to run. */
  get needsNoStep(): boolean {
    return this.maxTokens === 0 && this.promptScores === null && this.pooled === null;
  }

  /** Only its last prompt token's logits or state are needed: reused tokens need not be read. */
  get mayReuse(): boolean {
    return this.promptScores === null && this.pooled?.pooling !== 'mean' && this.clipped === null;
  }

  /** Whether it needs the hidden states of a chunk that ends before token `to`. */
  readsStates(to: number): boolean {
    return this.pooled !== null && (this.pooled.pooling === 'mean' || to === this.prompt.length);
  }

  /** Why its adapters, which are loaded, do not give what it asks for; null = they do. */
  get unfit(): ApiError | null {
    const { classifies, ignoresClassifier, pooling } = this.request;
    const head = this.lease?.classifier ?? null;
    if (classifies === true) return head === null ? noClassifier() : null;
    return head === null || ignoresClassifier === true || pooling !== undefined ? null : onlyClassifies();
  }

  /** It sits out steps until its grammar's mask arrives. */
  get late(): boolean {
    return this.keptLogits !== null && this.answer.grammar?.ready === false;
  }

  /** It waits for its turn. */
  get queued(): boolean {
    return ['waiting', 'loading', 'ready', 'preempted'].includes(this.#state);
  }

  /** It waits for nothing but its turn. */
  get runnable(): boolean {
    return this.#state === 'ready' || (this.#state === 'preempted' && !this.late);
  }

  /** It has a slot, in the batch or swapped out. */
  get held(): boolean {
    return ['prefill', 'decode', 'preempted'].includes(this.#state);
  }

  /** The KV cache has its whole prompt. */
  get promptRead(): boolean {
    return this.length >= this.prompt.length;
  }

  /** Tokens that it is likely to hold at its end. */
  get reckonedTokens(): number {
    return Math.max(this.length, this.prompt.length + Math.min(this.maxTokens, LIKELY_ANSWER));
  }

  /** Tokens added since it last joined the batch, or started to decode. */
  get ran(): number {
    return this.length - this.#joinedAt;
  }

  get usage(): Usage {
    const prompt = this.prompt.length;
    const completion = this.answer.ids.length;
    return {
      ...{ prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
      ...(this.cached > 0 ? { prompt_tokens_details: { cached_tokens: this.cached } } : {}),
    };
  }

  /** @throws Error for an illegal transition to `next`: a bug of the engine. */
  become(next: SequenceState): void {
    if (!NEXT[this.#state].includes(next)) throw new Error(`a ${this.#state} sequence cannot become ${next}`);
    this.#state = next;
    if (next === 'decode' || next === 'prefill') this.#joinedAt = this.length;
  }

  /** Takes effect before the next step. */
  readonly abort = (): void => {
    if (this.#abortWanted || this.ended) return;
    this.#abortWanted = true;
    this.#wake();
  };

  get ended(): boolean {
    return this.#state === 'finished' || this.#state === 'aborted' || this.#state === 'failed';
  }

  /** @param at ms on the engine's clock, as below. */
  finish(finishReason: FinishReason, at: number): void {
    this.#end({ state: 'finished', outcome: finishReason, error: null, at });
    const { stop, ids } = this.answer;
    this.events.push({
      ...{ kind: 'end', finishReason, usage: this.usage, tokenIds: ids },
      ...(stop === null ? {} : { stop }),
    });
  }

  endAborted(at: number): void {
    this.#end({ state: 'aborted', outcome: 'aborted', error: null, at });
    this.events.push({ kind: 'aborted', usage: this.usage });
  }

  fail(error: ApiError, at: number): void {
    this.#end({ state: 'failed', outcome: 'failed', error, at });
    this.events.push({ kind: 'error', error, usage: this.usage });
  }

  #end(params: {
    state: 'finished' | 'aborted' | 'failed';
    outcome: Outcome;
    error: ApiError | null;
    at: number;
  }): void {
    this.become(params.state);
    this.request.signal?.removeEventListener('abort', this.abort);
    this.lease?.release();
    this.lease = null;
    this.answer.grammar?.close();
    this.request.onEnd?.({
      promptTokens: Math.min(this.length, this.prompt.length),
      completionTokens: this.answer.ids.length,
      cachedTokens: this.cached,
      outcome: params.outcome,
      error: params.error,
      times: timesOf(this, params.at),
    });
  }
}

/** One of a request's answers, which waits. */
export function newSequence(params: {
  request: EngineRequest;
  /** This answer's own. */
  seed: number | null;
  maxTokens: number;
  tokens: TokenBytes;
  eos: ReadonlySet<number>;
  random: () => number;
  clock: Pick<Clock, 'now'>;
  /** Called when it is to be aborted, once. */
  wake: () => void;
}): Sequence {
  const { request, maxTokens, eos, tokens, random, wake } = params;
  const { prompt } = request;
  const sampling = { ...request.sampling, seed: params.seed };
  return new Sequence({
    request,
    maxTokens,
    addedAt: params.clock.now(),
    answer: new Answer({
      ...{ sampling, prompt, maxTokens, eos, tokens, random },
      grammar: request.grammar?.open() ?? null,
    }),
    wake,
  });
}

/** Options of what the caller gets. */
export const handleOf = ({ request, prompt, maxTokens, events, abort }: Sequence): EngineHandle => ({
  id: request.id,
  promptTokens: prompt.length,
  maxTokens,
  events,
  abort,
});

export interface AnswerPart {
  readonly text: string;
  readonly tokens: readonly ScoredToken[];
  readonly finish: FinishReason | null;
}

/** One growing answer: logits -> token -> characters -> visible text. */
export class Answer {
  /** Every generated token. */
  readonly ids: number[] = [];
  /** The stop string that ended it; null = something else did, or nothing yet. */
  stop: string | null = null;
  /** What constrains it; null = nothing. */
  readonly grammar: RowGrammar | null;
  readonly #sampling: SamplingParams;
  readonly #maxTokens: number;
  readonly #eos: ReadonlySet<number>;
  readonly #sampler: Sampler;
  readonly #detokenizer: Detokenizer;
  readonly #scanner: StopScanner;
  /** Tokens whose text is held back, with its position in the decoded text. */
  #held: { token: ScoredToken; start: number; end: number }[] = [];
  #decoded = 0;
  #shown = 0;

  /** @param params.prompt token ids, for repetition penalties. */
  constructor(params: {
    sampling: SamplingParams;
    prompt: readonly number[];
    maxTokens: number;
    eos: ReadonlySet<number>;
    tokens: TokenBytes;
    random: () => number;
    grammar: RowGrammar | null;
  }) {
    const { sampling, tokens } = params;
    this.grammar = params.grammar;
    this.#sampling = sampling;
    this.#maxTokens = params.maxTokens;
    this.#eos = params.eos;
    this.#sampler = new Sampler(withoutEnds(sampling, params.eos), params.random, params.prompt);
    this.#detokenizer = new Detokenizer(
      sampling.showSpecial ? { bytes: (id) => tokens.bytes(id), isSpecial: () => false } : tokens,
    );
    this.#scanner = new StopScanner(sampling.stop, sampling.includeStop);
  }

  /**
   * Samples the next token from this row's `[length]` logits. Its grammar's mask must be up to date.
   * @returns null when a logit is not finite.
   */
  next(logits: Float32Array, offset: number, length: number): AnswerPart | null {
    const sample = this.#sampler.sample(logits, offset, length, this.#mask());
    return sample === null ? null : this.take(sample);
  }

  /** Appends a sampled token, chosen here or elsewhere. */
  take(sample: ScoredToken): AnswerPart {
    const { grammar } = this;
    this.ids.push(sample.id);
    grammar?.accept(sample.id);
    const ends = tokenEnds({
      token: sample.id,
      generated: this.ids.length,
      maxTokens: this.#maxTokens,
      eos: this.#eos,
      // If a grammar allows only its end, the sampled end token ends the answer.
      ignoreEos: this.#sampling.ignoreEos && grammar === null,
      stopTokens: this.#sampling.stopTokens,
    });
    if (ends === 'stop') return this.#stopAt(sample);

    const piece = this.#detokenizer.push(sample.id);
    const start = this.#decoded;
    this.#decoded += piece.length;
    this.#held.push({ token: sample, start, end: this.#decoded });
    // Stop strings count from the first token on that may be the last.
    const early = this.ids.length <= this.#sampling.minTokens;
    const { text, stopped } = early ? { text: piece, stopped: null } : this.#scanner.push(piece);
    this.#shown += text.length;
    if (stopped !== null) {
      this.stop = stopped;
      const tokens = this.#held.filter((held) => held.start < this.#shown).map((held) => held.token);
      return { text, tokens, finish: 'stop' };
    }
    if (ends === 'length')
      return { text: text + this.#scanner.flush(), tokens: this.#release(Infinity), finish: 'length' };
    return { text, tokens: this.#release(this.#shown), finish: null };
  }

  /** It ended elsewhere, without a stop token here. @returns the text held back. */
  end(): Omit<AnswerPart, 'finish'> {
    return { text: this.#scanner.flush(), tokens: this.#release(Infinity) };
  }

  #mask(): Int32Array | null {
    if (this.grammar === null) return null;
    const { mask } = this.grammar;
    if (this.#sampling.ignoreEos) leaveEnds(mask, this.#eos);
    return mask;
  }

  /** The token ends the answer, and is part of it only if requested. */
  #stopAt(token: ScoredToken): AnswerPart {
    const wanted = this.#sampling.includeStop && this.#sampling.stopTokens.includes(token.id);
    const piece = wanted ? this.#detokenizer.push(token.id) : '';
    const text = this.#scanner.flush() + piece;
    const tokens = this.#release(Infinity);
    return { text, tokens: piece === '' ? tokens : [...tokens, token], finish: 'stop' };
  }

  /** Tokens whose text ends at `shown` or before. */
  #release(shown: number): ScoredToken[] {
    let count = 0;
    while (count < this.#held.length && this.#held[count]!.end <= shown) count += 1;
    return this.#held.splice(0, count).map((held) => held.token);
  }
}

/** Removes end tokens from a mask that allows other tokens too. */
function leaveEnds(mask: Int32Array, ends: ReadonlySet<number>): void {
  const only = mask.every((word, at) => {
    let rest = word;
    for (const id of ends) if (id >> 5 === at) rest &= ~(1 << (id & 31));
    return rest === 0;
  });
  if (only) return;
  for (const id of ends) mask[id >> 5]! &= ~(1 << (id & 31));
}

/** Prevents end tokens before the answer's minimum length. */
function withoutEnds(sampling: SamplingParams, eos: ReadonlySet<number>): SamplingParams {
  const { minTokens, adjustments, ignoreEos, stopTokens } = sampling;
  if (minTokens === 0) return sampling;
  const ends = [...(ignoreEos ? [] : eos), ...stopTokens];
  const none = { bias: [], repetition: 1, frequency: 0, presence: 0 };
  return { ...sampling, adjustments: { ...(adjustments ?? none), later: { ids: ends, after: minTokens } } };
}

/**
 * Events that the reader may leave unread. An event is about 250 bytes on the wire, so this is 256 KB in
 * addition to socket buffers: a reader further behind does not read at all.
 */
export const MAX_UNREAD_EVENTS = 1_024;

/** From the engine to one reader. Pushing never waits, so a slow reader cannot hold up the batch. */
export class EventChannel implements AsyncIterable<EngineEvent> {
  readonly #leave: () => void;
  #unread: EngineEvent[] = [];
  #read = 0;
  #closed = false;
  #wanted: ((result: IteratorResult<EngineEvent>) => void) | null = null;

  /** @param leave called when the reader leaves before the end. */
  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** @returns false when the reader is too far behind; the event is kept all the same. */
  push(event: EngineEvent): boolean {
    if (this.#closed) return true;
    if (event.kind === 'end' || event.kind === 'error' || event.kind === 'aborted') this.#closed = true;
    if (this.#wanted !== null) {
      const wanted = this.#wanted;
      this.#wanted = null;
      wanted({ done: false, value: event });
      return true;
    }
    this.#unread.push(event);
    return this.#unread.length - this.#read <= MAX_UNREAD_EVENTS;
  }

  [Symbol.asyncIterator](): AsyncIterator<EngineEvent, undefined> {
    const done = { done: true as const, value: undefined };
    return {
      next: async () => {
        if (this.#read < this.#unread.length) return { done: false, value: this.#take() };
        if (this.#closed) return done;
        if (this.#wanted !== null) throw new Error('an event channel has one reader');
        return new Promise((resolve) => {
          this.#wanted = resolve;
        });
      },
      return: async () => {
        if (!this.#closed) this.#leave();
        this.#closed = true;
        this.#unread = [];
        this.#read = 0;
        return done;
      },
    };
  }

  #take(): EngineEvent {
    const event = this.#unread[this.#read]!;
    this.#read += 1;
    if (this.#read === this.#unread.length) {
      this.#unread = [];
      this.#read = 0;
    }
    return event;
  }
}

/** A prompt's hidden states pooled into one vector, chunk by chunk. */
export class PooledStates {
  readonly pooling: Pooling;
  #sum: Float64Array | null = null;
  #count = 0;

  constructor(pooling: Pooling) {
    this.pooling = pooling;
  }

  /** @param states `[tokens, size]` of the prompt's next tokens. @returns false when one is not finite. */
  add(states: Float32Array, size: number): boolean {
    if (!states.every(Number.isFinite)) return false;
    if (this.pooling === 'last') {
      this.#sum = Float64Array.from(states.subarray(states.length - size));
      this.#count = 1;
      return true;
    }
    const sum = (this.#sum ??= new Float64Array(size));
    for (let at = 0; at < states.length; at += 1) sum[at % size]! += states[at]!;
    this.#count += states.length / size;
    return true;
  }

  /** `[size]` */
  value(): Float64Array {
    return Float64Array.from(this.#sum ?? [], (value) => value / this.#count);
  }
}
