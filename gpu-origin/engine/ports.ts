/**
 * The engine's ports: what it needs from the outside, and who observes it. The engine knows no runtime, no
 * HTTP, no file system and no clock.
 */
import type { ApiError } from '../../protocol/api-error.ts';
import type { Acting } from '../../protocol/activation.ts';
import type { ProblemType } from '../../protocol/classes.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';

/** The classification head of an adapter: a linear layer over the hidden state of a row's last token. */
export interface ClassifierHead {
  /** `[classes, hiddenSize]`, row-major. */
  readonly weight: Float32Array;
  /** By class; null = `LABEL_0` and so on. */
  readonly labels: readonly string[] | null;
  readonly problemType: ProblemType | null;
}

/** An adapter in memory, in the form that this runner's weights need (rotated, in float32 or smaller). */
export interface ResidentAdapter extends Acting {
  readonly digest: string;
  /** Memory it holds, bytes. Proportional to its rank. */
  readonly bytes: number;
  /** Largest rank of its modules. */
  readonly rank: number;
  /** null = it generates text. Its memory is in `bytes`. */
  readonly classifier: ClassifierHead | null;
}

/**
 * The delta of a whole chain, ready for a row: the members' ranks concatenated, scales folded in. Shares its
 * members' memory if possible; `bytes` is what it holds in addition.
 */
export interface RowDelta {
  readonly rank: number;
  readonly bytes: number;
}

export interface ChainMember {
  readonly adapter: ResidentAdapter;
  readonly scale: number;
}

/** The rows of a decode batch, as they affect its memory. */
export interface BatchRows {
  /** Rows with and without a delta. */
  readonly rows: number;
  /** Of the rows that have one, in any order. */
  readonly deltas: readonly RowDelta[];
}

/** Keys and values that lost their magnitude, and all of them. */
export interface Clipped {
  readonly clipped: number;
  readonly values: number;
  /** Sum of squares of the magnitudes that they lost, in steps of their scales. */
  readonly lost: number;
}
export const NONE_CLIPPED: Clipped = { clipped: 0, values: 0, lost: 0 };

