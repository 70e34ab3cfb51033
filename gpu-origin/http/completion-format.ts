import type { ApiError, FinishReason, Usage } from '../../protocol/index.ts';
import type { EngineEvent, ScoredToken } from '../engine/engine.ts';
import type { Tokenizer } from '../model/tokenizer.ts';
import type { CallSyntax } from './tool-call-reader.ts';

type PieceEvent = Extract<EngineEvent, { kind: 'prompt' | 'tokens' }>;

/** Everything of one choice. */
export interface WholeAnswer {
  text: string;
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
  finishReason: FinishReason;
  /** The stop string that has ended it, where one has. */
  stop?: string | undefined;
}

/** How an answer is written: each API has its own. One instance serves one request; `choice` counts from 0. */
export interface CompletionFormat {
  /** Whether events carry their `type` as the event's name and no `[DONE]` follows, as Responses have it. */
  readonly named: boolean;
  /** Before the first token. */
  opening(): unknown[];
  /** What an event of the engine says; may be nothing. */
  piece(choice: number, event: PieceEvent): unknown[];
  /**
   * Says nothing, in a stream that has been quiet for long. @param choice one that has not ended.
   * No comment line: openai-go before 3.43 takes the blank line behind one for an event, and fails at it; and after a
   * comment without a blank line, clients that cut a stream at blank lines miss an event.
   */
  heartbeat(choice: number): unknown[];
  /** After a choice's last token. @param stop the stop string that has ended it, where one has. */
  closing(choice: number, finishReason: FinishReason, stop?: string): unknown[];
  /** After the last choice. */
  ending(usage: Usage): unknown[];
  /** Instead of everything that would still come. */
  failure(error: ApiError): unknown;
  whole(answers: readonly WholeAnswer[], usage: Usage): unknown;
}

export interface FormatParams {
  /** 32 hex digits, for the ids that the format makes. */
  id: string;
  /** Unix seconds. */
  created: number;
  /** As the client asked for it. */
  model: string;
  choices: number;
  includeUsage: boolean;
  tokenizer: Tokenizer;
  /** Whether the client asked for log-probabilities. */
  logprobs: boolean;
  /** Calls that are to be found in the answer; null = there are none. */
  calls: CallSyntax | null;
  /** … of the prompt, and of how many others at each place; null = none. */
  promptLogprobs?: number | null;
}
