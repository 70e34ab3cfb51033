import type { FinishReason, Usage, UsageNote } from '../../protocol/index.ts';

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
