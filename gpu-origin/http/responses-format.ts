import { type ApiError, errorStatus } from '../../protocol/api-error.ts';
import type {
  FinishReason,
  ModelResponse,
  ResponseEvent,
  ResponseUsage,
  TokenLogprob,
  Usage,
  OutputFunctionCall,
  OutputItem,
  OutputMessage,
  OutputText,
} from '../../protocol/completion-answers.ts';
import type { ResponseTool } from '../../protocol/request-fields.ts';
import type { ResponseRequest } from '../../protocol/responses.ts';
import type { ScoredToken } from '../engine/engine.ts';
import {
  type AnswerTokens,
  chatLogprob,
  type CompletionFormat,
  type FormatParams,
  type AnswerPiece,
  ToolCallReader,
} from './completion-formats.ts';

type State = Pick<ModelResponse, 'status' | 'output'> & {
  usage?: Usage;
  error?: ApiError;
};

/**
 * Responses have one choice: a message with one part, and calls if there are tools. An item starts with its
 * first piece; without tools the message starts at once.
 * @param now unix seconds, for the time of completion.
 */
export function responsesFormat(
  params: FormatParams & { request: ResponseRequest; now: () => number },
): CompletionFormat {
  const { request } = params;
  const reader = params.calls === null ? null : new ToolCallReader(params.calls);
  const items = new ResponseItems(params.id);
  let sent = 0;
  /** How the answer ended: if it was cut before its first item, no item can say so. */
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
  /** Tokens whose text may become the message's, or the start of a call. */
  let waiting: TokenLogprob[] = [];
  /** Log-probabilities belong to the message: a response has no place for those of calls. */
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
    // A call is complete or not, however the answer ended.
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
      // Event by event as in a stream, because that shows which tokens belong to the message.
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

/** Like OpenAI's responses, with all fields. */
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

/** Only two of OpenAI's codes fit failures in the middle of a stream. */
const errorCode = (error: ApiError): 'server_error' | 'rate_limit_exceeded' =>
  errorStatus(error) === 429 ? 'rate_limit_exceeded' : 'server_error';

/** `Omit` that distributes over a union. */
type WithoutNumber<T> = T extends unknown ? Omit<T, 'sequence_number'> : never;
type UnnumberedEvent = WithoutNumber<ResponseEvent>;

type Status = 'in_progress' | 'completed' | 'incomplete';

class ResponseItems {
  readonly #id: string;
  /** Items that have ended. */
  readonly output: OutputItem[] = [];
  #open: OutputItem | null = null;
  #text = '';
  #logprobs: TokenLogprob[] = [];

  /** @param id 32 hex digits, for the items' ids. */
  constructor(id: string) {
    this.#id = id;
  }

  /** Whether a message has any text. */
  get hasText(): boolean {
    return this.#text !== '';
  }

  /** Whether the open item is a call. */
  get inCall(): boolean {
    return this.#open?.type === 'function_call';
  }

  /** Starts the message that the following text belongs to. */
  begin(): UnnumberedEvent[] {
    const item = this.#message('in_progress', []);
    this.#open = item;
    this.#text = '';
    this.#logprobs = [];
    return [
      { type: 'response.output_item.added', output_index: this.output.length, item },
      { type: 'response.content_part.added', ...this.#place, part: partOf('', []) },
    ];
  }

  take(piece: AnswerPiece, logprobs: TokenLogprob[]): UnnumberedEvent[] {
    switch (piece.kind) {
      case 'text': {
        const begun = this.#open?.type === 'message' ? [] : [...this.end('completed'), ...this.begin()];
        this.#text += piece.text;
        this.#logprobs.push(...logprobs);
        const event = { type: 'response.output_text.delta' as const, ...this.#place };
        return [...begun, { ...event, delta: piece.text, logprobs }];
      }
      case 'call': {
        const ended = this.end('completed');
        const number = this.output.length.toString(36).padStart(2, '0');
        const item: OutputFunctionCall = {
          id: `fc_${this.#id}${number}`,
          type: 'function_call',
          status: 'in_progress',
          call_id: `call_${this.#id.slice(0, 22)}${number}`,
          name: piece.name,
          arguments: '',
        };
        this.#open = item;
        // A copy, so that the event does not change with the item.
        return [
          ...ended,
          { type: 'response.output_item.added', output_index: this.output.length, item: { ...item } },
        ];
      }
      case 'arguments': {
        const item = this.#open as OutputFunctionCall;
        item.arguments += piece.text;
        return [
          {
            type: 'response.function_call_arguments.delta',
            item_id: item.id,
            output_index: this.output.length,
            delta: piece.text,
          },
        ];
      }
    }
  }

  /** Ends the open item with this status; does nothing if there is none. */
  end(status: Exclude<Status, 'in_progress'>): UnnumberedEvent[] {
    const item = this.#open;
    if (item === null) return [];
    this.#open = null;
    const output_index = this.output.length;
    if (item.type === 'function_call') {
      const call = { ...item, status };
      this.output.push(call);
      const { id, name, arguments: all } = call;
      return [
        { type: 'response.function_call_arguments.done', item_id: id, output_index, name, arguments: all },
        { type: 'response.output_item.done', output_index, item: call },
      ];
    }
    const part = partOf(this.#text, this.#logprobs);
    const place = this.#place;
    const message = this.#message(status, [part]);
    this.output.push(message);
    return [
      { type: 'response.output_text.done', ...place, text: part.text, logprobs: part.logprobs },
      { type: 'response.content_part.done', ...place, part },
      { type: 'response.output_item.done', output_index, item: message },
    ];
  }

  get #place(): { item_id: string; output_index: number; content_index: 0 } {
    return { item_id: this.#messageId, output_index: this.output.length, content_index: 0 };
  }

  /** The first message has the response's number. */
  get #messageId(): string {
    return `msg_${this.#id}${this.output.length === 0 ? '' : this.output.length.toString(36)}`;
  }

  #message(status: OutputMessage['status'], content: OutputText[]): OutputMessage {
    return { id: this.#messageId, type: 'message', role: 'assistant', status, content };
  }
}

const partOf = (text: string, logprobs: TokenLogprob[]): OutputText => ({
  type: 'output_text',
  text,
  annotations: [],
  logprobs,
});
