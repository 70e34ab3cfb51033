import {
  type ApiError,
  errorStatus,
  type FinishReason,
  type ModelResponse,
  type ResponseEvent,
  type ResponseRequest,
  type ResponseTool,
  type ResponseUsage,
  type TokenLogprob,
  type Usage,
} from '../../protocol/index.ts';
import type { ScoredToken } from '../engine/engine.ts';
import type { AnswerTokens, CompletionFormat, FormatParams } from './completion-formats.ts';
import { chatLogprob } from '../prompts/token-text.ts';
import { ResponseItems, type UnnumberedEvent } from './response-items.ts';
import { type AnswerPiece, ToolCallReader } from './answer-form.ts';

type State = Pick<ModelResponse, 'status' | 'output'> & {
  usage?: Usage;
  error?: ApiError;
};

/**
 * Responses have one choice: a message with one part, and calls where there are tools. An item begins with its first
 * piece; without tools the message begins at once.
 * @param now unix seconds, for when the answer was complete.
 */
export function responsesFormat(
  params: FormatParams & { request: ResponseRequest; now: () => number },
): CompletionFormat {
  const { request } = params;
  const reader = params.calls === null ? null : new ToolCallReader(params.calls);
  const items = new ResponseItems(params.id);
  let sent = 0;
  /** How the answer has ended: one that was cut before its first item has none that could say it. */
  let ended: ReturnType<typeof statusOf> = 'completed';

  const logprobsOf = (tokens: readonly ScoredToken[]): TokenLogprob[] =>
    params.logprobs ? tokens.map((token) => chatLogprob(params.tokenizer, token)) : [];
  const numbered = (events: readonly UnnumberedEvent[]): ResponseEvent[] =>
    events.map((event) => {
      const sequence_number = sent;
      sent += 1;
      return { ...event, sequence_number } as ResponseEvent;
    });
  const response = (state: State): ModelResponse =>
    responseObject({ id: `resp_${params.id}`, created: params.created, now: params.now, request }, state);
  /** Of tokens whose text may yet be the message's, or the beginning of a call. */
  let waiting: TokenLogprob[] = [];
  /** Log-probabilities are the message's: those of calls have no place in a response. */
  const take = (pieces: readonly AnswerPiece[]): UnnumberedEvent[] =>
    pieces.flatMap((piece) => {
      const scores = piece.kind === 'text' ? waiting : [];
      waiting = [];
      return items.take(piece, scores);
    });
  const takeTokens = ({ text, tokens }: AnswerTokens): UnnumberedEvent[] => {
    const scores = logprobsOf(tokens);
    if (text === '' && scores.length === 0) return [];
    if (reader === null) return items.take({ kind: 'text', text }, scores);
    const inCall = reader.inCall;
    waiting.push(...scores);
    const pieces = reader.push(text);
    if (inCall && pieces.length === 0) waiting = [];
    return take(pieces);
  };
  const close = (finishReason: FinishReason): UnnumberedEvent[] => {
    ended = statusOf(finishReason);
    const last = take(reader?.flush() ?? []);
    // A call is whole or not, whatever has ended the answer.
    const ofCall = reader?.isCut === true ? 'incomplete' : 'completed';
    return [...last, ...items.end(items.inCall ? ofCall : ended)];
  };

  return {
    named: true,
    opening() {
      const begun = response({ status: 'in_progress', output: [] });
      return numbered([
        { type: 'response.created', response: begun },
        { type: 'response.in_progress', response: begun },
        ...(reader === null ? items.begin() : []),
      ]);
    },
    piece: (_choice, event) => (event.kind === 'prompt' ? [] : numbered(takeTokens(event))),
    closing: (_choice, finishReason) => numbered(close(finishReason)),
    ending: (usage) =>
      numbered([
        { type: `response.${ended}`, response: response({ status: ended, output: items.output, usage }) },
      ]),
    failure(error) {
      items.end('incomplete');
      const output = items.hasText || items.output.length > 1 ? items.output : [];
      const [failed] = numbered([
        { type: 'response.failed', response: response({ status: 'failed', output, error }) },
      ]);
      return failed;
    },
    whole(answers, usage) {
      const { parts, finishReason } = answers[0]!;
      if (reader === null) items.begin();
      // As a stream has it: which tokens are the message's shows in what comes together.
      for (const part of parts) takeTokens(part);
      close(finishReason);
      return response({ status: ended, output: items.output, usage });
    },
  };
}

const statusOf = (finishReason: FinishReason): 'completed' | 'incomplete' =>
  finishReason === 'length' ? 'incomplete' : 'completed';

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
    safety_identifier: request.safety_identifier ?? null,
    prompt_cache_key: request.prompt_cache_key ?? null,
    background: false,
    max_tool_calls: null,
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: false,
    text: { format: request.text?.format ?? { type: 'text' } },
    tool_choice: request.tool_choice ?? 'auto',
    tools: [...(request.tools ?? [])].map(toolOf),
    truncation: 'disabled',
  };
}

/** As OpenAI gives it back: with all of its fields. */
const toolOf = (tool: ResponseTool): ResponseTool => ({
  ...tool,
  description: tool.description ?? null,
  parameters: tool.parameters ?? null,
  strict: tool.strict ?? false,
});

const usageOf = (usage: Usage): ResponseUsage => ({
  input_tokens: usage.prompt_tokens,
  input_tokens_details: {
    cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    cache_write_tokens: 0,
  },
  output_tokens: usage.completion_tokens,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: usage.total_tokens,
});

/** OpenAI's list of codes has two that fit what can happen in the middle of a stream. */
const errorCode = (error: ApiError): 'server_error' | 'rate_limit_exceeded' =>
  errorStatus(error) === 429 ? 'rate_limit_exceeded' : 'server_error';