/** Rows that decode, in slots 0 … tokens.length-1. */
export interface DecodeRows {
  /** null: the row sits this step out. It stays as it is, and its logits are meaningless. */
  readonly tokens: readonly (number | null)[];
  /** Tokens that each row holds before this step. */
  readonly lengths: readonly number[];
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
 * if its prompt is prefilled in chunks that end at multiples of `chunk`, where its delta changes, and at its own end.
 */
export interface ModelRunner {
  readonly base: BaseInfo;
  readonly vocabSize: number;
  /** Width of a hidden state. */
  readonly hiddenSize: number;
  /** Rows that fit at once. */
  readonly slots: number;
  /** Swapped-out rows that fit. */
  readonly swapSlots: number;
  /** Tokens whose keys and values fit in memory, over all rows. */
  readonly kvTokens: number;
  /** Chunks of keys and values that can be kept besides rows. */
  readonly blocks: number;
  /** Memory of one, bytes. */
  readonly blockBytes: number;
  /** Prefill chunk, tokens: none goes on over a multiple of it. */
  readonly chunk: number;
  /** Number of parts in which a chunk can be read, with decode steps between them; 1 = only whole. */
  readonly parts: number;
  /** Whether rows decode in the same run as a chunk that is read; see `prefill`. */
  readonly mixes: boolean;
  /** Reading after this many tokens takes twice as long as at the beginning of a prompt. */
  readonly doublingTokens: number;
  /**
   * Parses a canonical adapter file and transforms it for this base. Yields to the event loop between layers.
   * @throws AdapterFormatError when the file is not canonical or does not fit the base.
   */
  loadAdapter(file: Uint8Array<ArrayBuffer>, digest: string): Promise<ResidentAdapter>;
  /** Frees the adapter's memory. No row may use it any more. */
  unloadAdapter(adapter: ResidentAdapter): void;
  /** @param chain root first, not empty. */
  compose(chain: readonly ChainMember[]): RowDelta;
  /**
   * Maximum memory of decode steps over such rows in addition to their deltas, bytes: each row's delta padded
   * to the largest rank of the batch. Never less for more rows or more deltas; 0 for one row.
   */
  batchBytes(batch: BatchRows): number;
  /**
   * Memory held for decode steps, bytes. A step leaves it as it is, or makes it what `batchBytes` returns for
   * its rows, or less if the widest of them run separately.
   */
  readonly batchHeldBytes: number;
  /** Frees what steps over such rows do not need. Costs them a copy of every row. */
  trimBatch(batch: BatchRows): void;
  /** Puts a new row into `slot` with an empty KV. `null` = the base model. */
  assign(slot: number, delta: RowDelta | null): void;
  /** The row's delta from its next token on; what it holds stays as it is. Not within a chunk. */
  changeDelta(slot: number, delta: RowDelta | null): void;
  /** Moves a row of `length` tokens (KV and delta) from one slot to another; `from` is free afterwards. */
  move(from: number, to: number, length: number): void;
  /** Copies a chunk of `tokens` tokens that begins at token `at` of the row in `slot` into a block, right after it was read. */
  keep(params: { slot: number; at: number; block: number; tokens: number }): void;
  /**
   * Copies a block behind the `at` tokens of the row in `slot`, which must have the same deltas and tokens as
   * the block's row had up to there: equivalent to prefilling the chunk, to the bit.
   */
  reuse(params: { slot: number; at: number; block: number; tokens: number }): void;
  /** Forgets the row; its delta is no longer referenced. */
  release(slot: number): void;
  /**
   * Of the row in `slot`, right after a chunk was read and before it is kept: how many of that chunk's keys and values are too large for
   * the format that they are kept in. Absent = none ever is.
   */
  clipped?(slot: number): Clipped;
  /**
   * Appends `tokens` to the row in `slot`, which holds `past` tokens.
   * @param positions indexes into `tokens` whose logits are wanted; may be empty.
   * @param parts of the chunk; all of it unless given. They come one after the other, with the same other parameters, and
   * until the last nothing else becomes of the row but its `release`. The bits are the same.
   * @param beside rows in slots below that decode meanwhile, as in `decode` and with the same bits; none unless given. Only
   * of a runner that `mixes`, and only with a whole chunk.
   * @returns `[positions.length, vocabSize]` row-major, valid until the next step; nothing before the last part. Logits of
   * the rows beside follow, `[beside.tokens.length, vocabSize]`.
   */
  prefill(params: {
    slot: number;
    tokens: readonly number[];
    past: number;
    positions: readonly number[];
    parts?: ChunkParts;
    beside?: DecodeRows;
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
   * One token for each of the rows.
   * @returns `[tokens.length, vocabSize]` row-major, valid until the next step.
   */
  decode(params: DecodeRows): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Source of canonical adapter files: the origin's disk, or a fake. */
export interface AdapterSource {
  /** Whether a file is complete, being received, or absent. Cheap: called for every request's chain. */
  status(digest: string): Promise<'held' | 'receiving' | 'missing'>;
  /** @returns the whole file, or null when it is absent. */
  read(digest: string): Promise<Uint8Array<ArrayBuffer> | null>;
}

/** Time is injected, so that tests control it. */
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
  /** Releases it. Open states stay. */
  release(): void;
}

/** Where one answer is in its grammar. */
export interface RowGrammar {
  /** Whether `mask` or `failure` is up to date: an `update` computed it, and no token has followed since. */
  readonly ready: boolean;
  /**
   * Tokens that may come next, bit `id % 32` of word `id >> 5`; only while it is `ready`. At least one bit is
   * set. End-of-sequence tokens are included exactly when the answer may end.
   */
  readonly mask: Int32Array;
  /** Why it cannot continue; null = it can. */
  readonly failure: ApiError | null;
  /** The answer has one more token, which its mask allowed. */
  accept(id: number): void;
  /** At any time, also while its mask is being computed. */
  close(): void;
}

/** Masks that are computed together. */
export interface MaskUpdate {
  /** Its rows are ready. Never rejects. */
  readonly done: Promise<void>;
  /** Such masks are known to take long: nobody waits for them. */
  readonly slow: boolean;
}

/** Masks of constrained rows. */
export interface GrammarMasks {
  /** Starts updating the masks of these rows, or their failures. */
  update(rows: readonly RowGrammar[]): readonly MaskUpdate[];
}

export type Outcome = 'stop' | 'length' | 'aborted' | 'failed';

/** Receives events, for metrics and logs. Every method is optional; the first error of one goes to `onFault`. */
export interface EngineObserver {
  /** After each step. `ms`: from its beginning to its postprocessing; `kvTokens`: tokens held by all rows. */
  onStep?(step: {
    kind: 'prefill' | 'decode' | 'mixed';
    /** Rows that decode; 1 for a prefill. */
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
    /** Prompt tokens reused from an earlier prompt; absent = none. */
    cachedTokens?: number;
    /** Since the request was added. */
    ms: number;
    /** From adding to the first prefill chunk; null when it never started. */
    queuedMs: number | null;
  }): void;
  /** A request was refused by `add`. */
  onRefuse?(refusal: { id: string; traceId?: string | undefined; tenant: string; error: ApiError }): void;
  onAdapterLoad?(load: { digest: string; ms: number; bytes: number; error: ApiError | null }): void;
  onAdapterEvict?(evicted: { digest: string; bytes: number }): void;
  /** An unexpected exception of the runner or the source, or non-finite logits of a row. */
  onFault?(fault: { where: string; error: unknown; requestIds: readonly string[] }): void;
}
