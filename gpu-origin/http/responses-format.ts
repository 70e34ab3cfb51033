import {
  type ApiError,
  errorStatus,
  type FinishReason,
  type ModelResponse,
  type OutputMessage,
  type OutputText,
  type ResponseEvent,
  type ResponseRequest,
  type ResponseUsage,
  type TokenLogprob,
  type Usage,
} from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';
import { chatLogprob } from '../prompts/token-text.ts';

/** `Omit` that keeps the members of a union apart. */
type WithoutNumber<T> = T extends unknown ? Omit<T, 'sequence_number'> : never;

type State = Pick<ModelResponse, 'status' | 'output'> & {
  usage?: Usage;
  error?: ApiError;
};

/**
 * Responses have one choice, which is one message with one part.
 * @param now unix seconds, for when the answer was complete.
 */
export function responsesFormat(
  params: FormatParams & { request: ResponseRequest; now: () => number },
): CompletionFormat {
  const { request } = params;
  const messageId = `msg_${params.id}`;
  const place = { item_id: messageId, output_index: 0, content_index: 0 } as const;
  let text = '';
  let logprobs: TokenLogprob[] = [];
  let message: OutputMessage | null = null;
  let sent = 0;

  const logprobsOf = (tokens: readonly ScoredToken[]): TokenLogprob[] =>
    params.logprobs ? tokens.map((token) => chatLogprob(params.tokenizer, token)) : [];
  const numbered = (event: WithoutNumber<ResponseEvent>): ResponseEvent => {
    const sequence_number = sent;
    sent += 1;
    return { ...event, sequence_number } as ResponseEvent;
  };
  const response = (state: State): ModelResponse =>
    responseObject({ id: `resp_${params.id}`, created: params.created, now: params.now, request }, state);

  return {
    named: true,
    opening() {
      const begun = response({ status: 'in_progress', output: [] });
      return [
        numbered({ type: 'response.created', response: begun }),
        numbered({ type: 'response.in_progress', response: begun }),
        numbered({
          type: 'response.output_item.added',
          output_index: 0,
          item: messageOf(messageId, 'in_progress', []),
        }),
        numbered({ type: 'response.content_part.added', ...place, part: partOf('', []) }),
      ];
    },
    piece(_choice, event) {
      if (event.kind === 'prompt') return [];
      const scores = logprobsOf(event.tokens);
      if (event.text === '' && scores.length === 0) return [];
      text += event.text;
      logprobs.push(...scores);
      return [
        numbered({ type: 'response.output_text.delta', ...place, delta: event.text, logprobs: scores }),
      ];
    },
    heartbeat: () => [numbered({ type: 'response.output_text.delta', ...place, delta: '', logprobs: [] })],
    closing(_choice, finishReason) {
      const part = partOf(text, logprobs);
      message = messageOf(messageId, statusOf(finishReason), [part]);
      return [
        numbered({ type: 'response.output_text.done', ...place, text, logprobs }),
        numbered({ type: 'response.content_part.done', ...place, part }),
        numbered({ type: 'response.output_item.done', output_index: 0, item: message }),
      ];
    },
    ending(usage) {
      const status = message?.status === 'incomplete' ? 'incomplete' : 'completed';
      const ended = response({ status, output: message === null ? [] : [message], usage });
      return [numbered({ type: `response.${status}`, response: ended })];
    },
    failure(error) {
      const output = text === '' ? [] : [messageOf(messageId, 'incomplete', [partOf(text, logprobs)])];
      return numbered({ type: 'response.failed', response: response({ status: 'failed', output, error }) });
    },
    whole(answers, usage) {
      const answer = answers[0]!;
      logprobs = logprobsOf(answer.tokens);
      const status = statusOf(answer.finishReason);
      return response({
        status,
        output: [messageOf(messageId, status, [partOf(answer.text, logprobs)])],
        usage,
      });
    },
  };
}

const statusOf = (finishReason: FinishReason): 'completed' | 'incomplete' =>
  finishReason === 'length' ? 'incomplete' : 'completed';

const partOf = (text: string, logprobs: TokenLogprob[]): OutputText => ({
  type: 'output_text',
  text,
  annotations: [],
  logprobs,
});

const messageOf = (id: string, status: OutputMessage['status'], content: OutputText[]): OutputMessage => ({
  id,
  type: 'message',
  role: 'assistant',
  status,
  content,
});

function responseObject(
  known: { id: string; created: number; now: () => number; request: ResponseRequest },
  { status, output, usage, error }: State,
): ModelResponse {
  const { request } = known;
  return {
    id: known.id,
    object: 'response',
    created_at: known.created,
    completed_at: status === 'completed' ? known.now() : null,
    status,
    error: error === undefined ? null : { code: errorCode(error), message: error.message },
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    model: request.model,
    output,
    usage: usage === undefined ? null : usageOf(usage),
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    temperature: request.temperature ?? 1,
    top_p: request.top_p ?? 1,
    top_logprobs: request.top_logprobs ?? 0,
    presence_penalty: request.presence_penalty ?? 0,
    frequency_penalty: request.frequency_penalty ?? 0,
    ...(request.user == null ? {} : { user: request.user }),
    ...(request.safety_identifier == null ? {} : { safety_identifier: request.safety_identifier }),
    ...(request.prompt_cache_key == null ? {} : { prompt_cache_key: request.prompt_cache_key }),
    background: false,
    max_tool_calls: null,
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: false,
    text: { format: request.text?.format ?? { type: 'text' } },
    tool_choice: request.tool_choice === 'none' ? 'none' : 'auto',
    tools: [],
    truncation: 'disabled',
  };
}

const usageOf = (usage: Usage): ResponseUsage => ({
  input_tokens: usage.prompt_tokens,
  input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
  output_tokens: usage.completion_tokens,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: usage.total_tokens,
});

/** OpenAI's list of codes has two that fit what can happen in the middle of a stream. */
const errorCode = (error: ApiError): 'server_error' | 'rate_limit_exceeded' =>
  errorStatus(error) === 429 ? 'rate_limit_exceeded' : 'server_error';
