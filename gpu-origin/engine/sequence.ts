import type { TokenBytes } from '../generation/answer-text.ts';
import type { ApiError, ChainEntry, FinishReason, Usage } from '../../protocol/index.ts';
import type { AdapterLease } from './adapters/adapter-entry.ts';
import { Answer, EventChannel, PooledStates } from './answer.ts';
import type { EngineHandle, EngineRequest, ScoredToken } from './requests.ts';
import type { Clock, RowDelta } from './ports.ts';

/**
 * waiting -> loading -> ready -> prefill -> decode -> finished. A request of the base model has nothing to load; every
 * state may end in aborted or failed. A row that makes room for another tenant's is parked, and goes on where it was later.
 */
export type SequenceState =
  'waiting' | 'loading' | 'ready' | 'prefill' | 'decode' | 'parked' | 'finished' | 'aborted' | 'failed';

const NEXT: Record<SequenceState, readonly SequenceState[]> = {
  waiting: ['loading', 'ready', 'finished', 'aborted', 'failed'],
  loading: ['ready', 'finished', 'aborted', 'failed'],
  ready: ['prefill', 'finished', 'aborted', 'failed'],
  prefill: ['decode', 'parked', 'finished', 'aborted', 'failed'],
  decode: ['parked', 'finished', 'aborted', 'failed'],
  parked: ['decode', 'prefill', 'finished', 'aborted', 'failed'],
  finished: [],
  aborted: [],
  failed: [],
};

/**
 * Tokens of an answer that memory is kept for when its row is let in. Requests without a limit may have the rest of the
 * context, and hardly any does: were all of it kept, a base of 131,072 tokens would run one row at a time.
 */
const LIKELY_ANSWER = 1_024;

/** A request's life. Batches are views of sequences. */
export class Sequence {
  readonly request: EngineRequest;
  readonly chainId: string;
  readonly maxTokens: number;
  readonly addedAt: number;
  /** On the engine's clock; Infinity = none. */
  readonly deadline: number;
  readonly answer: Answer;
  readonly events: EventChannel;
  /** The prompt's scores so far; null when none were asked for. */
  readonly promptScores: ScoredToken[] | null;
  /** The prompt's hidden states so far; null when an answer is wanted. */
  readonly pooled: PooledStates | null;
  /** Held from `loading` to the end; null for the base model. */
  lease: AdapterLease | null = null;
  /** Tokens that the KV cache holds. */
  length = 0;
  /** Parts that were read of the chunk behind these. */
  partsRead = 0;
  /** Tokens of the prompt that were kept from an earlier one. */
  cached = 0;
  /** The logits of its next token, kept until its grammar's mask is there; null = it waits for none. */
  keptLogits: Float32Array | null = null;
  startedAt: number | null = null;
  lastTokenAt: number | null = null;
  /** Requests that went before this one while it found no room: for its adapters first, in the batch then. */
  bypassed = 0;
  #state: SequenceState = 'waiting';
  #abortWanted = false;
  /** `length` when it joined the batch, the last time, or began to decode. */
  #joinedAt = 0;

  constructor(params: {
    request: EngineRequest;
    chainId: string;
    maxTokens: number;
    addedAt: number;
    answer: Answer;
    /** Called when the request is to be aborted, once. */
    wake: () => void;
  }) {
    const { request } = params;
    this.request = request;
    this.chainId = params.chainId;
    this.maxTokens = params.maxTokens;
    this.addedAt = params.addedAt;
    this.deadline = request.budgetMs === null ? Infinity : params.addedAt + request.budgetMs;
    this.answer = params.answer;
    this.promptScores = request.promptLogprobs === null ? null : [];
    this.pooled = request.pooling === undefined ? null : new PooledStates(request.pooling);
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

  /** What its row adds to the base's output, once its adapters are there; null for the base model. */
  get delta(): RowDelta | null {
    const outcome = this.lease?.outcome;
    return outcome?.ok === true ? outcome.value : null;
  }

  /** No token is generated, scored or pooled: there is nothing to run. */
  get needsNoStep(): boolean {
    return this.maxTokens === 0 && this.promptScores === null && this.pooled === null;
  }

  /** Only its last token's logits are wanted of its prompt: what was kept of it need not be read. */
  get mayReuse(): boolean {
    return this.promptScores === null && this.pooled === null;
  }

  /** It sits steps out until its grammar's mask is there. */
  get late(): boolean {
    return this.keptLogits !== null && this.answer.grammar?.ready === false;
  }

  /** It waits for its turn. */
  get queued(): boolean {
    return ['waiting', 'loading', 'ready', 'parked'].includes(this.#state);
  }

  /** It waits for nothing but its turn. */
  get runnable(): boolean {
    return this.#state === 'ready' || (this.#state === 'parked' && !this.late);
  }

  /** It has a slot, in the batch or behind it. */
  get held(): boolean {
    return ['prefill', 'decode', 'parked'].includes(this.#state);
  }

  /** The KV cache has its whole prompt. */
  get promptRead(): boolean {
    return this.length >= this.prompt.length;
  }

  /** Tokens that it is likely to hold at its end. */
  get reckonedTokens(): number {
    return Math.max(this.length, this.prompt.length + Math.min(this.maxTokens, LIKELY_ANSWER));
  }

  /** Tokens that were added since it joined the batch, the last time, or began to decode. */
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

  /** @throws Error when a request does not go from its state to `next`: a bug of the engine. */
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

  finish(finishReason: FinishReason): void {
    this.#end('finished');
    const { stop, ids } = this.answer;
    this.events.push({
      ...{ kind: 'end', finishReason, usage: this.usage, tokenIds: ids },
      ...(stop === null ? {} : { stop }),
    });
  }

  endAborted(): void {
    this.#end('aborted');
    this.events.push({ kind: 'aborted', usage: this.usage });
  }

  fail(error: ApiError): void {
    this.#end('failed');
    this.events.push({ kind: 'error', error, usage: this.usage });
  }

  #end(state: 'finished' | 'aborted' | 'failed'): void {
    this.become(state);
    this.request.signal?.removeEventListener('abort', this.abort);
    this.lease?.release();
    this.lease = null;
    this.answer.grammar?.close();
    this.request.onEnd?.({
      promptTokens: Math.min(this.length, this.prompt.length),
      completionTokens: this.answer.ids.length,
    });
  }
}

/** One of a request's answers, which waits. */
export function newSequence(params: {
  request: EngineRequest;
  /** This answer's own. */
  seed: number | null;
  maxTokens: number;
  chainId: string;
  tokens: TokenBytes;
  eos: ReadonlySet<number>;
  random: () => number;
  clock: Pick<Clock, 'now'>;
  /** Called when it is to be aborted, once. */
  wake: () => void;
}): Sequence {
  const { request, maxTokens, chainId, eos, tokens, random, wake } = params;
  const { prompt } = request;
  const sampling = { ...request.sampling, seed: params.seed };
  return new Sequence({
    request,
    chainId,
    maxTokens,
    addedAt: params.clock.now(),
    answer: new Answer({
      ...{ sampling, prompt, maxTokens, eos, tokens, random },
      grammar: request.grammar?.open() ?? null,
    }),
    wake,
  });
}

/** What the caller gets of it. */
export const handleOf = ({ request, prompt, maxTokens, events, abort }: Sequence): EngineHandle => ({
  id: request.id,
  promptTokens: prompt.length,
  maxTokens,
  events,
  abort,
});
