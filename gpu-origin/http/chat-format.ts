import type { ChatCompletion, ChatCompletionChunk } from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { Tokenizer } from '../model/tokenizer.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { chatLogprob } from './token-text.ts';

type Choice = ChatCompletionChunk['choices'][number];

/** @param logprobs whether the client asked for log-probabilities. */
export function chatFormat(
  params: FormatParams & { tokenizer: Tokenizer; logprobs: boolean },
): CompletionFormat {
  const { id, created, model, includeUsage } = params;
  const logprobsOf = (tokens: readonly ScoredToken[]): Choice['logprobs'] =>
    params.logprobs
      ? { content: tokens.map((token) => chatLogprob(params.tokenizer, token)), refusal: null }
      : null;
  const chunk = (choices: Choice[]): ChatCompletionChunk => ({
    id,
    object: 'chat.completion.chunk',
    created,
    model,
    choices,
    ...(includeUsage ? { usage: null } : {}),
  });
  return {
    opening: () => [
      chunk([{ index: 0, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]),
    ],
    piece(event) {
      if (event.kind === 'prompt') return null;
      const silent = event.text === '' && !(params.logprobs && event.tokens.length > 0);
      if (silent) return null;
      return chunk([
        { index: 0, delta: { content: event.text }, logprobs: logprobsOf(event.tokens), finish_reason: null },
      ]);
    },
    closing: (finishReason, usage) => [
      chunk([{ index: 0, delta: {}, logprobs: null, finish_reason: finishReason }]),
      ...(includeUsage ? [{ ...chunk([]), usage }] : []),
    ],
    whole: ({ text, tokens, finishReason, usage }): ChatCompletion => ({
      id,
      object: 'chat.completion',
      created,
      model,
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: logprobsOf(tokens),
          finish_reason: finishReason,
        },
      ],
      usage,
    }),
  };
}
