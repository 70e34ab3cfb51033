import type { TextCompletion, TextLogprobs } from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { Tokenizer } from '../model/tokenizer.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { textLogprob, tokenKey, tokenText, topLogprobs } from './token-text.ts';

type Choice = TextCompletion['choices'][number];

/**
 * @param echo the prompt's text, when the client wants it before the answer.
 * @param logprobs whether the client asked for log-probabilities (with `echo`: of the prompt's tokens too).
 */
export function textFormat(
  params: FormatParams & { tokenizer: Tokenizer; logprobs: boolean; echo: string | null },
): CompletionFormat {
  const { id, created, model, includeUsage, tokenizer } = params;
  /** Characters before the next token, as `text_offset` counts. */
  let offset = 0;
  const logprobsOf = (tokens: readonly ScoredToken[]): TextLogprobs | null => {
    if (!params.logprobs) return null;
    const offsets = tokens.map((token) => {
      const at = offset;
      offset += tokenText(tokenizer, token.id).length;
      return at;
    });
    return {
      tokens: tokens.map((token) => tokenKey(tokenizer, token.id)),
      token_logprobs: tokens.map(textLogprob),
      top_logprobs: tokens.map((token) => topLogprobs(tokenizer, token)),
      text_offset: offsets,
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
    opening: () =>
      echoAtOnce ? [chunk([{ index: 0, text: echo, logprobs: null, finish_reason: null }])] : [],
    piece(event) {
      const text = event.kind === 'prompt' ? echo : event.text;
      if (text === '' && !(params.logprobs && event.tokens.length > 0)) return null;
      return chunk([{ index: 0, text, logprobs: logprobsOf(event.tokens), finish_reason: null }]);
    },
    closing: (finishReason, usage) => [
      chunk([{ index: 0, text: '', logprobs: null, finish_reason: finishReason }]),
      ...(includeUsage ? [{ ...chunk([]), usage }] : []),
    ],
    whole: ({ text, prompt, tokens, finishReason, usage }): TextCompletion => ({
      id,
      object: 'text_completion',
      created,
      model,
      choices: [
        {
          index: 0,
          text: echo + text,
          logprobs: logprobsOf([...prompt, ...tokens]),
          finish_reason: finishReason,
        },
      ],
      usage,
    }),
  };
}
