/** The engine's interface: a request in, events out, or why it is refused. */
import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { FinishReason, Usage } from '../../protocol/completion-answers.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { ResidentList } from '../../protocol/origin-wire.ts';
import type { Traceparent } from '../../protocol/trace-context.ts';
import type { SamplingParams } from '../generation/sampler.ts';
import type { ClassifierHead, Clipped, Grammar, Outcome } from './ports.ts';

export interface EngineRequest {
  /** For logs and the observer; need not be unique. */
  readonly id: string;
  /** Its trace, for logs and for an engine that runs elsewhere; absent = none. */
  readonly parent?: Traceparent | null;
  /** Its span here, under which an engine that runs elsewhere works; absent = none is recorded. */
  readonly span?: Traceparent | null;
  /** Tenant that the work is accounted to. */
  readonly tenant: string;
  /** Token ids, at least one. */
  readonly prompt: readonly number[];
  /** Tokens of the prompt from here on are an answer, whose tokens activate no adapter; absent = none are. */
  readonly answerFrom?: number;
  /** Root first; empty = the base model. */
  readonly chain: readonly ChainEntry[];
  readonly sampling: SamplingParams;
  /** Log-probability of every prompt token, and this many alternatives (`echo` with `logprobs`); null = none. */
  readonly promptLogprobs: number | null;
  /** Whether to return the rank of each of them. */
  readonly promptRanks?: boolean;
  /** Whether to count the prompt's keys and values that the runner's format cannot hold; it is then read whole. */
  readonly countsClipped?: boolean;
  /**
   * Generates no answer: the prompt's hidden states are pooled into one vector, by their mean or the last one.
   */
  readonly pooling?: Pooling;
  /**
   * Generates no answer: the classification head of its chain reads the hidden state of the prompt's last token.
   */
  readonly classifies?: true;
  /** Its chain may have a classification head, which has no effect: for trials. Otherwise it then generates no text. */
  readonly ignoresClassifier?: true;
  /** What constrains its answers; absent = nothing. The caller releases it once the request is added. */
  readonly grammar?: Grammar | null;
  /** Time left, ms; null = no deadline. */
  readonly budgetMs: number | null;
  /** Aborting it frees the row at the next step. */
  readonly signal?: AbortSignal;
  /** Called when a row starts reading the prompt, for each answer; never if nothing has to be run. */
  readonly onBegin?: () => void;
  /** Called at the end of each answer, however it ends. */
  readonly onEnd?: (ran: AnswerEnd) => void;
}

/** What one answer has used: tokens that the model has actually processed for it, and times. */
export interface AnswerEnd {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens reused from an earlier prompt. */
  readonly cachedTokens: number;
  readonly outcome: Outcome;
  /** Why it failed; null unless it did. */
  readonly error: ApiError | null;
  readonly times: AnswerTimes;
}

/** When an answer's stages began, ms on the engine's clock; null = never. */
export interface AnswerTimes {
  readonly addedAt: number;
  /** It began to wait for adapters that were not in memory. */
  readonly loadingAt: number | null;
  /** … and had them. */
  readonly loadedAt: number | null;
  /** A row began to read the prompt. */
  readonly startedAt: number | null;
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
}

/** @param begun what runs, and notes its times. */
export const timesOf = (begun: Omit<AnswerTimes, 'endedAt'>, endedAt: number): AnswerTimes => ({
  addedAt: begun.addedAt,
  loadingAt: begun.loadingAt,
  loadedAt: begun.loadedAt,
  startedAt: begun.startedAt,
  firstTokenAt: begun.firstTokenAt,
  endedAt,
});

export type Pooling = 'mean' | 'last';

export interface TokenScore {
  readonly id: number;
  /** Natural logarithm of the probability before temperature and truncation. */
  readonly logprob: number;
}

/** One token of an answer or of a scored prompt. */
export interface ScoredToken {
  readonly id: number;
  /** null without requested log-probabilities, or for the prompt's first token, which nothing predicts. */
  readonly logprob: number | null;
  /** The likeliest tokens at this position, likeliest first; empty unless requested. */
  readonly top: readonly TokenScore[];
  /** Rank among all tokens, from 1; only for prompt tokens, and if requested. */
  readonly rank?: number;
}

/** `end`, `error` and `aborted` are last; exactly one of them occurs. */
export type EngineEvent =
  /** Every token of the prompt, in order; once, before all `tokens`, and only if requested. */
  | { readonly kind: 'prompt'; readonly tokens: readonly ScoredToken[] }
  /** Once, before all `tokens`, and only if requested. */
  | ({ readonly kind: 'clipped' } & Clipped)
  /**
   * `text`: what is certain so far (whole characters, no beginning of a stop string); may be empty. `tokens`:
   * its tokens; never the end-of-sequence token or a stop string's.
   */
  | { readonly kind: 'tokens'; readonly text: string; readonly tokens: readonly ScoredToken[] }
  /** `[hiddenSize]`, not normalized; once, if `pooling` is set. */
  | { readonly kind: 'embedding'; readonly values: Float64Array }
  /** One score a class, before softmax or sigmoid; once, if it `classifies`. */
  | { readonly kind: 'classes'; readonly scores: Float32Array; readonly head: ClassifierHead }
  /** `tokenIds`: every generated token, including those of an end-of-sequence or stop string. */
  | {
      readonly kind: 'end';
      readonly finishReason: FinishReason;
      /** The stop string that ended it, if any. */
      readonly stop?: string;
      readonly usage: Usage;
      readonly tokenIds: readonly number[];
    }
  | { readonly kind: 'error'; readonly error: ApiError; readonly usage: Usage }
  | { readonly kind: 'aborted'; readonly usage: Usage };

