import type { ApiError, FinishReason, Usage, UsageNote } from '../../protocol/index.ts';
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

/**
 * What a request used: a prompt counts once, what was generated for every choice.
 * @param prompted tokens of the prompts. @param perPrompt choices of each.
 */
export function usageCounter(prompted: number, perPrompt: number) {
  let generated = 0;
  let shown = 0;
  let ended = 0;
  /** By prompt, of the choice that found least of it kept: the first one, which then keeps it for the others. */
  const cached: number[] = [];
  let finish: NonNullable<UsageNote['finish']> = 'stop';
  return {
    get ended() {
      return ended;
    },
    add(choice: number, { usage, finishReason }: { usage: Usage; finishReason: FinishReason }) {
      ended += 1;
      generated += usage.completion_tokens;
      const prompt = Math.floor(choice / perPrompt);
      cached[prompt] = Math.min(cached[prompt] ?? Infinity, usage.prompt_tokens_details?.cached_tokens ?? 0);
      if (finishReason === 'length') finish = 'length';
    },
    /** Tokens of an answer that has not ended. */
    shown(tokens: number) {
      shown += tokens;
    },
    note: (): UsageNote => ({
      promptTokens: prompted,
      completionTokens: Math.max(generated, shown),
      finish,
    }),
    total: (): Usage => {
      const kept = cached.reduce((sum, tokens) => sum + tokens, 0);
      return {
        prompt_tokens: prompted,
        completion_tokens: generated,
        total_tokens: prompted + generated,
        ...(kept > 0 ? { prompt_tokens_details: { cached_tokens: kept } } : {}),
      };
    },
  };
}
