import {
  errorBody,
  type ChatFinishReason,
  type ChatCompletion,
  type ChatCompletionChunk,
  type FinishReason,
  type ModelToolCall,
} from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { chatLogprob, promptLogprobs } from '../prompts/token-text.ts';
import { type AnswerPiece, ToolCallReader } from './tool-call-reader.ts';

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
  const { calls } = params;
  const readers = Array.from(
    { length: calls === null ? 0 : params.choices },
    () => new ToolCallReader(calls!),
  );
  /** Calls of each choice that have begun. */
  const begun = new Array<number>(params.choices).fill(0);
  /** OpenAI's ids have 24 letters behind the mark. */
  const callId = (choice: number, call: number): string =>
    `call_${params.id.slice(0, 20)}${choice.toString(36)}${call.toString(36).padStart(3, '0')}`;
  const finishOf = (choice: number, reason: FinishReason): ChatFinishReason =>
    reason === 'stop' && (readers[choice]?.whole ?? 0) > 0 ? 'tool_calls' : reason;
  const deltaOf = (choice: number, piece: AnswerPiece): Choice['delta'] => {
    if (piece.kind === 'text') return { content: piece.text };
    if (piece.kind === 'arguments')
      return { tool_calls: [{ index: begun[choice]! - 1, function: { arguments: piece.text } }] };
    begun[choice] = begun[choice]! + 1;
    const at = begun[choice] - 1;
    const called = { name: piece.name, arguments: '' };
    return { tool_calls: [{ index: at, id: callId(choice, at), type: 'function', function: called }] };
  };
  const chunksOf = (index: number, pieces: readonly AnswerPiece[], logprobs: Choice['logprobs']): unknown[] =>
    pieces.map((piece, at) =>
      chunk([
        { index, delta: deltaOf(index, piece), logprobs: at === 0 ? logprobs : null, finish_reason: null },
      ]),
    );
  const messageOf = (index: number, text: string): ChatCompletion['choices'][number]['message'] => {
    const reader = readers[index];
    if (reader === undefined) return { role: 'assistant', content: text, refusal: null };
    let content = '';
    const made: ModelToolCall[] = [];
    for (const piece of [...reader.push(text), ...reader.flush()]) {
      if (piece.kind === 'text') content += piece.text;
      else if (piece.kind === 'arguments') made.at(-1)!.function.arguments += piece.text;
      else
        made.push({
          id: callId(index, made.length),
          type: 'function',
          function: { name: piece.name, arguments: '' },
        });
    }
    return {
      role: 'assistant',
      content: content === '' && made.length > 0 ? null : content,
      refusal: null,
      ...(made.length === 0 ? {} : { tool_calls: made }),
    };
  };
  return {
    named: false,
    opening: () =>
      Array.from({ length: params.choices }, (_, index) =>
        chunk([
          {
            index,
            delta: { role: 'assistant', content: calls === null ? '' : null },
            logprobs: null,
            finish_reason: null,
          },
        ]),
      ),
    piece(index, event) {
      if (event.kind === 'prompt') return [];
      const silent = event.text === '' && !(params.logprobs && event.tokens.length > 0);
      if (silent) return [];
      const logprobs = logprobsOf(event.tokens);
      const reader = readers[index];
      if (reader !== undefined) {
        const chunks = chunksOf(index, reader.push(event.text), logprobs);
        if (chunks.length > 0 || !params.logprobs) return chunks;
        return [chunk([{ index, delta: {}, logprobs, finish_reason: null }])];
      }
      return [chunk([{ index, delta: { content: event.text }, logprobs, finish_reason: null }])];
    },
    heartbeat: (index) => [
      chunk([{ index, delta: calls === null ? { content: '' } : {}, logprobs: null, finish_reason: null }]),
    ],
    closing: (index, finishReason) => [
      ...chunksOf(index, readers[index]?.flush() ?? [], null),
      chunk([{ index, delta: {}, logprobs: null, finish_reason: finishOf(index, finishReason) }]),
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
        message: messageOf(index, text),
        logprobs: logprobsOf(tokens),
        finish_reason: finishOf(index, finishReason),
      })),
      usage,
      ...(params.promptLogprobs == null
        ? {}
        : {
            prompt_logprobs: promptLogprobs(params.tokenizer, answers[0]!.prompt, params.promptLogprobs),
          }),
    }),
  };
}
