import { errorBody, type TextCompletion, type TextLogprobs } from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { textLogprob, tokenKey, tokenText, topLogprobs } from '../prompts/token-text.ts';

type Choice = TextCompletion['choices'][number];

/** @param echo the prompt's text, when the client wants it before the answer (with its tokens' log-probabilities). */
export function textFormat(params: FormatParams & { echo: string | null }): CompletionFormat {
  const { created, model, includeUsage, tokenizer } = params;
  const id = `cmpl-${params.id}`;
  /** Characters before each choice's next token, as `text_offset` counts. */
  const offsets = new Array<number>(params.choices).fill(0);
  const logprobsOf = (index: number, tokens: readonly ScoredToken[]): TextLogprobs | null => {
    if (!params.logprobs) return null;
    const places = tokens.map((token) => {
      const at = offsets[index]!;
      offsets[index] = at + tokenText(tokenizer, token.id).length;
      return at;
    });
    return {
      tokens: tokens.map((token) => tokenKey(tokenizer, token.id)),
      token_logprobs: tokens.map(textLogprob),
      top_logprobs: tokens.map((token) => topLogprobs(tokenizer, token)),
      text_offset: places,
    };
  };
  const chunk = (choices: Choice[]): TextCompletion => ({
    id,
    object: 'text_completion',
    created,
    model,
    choices,
    ...(includeUsage ? { usage: null } : {}),
  });
  const echo = params.echo ?? '';
  // With log-probabilities the prompt comes as an event, and its text goes out with it.
  const echoAtOnce = echo !== '' && !params.logprobs;
  return {
    named: false,
    opening: () =>
      Array.from({ length: echoAtOnce ? params.choices : 0 }, (_, index) =>
        chunk([{ index, text: echo, logprobs: null, finish_reason: null }]),
      ),
    piece(index, event) {
      const text = event.kind === 'prompt' ? echo : event.text;
      if (text === '' && !(params.logprobs && event.tokens.length > 0)) return [];
      return [chunk([{ index, text, logprobs: logprobsOf(index, event.tokens), finish_reason: null }])];
    },
    heartbeat: (index) => [chunk([{ index, text: '', logprobs: null, finish_reason: null }])],
    closing: (index, finishReason) => [
      chunk([{ index, text: '', logprobs: null, finish_reason: finishReason }]),
    ],
    ending: (usage) => (includeUsage ? [{ ...chunk([]), usage }] : []),
    failure: errorBody,
    whole: (answers, usage): TextCompletion => ({
      id,
      object: 'text_completion',
      created,
      model,
      choices: answers.map(({ text, prompt, tokens, finishReason }, index) => ({
        index,
        text: echo + text,
        logprobs: logprobsOf(index, [...prompt, ...tokens]),
        finish_reason: finishReason,
      })),
      usage,
    }),
  };
}
