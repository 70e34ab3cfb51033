/** What the engine's callers see: a request in, events out, and what an observer is told. */
import type {
  ApiError,
  ChainEntry,
  FinishReason,
  ResidentList,
  Result,
  Usage,
} from '../../protocol/index.ts';
import type { SamplingParams } from '../generation/sampling-params.ts';

export interface EngineRequest {
  /** For logs and the observer; need not be unique. */
  readonly id: string;
  /** Whose share of the machine this request uses. */
  readonly tenant: string;
  /** Token ids, at least one. */
  readonly prompt: readonly number[];
  /** Root first; empty = the base model. */
  readonly chain: readonly ChainEntry[];
  readonly sampling: SamplingParams;
  /** Log-probability of every prompt token, and of so many alternatives (`echo` with `logprobs`); null = none. */
  readonly promptLogprobs: number | null;
  /** Time left, ms; null = no deadline. */
  readonly budgetMs: number | null;
  /** Aborting it frees the row at the next step. */
  readonly signal?: AbortSignal;
  /** Hears of the end of each answer, however it ends. @param ran tokens that the model has really run for it. */
  readonly onEnd?: (ran: { promptTokens: number; completionTokens: number }) => void;
}

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
  /** `tokenIds`: every generated token, those behind an end-of-sequence or a stop string included. */
  | {
      readonly kind: 'end';
      readonly finishReason: FinishReason;
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

export type Outcome = 'stop' | 'length' | 'aborted' | 'failed';

/** Told what happens, for metrics and logs. Every method is optional; what one throws goes to `onFault`, once. */
export interface EngineObserver {
  /** After each step. `ms`: from its beginning to its postprocessing; `kvTokens`: tokens held by all rows. */
  onStep?(step: {
    kind: 'prefill' | 'decode';
    /** Rows in the step. */
    batch: number;
    /** Tokens fed. */
    tokens: number;
    ms: number;
    kvTokens: number;
    running: number;
    waiting: number;
    loading: number;
    parked: number;
  }): void;
  /** A row was set aside for another tenant's. */
  onPark?(row: { tenant: string }): void;
  /** `ms` since the request was added. */
  onFirstToken?(token: { tenant: string; ms: number }): void;
  /** Each later token; `ms` since the one before. */
  onToken?(token: { tenant: string; ms: number }): void;
  onFinish?(finish: {
    id: string;
    tenant: string;
    outcome: Outcome;
    error: ApiError | null;
    promptTokens: number;
    completionTokens: number;
    /** Since the request was added. */
    ms: number;
    /** From adding to the first prefill chunk; null when it never came to that. */
    queuedMs: number | null;
  }): void;
  /** A request was refused by `add`. */
  onRefuse?(refusal: { id: string; tenant: string; error: ApiError }): void;
  onAdapterLoad?(load: { digest: string; ms: number; bytes: number; error: ApiError | null }): void;
  onAdapterEvict?(evicted: { digest: string; bytes: number }): void;
  /** Something that should not happen: an exception of the runner or the source, or a row's non-finite logits. */
  onFault?(fault: { where: string; error: unknown; requestIds: readonly string[] }): void;
}

export interface EngineStats {
  readonly slots: number;
  /** Rows in prefill and decode. */
  readonly running: number;
  readonly waiting: number;
  readonly loading: number;
  /** Rows that are set aside while others have their turn. */
  readonly parked: number;
  readonly kvTokens: number;
  /** Tokens that fit: slots and parking slots x context. */
  readonly kvCapacity: number;
}

/** What callers may do with an engine. */
export interface EngineContract {
  /**
   * Queues a request, or refuses it before anything is queued: `invalid_request`, `context_length_exceeded`,
   * `queue_full`, `adapter_missing`, `adapter_loading`, `adapter_unavailable`, `origin_unavailable` (closed).
   */
  add(request: EngineRequest): Promise<Result<EngineHandle, ApiError>>;
  /**
   * Queues several answers to one request, one for each seed, or none of them: each takes a slot of its own and runs
   * the prompt itself. Refuses as `add` does; `queue_full` without a time to come back when they never fit.
   */
  addChoices(
    request: EngineRequest,
    seeds: readonly (number | null)[],
  ): Promise<Result<readonly EngineHandle[], ApiError>>;
  stats(): EngineStats;
  residents(): ResidentList;
  /** @returns `adapter_missing`, `adapter_loading` or `adapter_unavailable` when one of them cannot be had; else null. */
  check(digests: readonly string[]): Promise<ApiError | null>;
  /**
   * Loads an adapter without a request; resolves when it is ready. A pinned one stays in memory until `keepPinned` or
   * `unload`; pinned ones have half of the memory for adapters, and beyond that it is `adapter_unavailable`.
   */
  prefetch(digest: string, options?: { pinned?: boolean }): Promise<Result<void, ApiError>>;
  /** Unpins all others. @returns how many were pinned. */
  keepPinned(digests: ReadonlySet<string>): number;
  /** Frees an adapter's memory. @returns false while requests hold it: it is then freed when the last one ends. */
  unload(digest: string): boolean;
  /** Aborts every request and ends the loop. The runner stays open. */
  close(): Promise<void>;
}