export type FinalEvent = Extract<EngineEvent, { kind: 'end' | 'error' | 'aborted' }>;

export interface EngineHandle {
  readonly id: string;
  readonly promptTokens: number;
  /** The effective limit: the request's, or what fits the context. */
  readonly maxTokens: number;
  /** For one reader; leaving the loop early aborts the request. */
  readonly events: AsyncIterable<EngineEvent>;
  abort(): void;
}

export interface EngineStats {
  readonly slots: number;
  /** Distinct chains that run at once; absent = as many as slots. */
  readonly maxChains?: number;
  /** Rows in prefill and decode. */
  readonly running: number;
  readonly waiting: number;
  readonly loading: number;
  /** Preempted rows that wait for their turn. */
  readonly preempted: number;
  readonly kvTokens: number;
  /** Tokens that fit: slots and swap slots x context. */
  readonly kvCapacity: number;
  /** Memory of kept prompt chunks; absent = 0. */
  readonly prefixBytes?: number;
}

/** The engine's interface for HTTP and trials: the native one, or one that runs elsewhere (`backends/`). */
export interface ServingEngine {
  /** Width of an embedding; 0 if there are none. */
  readonly hiddenSize: number;
  /**
   * Queues a request, or refuses it before anything is queued: `invalid_request`, `context_length_exceeded`,
   * `queue_full`, `adapter_missing`, `adapter_loading`, `adapter_unavailable`, `origin_unavailable` (closed).
   */
  add(request: EngineRequest): Promise<Result<EngineHandle, ApiError>>;
  /**
   * Queues several answers to one request, one per seed, or none of them: each takes its own slot, and the
   * prompt's whole chunks are read once, if they can be kept. Refuses as `add` does; `queue_full` without a
   * retry time when they never fit.
   */
  addChoices(
    request: EngineRequest,
    seeds: readonly (number | null)[],
  ): Promise<Result<readonly EngineHandle[], ApiError>>;
  stats(): EngineStats;
  residents(): ResidentList;
  /** Is the whole chain in memory, so that a request for it waits for no adapter? Absent = unknown. */
  holds?(chain: readonly ChainEntry[]): boolean;
  /** Does a waiting or running request use it? Its file may be read only when its turn comes. */
  needs(digest: string): boolean;
  /**
   * @param files whether the file must be on disk even if the adapter is in memory, from which it may be
   * evicted.
   * @returns `adapter_missing`, `adapter_loading` or `adapter_unavailable` when one of them is unavailable;
   * otherwise null.
   */
  check(digests: readonly string[], files?: boolean): Promise<ApiError | null>;
  /**
   * Loads an adapter without a request; resolves when it is ready. A pinned one stays in memory until
   * `keepPinned`; pinned ones have half of the adapter memory, and beyond that it is `adapter_unavailable`.
   */
  prefetch(digest: string, options?: { pinned?: boolean }): Promise<Result<void, ApiError>>;
  /** Unpins all others. @returns how many were pinned. */
  keepPinned(digests: ReadonlySet<string>): number;
  /** Drops them; those in use by a row when it ends. @returns how many. */
  drop(digests: ReadonlySet<string>): Promise<number>;
  /** Aborts every request. The runner stays open. */
  close(): Promise<void>;
}

export type ContextLengthExceeded = Extract<ApiError, { code: 'context_length_exceeded' }>;

/** `logit_bias` names a token that the base does not have. */
export const noSuchBias = (id: number): ApiError => ({
  code: 'invalid_request',
  message: `There is no token ${id} in this model's vocabulary.`,
  param: `logit_bias.${id}`,
});

/** A retry cannot help: the server accepts fewer. */
export const neverFits = (rows: number): ApiError => ({
  code: 'queue_full',
  message: `This server has no room for ${rows} answers at once. Request fewer ('n').`,
  retryAfterMs: null,
});

export const queueFull = (queued: number, retryAfterMs: number): ApiError => ({
  code: 'queue_full',
  message: `The queue is full: ${queued} requests are waiting.`,
  retryAfterMs,
});

export const deadlineExceeded = (): ApiError => ({
  code: 'deadline_exceeded',
  message: 'The request ran out of time.',
});

export const shuttingDown = (): ApiError => ({
  code: 'origin_unavailable',
  message: 'The server is stopping.',
  retryAfterMs: 1_000,
});

/** Its chain has no classification head. */
export const noClassifier = (): ApiError => ({
  code: 'wrong_endpoint',
  message:
    'This model has no classification head. Ask it for text, at /v1/chat/completions or /v1/completions, or ' +
    'publish an adapter that was trained with task_type "SEQ_CLS".',
  param: 'model',
});

/** Its chain has a classification head, for which the model was trained. */
export const onlyClassifies = (): ApiError => ({
  code: 'wrong_endpoint',
  message:
    'This model has a classification head and generates no text. Ask it at /v1/classify or, if it has one class, ' +
    '/v1/score and /v1/rerank.',
  param: 'model',
});

/** The row's logits are NaN or infinite, most likely because of its adapters. */
export const NOT_FINITE = 'The model produced no finite output for this request.';

export const MODEL_FAILED = 'The model failed while answering this request.';

export const rowFault = (message: string): ApiError => ({ code: 'internal_error', message });
