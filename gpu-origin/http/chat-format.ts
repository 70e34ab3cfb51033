import { errorBody, type ChatCompletion, type ChatCompletionChunk } from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { chatLogprob } from '../prompts/token-text.ts';

type Choice = ChatCompletionChunk['choices'][number];

export function chatFormat(params: FormatParams): CompletionFormat {
  const { created, model, includeUsage } = params;
  const id = `chatcmpl-${params.id}`;
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
    named: false,
    opening: () =>
      Array.from({ length: params.choices }, (_, index) =>
        chunk([{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]),
      ),
    piece(index, event) {
      if (event.kind === 'prompt') return [];
      const silent = event.text === '' && !(params.logprobs && event.tokens.length > 0);
      if (silent) return [];
      const logprobs = logprobsOf(event.tokens);
      return [chunk([{ index, delta: { content: event.text }, logprobs, finish_reason: null }])];
    },
    heartbeat: (index) => [chunk([{ index, delta: { content: '' }, logprobs: null, finish_reason: null }])],
    closing: (index, finishReason) => [
      chunk([{ index, delta: {}, logprobs: null, finish_reason: finishReason }]),
    ],
    ending: (usage) => (includeUsage ? [{ ...chunk([]), usage }] : []),
    failure: errorBody,
    whole: (answers, usage): ChatCompletion => ({
      id,
      object: 'chat.completion',
      created,
      model,
      choices: answers.map(({ text, tokens, finishReason }, index) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: logprobsOf(tokens),
        finish_reason: finishReason,
      })),
      usage,
    }),
  };
}
