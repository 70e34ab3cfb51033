/**
 * What the engine needs from the outside, and who outside is told what happens in it. The engine knows no runtime, no
 * HTTP, no file system and no clock.
 */
import type { ApiError } from '../../protocol/api-error.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';

/** An adapter in the form that this runner's weights need (rotated, in float32 or smaller), in memory. */
export interface ResidentAdapter {
  readonly digest: string;
  /** Memory it holds, bytes. Proportional to its rank. */
  readonly bytes: number;
  /** Largest rank of its modules. */
  readonly rank: number;
}

/**
 * The delta of a whole chain, ready for a row: the members' ranks side by side, scales folded in.
 * Shares the memory of its members where it can; `bytes` is what it holds beyond theirs.
 */
export interface RowDelta {
  readonly rank: number;
  readonly bytes: number;
}

export interface ChainMember {
  readonly adapter: ResidentAdapter;
  readonly scale: number;
}

/** What the rows of a decode batch are to its memory. */
export interface BatchRows {
  /** Rows with and without a delta. */
  readonly rows: number;
  /** Of the rows that have one, in any order. */
  readonly deltas: readonly RowDelta[];
}

/** Parts `from` … `to`-1 of a chunk that is read. */
export interface ChunkParts {
  readonly from: number;
  readonly to: number;
}

/**
 * Runs the model. One step (`prefill` or `decode`) at a time: callers await one before they call anything else but
 * `loadAdapter`, which may overlap with steps. A step resolves in a later turn of the event loop: nothing else lets
 * aborts and new requests in between. Rows live in slots 0 … `slots`-1; a slot holds a row's KV and its delta. Behind
 * them are `swapSlots` more, where rows may be kept by `move`; no step runs over these.
 *
 * Guarantee (int8 or int4 weights, same machine, same thread count): a row's logits depend on its own tokens and delta alone,
 * if its prompt is prefilled in chunks that begin at multiples of `chunk`.
 */
export interface ModelRunner {
  readonly base: BaseInfo;
  readonly vocabSize: number;
  /** Width of a hidden state. */
  readonly hiddenSize: number;
  /** Rows that fit at once. */
  readonly slots: number;
  /** Rows that can be kept beside. */
  readonly swapSlots: number;
  /** Tokens that there is memory for the keys and values of, of all rows together. */
  readonly kvTokens: number;
  /** Whole chunks of keys and values that can be kept beside rows. */
  readonly blocks: number;
  /** Memory of one, bytes. */
  readonly blockBytes: number;
  /** Prefill chunk, tokens: a chunk begins at a multiple of it and is at most this long. */
  readonly chunk: number;
  /** A chunk can be read in so many parts, with decode steps between them; 1 = only whole. */
  readonly parts: number;
  /** Reading behind so many tokens takes twice as long as at the beginning of a prompt. */
  readonly doublingTokens: number;
  /**
   * Parses a canonical adapter file and transforms it for this base. Yields to the event loop between layers.
   * @throws AdapterFormatError when the file is not canonical or does not fit the base.
   */
  loadAdapter(file: Uint8Array<ArrayBuffer>, digest: string): Promise<ResidentAdapter>;
  /** Gives the adapter's memory back. No row may use it any more. */
  unloadAdapter(adapter: ResidentAdapter): void;
  /** @param chain root first, not empty. */
  compose(chain: readonly ChainMember[]): RowDelta;
  /**
   * Most that decode steps over such rows need beside their deltas' own, bytes: each row's delta padded to the largest
   * rank of the batch. Never less for more rows or more deltas; 0 for one row.
   */
  batchBytes(batch: BatchRows): number;
  /**
   * Memory that is held for decode steps, bytes. A step leaves it as it is or makes it what `batchBytes` says of its
   * rows, or less where the widest of them run by themselves.
   */
  readonly batchHeldBytes: number;
  /** Gives back what steps over such rows do not need. Costs them a copy of every row. */
  trimBatch(batch: BatchRows): void;
  /** Puts a new row into `slot`; its KV begins empty. `null` = the base model. */
  assign(slot: number, delta: RowDelta | null): void;
  /** Moves a row of `length` tokens (KV and delta) from one slot to another; `from` is free afterwards. */
  move(from: number, to: number, length: number): void;
  /** Copies the whole chunk of the row in `slot` that begins at token `at` into a block. */
  keep(params: { slot: number; at: number; block: number }): void;
  /**
   * Copies a block behind the `at` tokens of the row in `slot`, which has the delta and the tokens that the block's row
   * had up to there: as if the chunk was prefilled, with the same bits.
   */
  reuse(params: { slot: number; at: number; block: number }): void;
  /** Forgets the row; its delta is no longer referenced. */
  release(slot: number): void;
  /**
   * Appends `tokens` to the row in `slot`, which holds `past` tokens (a multiple of `chunk`).
   * @param positions indexes into `tokens` whose logits are wanted; may be empty.
   * @param parts of the chunk; all of it unless given. They come one after the other, with the same other parameters, and
   * until the last nothing else becomes of the row but its `release`. The bits are the same.
   * @returns `[positions.length, vocabSize]` row-major, valid until the next step; nothing before the last part.
   */
  prefill(params: {
    slot: number;
    tokens: readonly number[];
    past: number;
    positions: readonly number[];
    parts?: ChunkParts;
  }): Promise<Float32Array>;
  /**
   * Appends `tokens` to the row in `slot`, as `prefill` does.
   * @returns `[tokens.length, hiddenSize]` row-major, valid until the next step: what the head reads, as transformers'
   * `last_hidden_state` has it (the last layer's output after the final norm and its gain, not rotated).
   */
  hiddenStates(params: {
    slot: number;
    tokens: readonly number[];
    past: number;
    parts?: ChunkParts;
  }): Promise<Float32Array>;
  /**
   * One token for each of the rows in slots 0 … tokens.length-1.
   * @param tokens null: the row sits this step out. It stays as it is, and its logits mean nothing.
   * @param lengths tokens that each row holds before this step.
   * @returns `[tokens.length, vocabSize]` row-major, valid until the next step.
   */
  decode(params: { tokens: readonly (number | null)[]; lengths: readonly number[] }): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Where canonical adapter files come from: the origin's disk, or nothing (fake). */
export interface AdapterSource {
  /** Whether a file is held whole, is being received now, or neither. Cheap: asked for every request's chain. */
  status(digest: string): Promise<'held' | 'receiving' | 'missing'>;
  /** @returns the whole file, or null when it is not held. */
  read(digest: string): Promise<Uint8Array<ArrayBuffer> | null>;
}

/** Time comes in from outside, so that tests own it. */
export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Calls `callback` once, `ms` from now. @returns a function that cancels it. */
  timer(ms: number, callback: () => void): () => void;
  /** Resolves after other work of the event loop had its turn (`setImmediate`). */
  yield(): Promise<void>;
}

