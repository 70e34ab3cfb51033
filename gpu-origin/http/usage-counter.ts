import type { FinishReason, Usage, UsageNote } from '../../protocol/index.ts';

/** What a request used: the prompt counts once, what was generated for every choice. @param prompted its tokens. */
export function usageCounter(prompted: number) {
  let generated = 0;
  let shown = 0;
  let ended = 0;
  let finish: NonNullable<UsageNote['finish']> = 'stop';
  return {
    get ended() {
      return ended;
    },
    add({ usage, finishReason }: { usage: Usage; finishReason: FinishReason }) {
      ended += 1;
      generated += usage.completion_tokens;
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
    total: (): Usage => ({
      prompt_tokens: prompted,
      completion_tokens: generated,
      total_tokens: prompted + generated,
    }),
  };
}
