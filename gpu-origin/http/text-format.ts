import { errorBody, type TextCompletion, type TextLogprobs } from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { promptLogprobs, textLogprob, tokenKey, tokenText, topLogprobs } from '../prompts/token-text.ts';

type Choice = TextCompletion['choices'][number];

/**
 * @param params.echoes each prompt's text, where the client wants it before the answers (with its tokens'
 * log-probabilities). @param params.topLogprobs how many others at each place the client wants of those.
 */
export function textFormat(
  params: FormatParams & { echoes: readonly (string | null)[]; topLogprobs: number },
): CompletionFormat {
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
  /** Of a choice. Each prompt has as many, in its turn. */
  const promptAt = (index: number): number => Math.floor((index * params.echoes.length) / params.choices);
  const echoOf = (index: number): string => params.echoes[promptAt(index)] ?? '';
  /** The prompt's scores, where it is echoed, as many as the client wants of an answer's tokens. */
  const echoed = (index: number, prompt: readonly ScoredToken[]): readonly ScoredToken[] => {
    if (params.echoes[promptAt(index)] === null) return [];
    const most = params.topLogprobs;
    return prompt.map((token) =>
      token.top.length > most ? { ...token, top: token.top.slice(0, most) } : token,
    );
  };
  return {
    named: false,
    opening: () =>
      // With log-probabilities the prompt comes as an event, and its text goes out with it.
      Array.from({ length: params.logprobs ? 0 : params.choices }, (_, index) => index)
        .filter((index) => echoOf(index) !== '')
        .map((index) => chunk([{ index, text: echoOf(index), logprobs: null, finish_reason: null }])),
    piece(index, event) {
      const text = event.kind === 'prompt' ? echoOf(index) : event.text;
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
        text: echoOf(index) + text,
        logprobs: logprobsOf(index, [...echoed(index, prompt), ...tokens]),
        finish_reason: finishReason,
        ...(params.promptLogprobs == null
          ? {}
          : { prompt_logprobs: promptLogprobs(tokenizer, prompt, params.promptLogprobs) }),
      })),
      usage,
    }),
  };
}