/** A compiled grammar that is kept until it is released. */
export interface Grammar {
  /** The state of one answer, at its beginning. */
  open(): RowGrammar;
  /** Nobody opens it any more. What is open stays. */
  release(): void;
}

/** Where one answer stands in its grammar. */
export interface RowGrammar {
  /** Whether `mask` or `failure` is up to date: an `update` has found it, and no token has come since. */
  readonly ready: boolean;
  /**
   * Tokens that may come next, bit `id % 32` of word `id >> 5`; only while it is `ready`. One bit is set at least.
   * End-of-sequence tokens are among them exactly when the answer may end.
   */
  readonly mask: Int32Array;
  /** Why it cannot be gone on with; null = it can. */
  readonly failure: ApiError | null;
  /** The answer has one more token, which its mask let through. */
  accept(id: number): void;
  /** At any time, also while its mask is being found. */
  close(): void;
}

/** Masks that are found together. */
export interface MaskUpdate {
  /** Its rows are ready. Never rejects. */
  readonly done: Promise<void>;
  /** Such masks are known to take long: nobody waits for them. */
  readonly slow: boolean;
}

/** Masks of constrained rows. */
export interface GrammarMasks {
  /** Begins to bring the masks of these rows, or their failures, up to date. */
  update(rows: readonly RowGrammar[]): readonly MaskUpdate[];
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
    preempted: number;
  }): void;
  /** A row was preempted for another tenant's. */
  onPreempt?(row: { tenant: string }): void;
  /** `ms` since the request was added. */
  onFirstToken?(token: { tenant: string; ms: number }): void;
  /** Each later token; `ms` since the one before. */
  onToken?(token: { tenant: string; ms: number }): void;
  onFinish?(finish: {
    id: string;
    /** Of the trace that the request belongs to. */
    traceId?: string | undefined;
    tenant: string;
    outcome: Outcome;
    error: ApiError | null;
    promptTokens: number;
    completionTokens: number;
    /** Of the prompt's, those that were kept from an earlier one; none unless given. */
    cachedTokens?: number;
    /** Since the request was added. */
    ms: number;
    /** From adding to the first prefill chunk; null when it never came to that. */
    queuedMs: number | null;
  }): void;
  /** A request was refused by `add`. */
  onRefuse?(refusal: { id: string; traceId?: string | undefined; tenant: string; error: ApiError }): void;
  onAdapterLoad?(load: { digest: string; ms: number; bytes: number; error: ApiError | null }): void;
  onAdapterEvict?(evicted: { digest: string; bytes: number }): void;
  /** Something that should not happen: an exception of the runner or the source, or a row's non-finite logits. */
  onFault?(fault: { where: string; error: unknown; requestIds: readonly string[] }): void;
}
