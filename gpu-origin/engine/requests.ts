/** What the engine's callers see: a request in, events out, or why it is refused. */
import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { FinishReason, Usage } from '../../protocol/completion-answers.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { ResidentList, Traceparent } from '../../protocol/origin-wire.ts';
import type { SamplingParams } from '../generation/sampler.ts';
import type { Grammar } from './ports.ts';

export interface EngineRequest {
  /** For logs and the observer; need not be unique. */
  readonly id: string;
  /** The trace that it belongs to, for logs and for an engine that runs elsewhere; none unless given. */
  readonly parent?: Traceparent | null;
  /** Whose share of the machine this request uses. */
  readonly tenant: string;
  /** Token ids, at least one. */
  readonly prompt: readonly number[];
  /** Root first; empty = the base model. */
  readonly chain: readonly ChainEntry[];
  readonly sampling: SamplingParams;
  /** Log-probability of every prompt token, and of so many alternatives (`echo` with `logprobs`); null = none. */
  readonly promptLogprobs: number | null;
  /** Whether the rank of each of them is wanted too. */
  readonly promptRanks?: boolean;
  /** No answer is generated: the prompt's hidden states are pooled into one vector, by their mean or the last one. */
  readonly pooling?: Pooling;
  /** What constrains its answers; none unless given. The caller releases it when the request is added. */
  readonly grammar?: Grammar | null;
  /** Time left, ms; null = no deadline. */
  readonly budgetMs: number | null;
  /** Aborting it frees the row at the next step. */
  readonly signal?: AbortSignal;
  /** Hears when a row begins to read the prompt, of each answer; never where nothing has to be run. */
  readonly onBegin?: () => void;
  /** Hears of the end of each answer, however it ends. @param ran tokens that the model has really run for it. */
  readonly onEnd?: (ran: { promptTokens: number; completionTokens: number }) => void;
}

export type Pooling = 'mean' | 'last';

export interface TokenScore {
  readonly id: number;
  /** Natural logarithm of the probability before temperature and truncation. */
  readonly logprob: number;
}

/** One token of an answer or of a scored prompt. */
export interface ScoredToken {
  readonly id: number;
  /** null when log-probabilities were not asked for, or nothing predicts the token (the prompt's first). */
  readonly logprob: number | null;
  /** The likeliest tokens at this place, likeliest first; empty unless asked for. */
  readonly top: readonly TokenScore[];
  /** Place among all tokens, from 1; only of a prompt's, and when asked for. */
  readonly rank?: number;
}

/** `end`, `error` and `aborted` are last; exactly one of them comes. */
export type EngineEvent =
  /** Every token of the prompt, in order; once, before all `tokens`, and only when asked for. */
  | { readonly kind: 'prompt'; readonly tokens: readonly ScoredToken[] }
  /**
   * `text`: what is certain by now (whole characters, no beginning of a stop string); may be empty.
   * `tokens`: the tokens behind it; never the end-of-sequence token or a stop string's.
   */
  | { readonly kind: 'tokens'; readonly text: string; readonly tokens: readonly ScoredToken[] }
  /** `[hiddenSize]`, not normalized; once, when `pooling` asked for it. */
  | { readonly kind: 'embedding'; readonly values: Float64Array }
  /** `tokenIds`: every generated token, those behind an end-of-sequence or a stop string included. */
  | {
      readonly kind: 'end';
      readonly finishReason: FinishReason;
      /** The stop string that has ended it, where one has. */
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
  /** The limit that holds: the request's, or what fits the context. */
  readonly maxTokens: number;
  /** For one reader; leaving the loop early aborts the request. */
  readonly events: AsyncIterable<EngineEvent>;
  abort(): void;
}

