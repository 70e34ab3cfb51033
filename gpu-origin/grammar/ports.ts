/** Grammars that answers are held to: compiled in one place, masks of all rows in one message a step. */
import type { ApiError, Constraint, Result, ToolUse } from '../../protocol/index.ts';
import type { Grammar, GrammarMasks } from '../engine/ports.ts';

/** `hermes`: between two markers, anywhere in an answer. `json`: an object that is the whole answer. */
export type CallFormat = 'hermes' | 'json';

/** What a grammar needs to know of a tokenizer. */
export interface GrammarTokens {
  /** Bytes of each token in the grammars' alphabet, `[vocabSize]`; empty for those that are in no answer. */
  readonly bytes: readonly Uint8Array[];
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
}

/** What a request holds its answers to. */
export interface AskedForm {
  readonly constraint: Constraint | null;
  readonly tools: AskedTools | null;
}

export interface GrammarRequest {
  readonly ebnf: string;
  /** What `ebnf` was made of, for what compiles by itself. */
  readonly asked: AskedForm;
  /** The field that is to blame. */
  readonly param: string;
  readonly caller: GrammarCaller;
}

export interface Grammars extends GrammarMasks {
  /**
   * Compiles, or finds what was compiled. Errors: `invalid_request` with `param` (it does not compile, or not in
   * time), `queue_full` (too many wait), `origin_unavailable` (the caller has gone).
   */
  prepare(request: GrammarRequest): Promise<Result<Grammar, ApiError>>;
  close(): Promise<void>;
}

/** One instance of the compiler with its grammars and the states of rows in them: in this thread, or in its own. */
export interface Lane {
  /** `[rows, words]` of the last step: row i of the step at `i * words`. */
  readonly masks: Int32Array;
  /** Of one row's mask. */
  readonly words: number;
  /** @returns why it does not compile, for the client; null = it does. Rejects with {@link LaneLost}. */
  compile(grammar: number, ebnf: string): Promise<string | null>;
  /** No row is open in it. */
  forget(grammar: number): void;
  open(row: number, grammar: number): void;
  close(row: number): void;
  /**
   * Takes accepted tokens in and writes the masks.
   * @returns of each row why it cannot go on; null = it can. Rejects with {@link LaneLost}.
   */
  step(rows: readonly LaneRow[]): Promise<readonly (string | null)[]>;
  stop(): Promise<void>;
}

export interface LaneRow {
  readonly row: number;
  /** Since the last step. */
  readonly accepted: readonly number[];
}

/** Its memory is gone or not to be trusted: it failed, or took too long and was ended. */
export class LaneLost extends Error {
  override readonly name = 'LaneLost';
  readonly tooLong: boolean;

  constructor(message: string, tooLong: boolean) {
    super(message);
    this.tooLong = tooLong;
  }
}

export type StartLane = (params: { tokens: GrammarTokens; rows: number }) => Promise<Lane>;

/** Words of a row's mask. */
export const wordsOf = (vocabSize: number): number => Math.ceil(vocabSize / 32);
