/** Grammars that constrain answers: compiled in workers, the masks of a worker's rows in one message a step. */
import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { PlacedConstraint, ToolUse } from '../../protocol/request-fields.ts';
import type { Grammar, GrammarMasks } from '../engine/ports.ts';

/** `hermes`: between two markers, anywhere in an answer. `json`: an object that is the whole answer. */
export type CallFormat = 'hermes' | 'json';

/** What a grammar needs to know of a tokenizer. */
export interface GrammarTokens {
  readonly vocabSize: number;
  /**
   * Bytes of each token in the grammars' alphabet, `[vocabSize]`; empty for those that are in no answer. Made at each
   * call: kept, a hundred thousand objects would be looked at in every collection of garbage.
   */
  bytes(): Uint8Array[];
  /** Tokens that may come when the grammar can end, and only then. */
  readonly eosIds: readonly number[];
}

/** Who asks for a grammar. */
export interface GrammarCaller {
  readonly tenant: string;
  readonly signal: AbortSignal;
}

/** Functions that answers may call, and how calls are written. */
export interface AskedTools {
  readonly use: ToolUse;
  readonly format: CallFormat;
  /** Where a function's definition is, below `tools.<index>` of the body. */
  readonly within: readonly string[];
}

/** What a request holds its answers to, as data: another thread makes a grammar of it. */
export interface AskedForm {
  readonly constraint: PlacedConstraint | null;
  readonly tools: AskedTools | null;
}

export interface GrammarRequest {
  readonly asked: AskedForm;
  readonly caller: GrammarCaller;
}

export interface Grammars extends GrammarMasks {
  /**
   * Compiles, or finds what was compiled. Errors: `invalid_request` and `unsupported_parameter` with `param` (no grammar
   * can be made of it, it does not compile, or takes too much work), `queue_full` (too many wait), `origin_unavailable`
   * (the machine is too busy to compile it in time, or the caller has gone).
   */
  prepare(request: GrammarRequest): Promise<Result<Grammar, ApiError>>;
  close(): Promise<void>;
}

export type Compiled =
  /** `ms`: CPU time that it took, or time where that is not known. `characters`: of the grammar's text. */
  | { readonly kind: 'compiled'; readonly ms: number; readonly characters: number }
  /** No grammar can be made of what is asked for. */
  | { readonly kind: 'refused'; readonly error: ApiError }
  /** The compiler has failed, and its instance is not to be trusted any more. `reason` is for the client. */
  | { readonly kind: 'failed'; readonly reason: string };

export interface Stepped {
  /** `[rows, words]` */
  readonly masks: Int32Array<ArrayBuffer>;
  /** Of each row why it cannot go on (null = it can), and what it took: CPU time, or time where that is not known. */
  readonly rows: readonly { readonly failure: string | null; readonly ms: number }[];
}

/**
 * One instance of the compiler with its grammars and the states of rows in them: in this thread, or in its own. It does
 * one thing after the other, in the order in which it is told.
 */
export interface GrammarWorker {
  /** Of one row's mask. */
  readonly words: number;
  /**
   * Makes a grammar of what is asked for and compiles it. Rejects with {@link GrammarWorkerLost}.
   * @param onLong called once, when it takes longer than {@link QUICK_MS}.
   */
  compile(grammar: number, asked: AskedForm, onLong?: () => void): Promise<Compiled>;
  /** No row opens it any more. */
  forget(grammar: number): void;
  open(row: number, grammar: number): void;
  close(row: number): void;
  /** Takes accepted tokens in and finds the masks. Rejects with {@link GrammarWorkerLost}. */
  step(rows: readonly GrammarWorkerRow[]): Promise<Stepped>;
  /** From now on everything else goes first, where the system can do that. */
  giveWay(): void;
  stop(): Promise<void>;
}

/** What compiles with so much CPU time may be compiled beside rows, ms; most take a tenth of it. */
export const QUICK_MS = 1_000;

export interface GrammarWorkerRow {
  readonly row: number;
  /** Since the last step. */
  readonly accepted: readonly number[];
}

/** Why a worker is lost. `work`: a job took more CPU time than it may. `starved`: the machine had none to give. */
export type LossReason = 'failed' | 'work' | 'starved';

/** Its memory is gone or not to be trusted. */
export class GrammarWorkerLost extends Error {
  override readonly name = 'GrammarWorkerLost';
  readonly reason: LossReason;

  constructor(message: string, reason: LossReason) {
    super(message);
    this.reason = reason;
  }
}

/** @param params.tokens null = it makes the text of grammars and compiles none. */
export type StartGrammarWorker = (params: { tokens: GrammarTokens | null }) => Promise<GrammarWorker>;

/** Words of a row's mask. */
export const wordsOf = (vocabSize: number): number => Math.ceil(vocabSize / 32);