export interface EngineStats {
  readonly slots: number;
  /** Distinct chains that run at once; as many as slots unless given. */
  readonly maxChains?: number;
  /** Rows in prefill and decode. */
  readonly running: number;
  readonly waiting: number;
  readonly loading: number;
  /** Rows that are preempted while others have their turn. */
  readonly preempted: number;
  readonly kvTokens: number;
  /** Tokens that fit: slots and swap slots x context. */
  readonly kvCapacity: number;
  /** Memory of prompts' chunks that are kept; 0 unless given. */
  readonly prefixBytes?: number;
}

/** What HTTP and trials use of an engine: this room's own, or one that runs elsewhere (`backends/`). */
export interface ServingEngine {
  /** Width of an embedding; 0 where there are none. */
  readonly hiddenSize: number;
  /**
   * Queues a request, or refuses it before anything is queued: `invalid_request`, `context_length_exceeded`,
   * `queue_full`, `adapter_missing`, `adapter_loading`, `adapter_unavailable`, `origin_unavailable` (closed).
   */
  add(request: EngineRequest): Promise<Result<EngineHandle, ApiError>>;
  /**
   * Queues several answers to one request, one for each seed, or none of them: each takes a slot of its own, and the
   * prompt's whole chunks are read once, where they are kept. Refuses as `add` does; `queue_full` without a time to
   * come back when they never fit.
   */
  addChoices(
    request: EngineRequest,
    seeds: readonly (number | null)[],
  ): Promise<Result<readonly EngineHandle[], ApiError>>;
  stats(): EngineStats;
  residents(): ResidentList;
  /** Is the whole chain in memory, so that a request for it waits for no adapter? Absent = nobody knows. */
  holds?(chain: readonly ChainEntry[]): boolean;
  /** Has a request that waits or runs it in its chain? Its file may be read only when its turn comes. */
  needs(digest: string): boolean;
  /**
   * @param files whether the file has to be there, too, of one that is in memory and may have to go from it.
   * @returns `adapter_missing`, `adapter_loading` or `adapter_unavailable` when one of them cannot be had; else null.
   */
  check(digests: readonly string[], files?: boolean): Promise<ApiError | null>;
  /**
   * Loads an adapter without a request; resolves when it is ready. A pinned one stays in memory until `keepPinned`;
   * pinned ones have half of the memory for adapters, and beyond that it is `adapter_unavailable`.
   */
  prefetch(digest: string, options?: { pinned?: boolean }): Promise<Result<void, ApiError>>;
  /** Unpins all others. @returns how many were pinned. */
  keepPinned(digests: ReadonlySet<string>): number;
  /** Lets go of them, of those that a row has when it ends. @returns how many that is. */
  drop(digests: ReadonlySet<string>): Promise<number>;
  /** Aborts every request. What it runs on stays open. */
  close(): Promise<void>;
}

export type ContextLengthExceeded = Extract<ApiError, { code: 'context_length_exceeded' }>;

/** `logit_bias` names a token that the base does not have. */
export const noSuchBias = (id: number): ApiError => ({
  code: 'invalid_request',
  message: `There is no token ${id} in this model's vocabulary.`,
  param: `logit_bias.${id}`,
});

/** Repeating it cannot help: the server takes fewer. */
export const neverFits = (rows: number): ApiError => ({
  code: 'queue_full',
  message: `This server has no room for ${rows} answers at once; ask for fewer ('n').`,
  retryAfterMs: null,
});

export const queueFull = (queued: number, retryAfterMs: number): ApiError => ({
  code: 'queue_full',
  message: `${queued} requests are waiting already.`,
  retryAfterMs,
});

export const deadlineExceeded = (): ApiError => ({
  code: 'deadline_exceeded',
  message: 'The time for this request ran out.',
});

export const shuttingDown = (): ApiError => ({
  code: 'origin_unavailable',
  message: 'The server is stopping.',
  retryAfterMs: 1_000,
});

/** The row's logits are NaN or infinite: its adapters, most likely. */
export const NOT_FINITE = 'The model gave no finite output for this request.';

export const MODEL_FAILED = 'The model failed in the middle of this request.';

export const rowFault = (message: string): ApiError => ({ code: 'internal_error', message });
