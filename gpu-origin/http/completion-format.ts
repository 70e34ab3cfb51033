import type { FinishReason, Usage } from '../../protocol/index.ts';
import type { EngineEvent, ScoredToken } from '../engine/engine.ts';

export type PieceEvent = Extract<EngineEvent, { kind: 'prompt' | 'tokens' }>;

/** Everything of an answer, for clients that do not stream. */
export interface WholeAnswer {
  text: string;
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
  finishReason: FinishReason;
  usage: Usage;
}

/** How an answer is written: chat and text completions each have one. One instance serves one request. */
export interface CompletionFormat {
  /** Chunks before the first token. */
  opening(): unknown[];
  /** The chunk of an event; null when there is nothing to say. */
  piece(event: PieceEvent): unknown;
  /** Chunks after the last token. */
  closing(finishReason: FinishReason, usage: Usage): unknown[];
  whole(answer: WholeAnswer): unknown;
}

export interface FormatParams {
  id: string;
  /** Unix seconds. */
  created: number;
  /** As the client asked for it. */
  model: string;
  includeUsage: boolean;
}
