/**
 * `POST /v1/messages`: requests, answers, stream events and errors of Anthropic's Messages API, and the
 * equivalent chat.
 */
import { z } from 'zod';
import { errorStatus, type ApiError, err, ok, type Result } from './api-error.ts';
import { MAX_MESSAGES, MAX_USER_CHARACTERS } from './limits.ts';
import {
  isMap,
  issuePath,
  parseRequest,
  short,
  unsupported,
  type Parsed,
  type ParseOptions,
} from './parse-body.ts';
import { samplingFields, refuseCrowd } from './request-fields.ts';
import { type ChatCompletionRequest, parseChatCompletion } from './completion.ts';

const textBlock = z.object({ type: z.literal('text'), text: z.string() });
/** Thoughts that are sent back are not shown to the model again. */
const thinkingBlock = z.object({ type: z.enum(['thinking', 'redacted_thinking']) });
const toolUseBlock = z.object({
  type: z.literal('tool_use'),
  id: z.string().min(1).max(256),
  name: z.string().min(1).max(128),
  input: z.custom<Record<string, unknown>>(isMap, 'must be an object').meta({ type: 'object' }),
});
const toolResultBlock = z.object({
  type: z.literal('tool_result'),
  tool_use_id: z.string().min(1).max(256),
  content: z.union([z.string(), z.array(textBlock)]).nullish(),
  is_error: z.boolean().nullish(),
});
export const MessagesBlock = z.discriminatedUnion('type', [
  textBlock,
  thinkingBlock,
  toolUseBlock,
  toolResultBlock,
]);
export type MessagesBlock = z.infer<typeof MessagesBlock>;

export const MessagesInput = z.object({
  role: z.enum(['user', 'assistant']),
  content: z.union([z.string(), z.array(MessagesBlock)], 'must be a string or an array of blocks'),
});
export type MessagesInput = z.infer<typeof MessagesInput>;

export const MessagesTool = z.object({
  /** `custom` or omitted: Anthropic's own tools run on its servers. */
  type: z.literal('custom', 'only client-side tools are supported').nullish(),
  name: z.string().min(1).max(128),
  description: z.string().nullish(),
  input_schema: z.custom<Record<string, unknown>>(isMap, 'must be an object').meta({ type: 'object' }),
  /** Like a chat's function: schemas that cannot constrain its calls are refused. */
  strict: z.boolean().nullish(),
});

const toolChoice = z.object({
  type: z.enum(['auto', 'any', 'tool', 'none']),
  name: z.string().nullish(),
  disable_parallel_tool_use: z.boolean().nullish(),
});

/** What constrains the answer. */
const outputFormat = z.object({
  type: z.literal('json_schema'),
  schema: z.custom<Record<string, unknown>>(isMap, 'must be an object').meta({ type: 'object' }),
});

export const MessagesRequest = z.strictObject({
  model: z.string().min(1).max(512),
  messages: z.array(MessagesInput).min(1).max(MAX_MESSAGES),
  max_tokens: z.int().positive(),
  system: z.union([z.string(), z.array(textBlock)]).nullish(),
  stop_sequences: z.array(z.string().min(1)).nullish(),
  stream: z.boolean().nullish(),
  temperature: samplingFields.temperature,
  top_p: samplingFields.top_p,
  top_k: samplingFields.top_k,
  /** graft's extension. */
  seed: samplingFields.seed,
  metadata: z.object({ user_id: z.string().max(MAX_USER_CHARACTERS).nullish() }).nullish(),
  tools: z.array(MessagesTool).max(128).nullish(),
  tool_choice: toolChoice.nullish(),
  output_config: z.object({ format: outputFormat.nullish() }).nullish(),
  /** The older name of `output_config`, which takes precedence. */
  output_format: outputFormat.nullish(),
});
export type MessagesRequest = z.infer<typeof MessagesRequest>;

/** Of `POST /v1/messages/count_tokens`. */
export const CountTokensRequest = MessagesRequest.pick({
  model: true,
  messages: true,
  system: true,
  tools: true,
  tool_choice: true,
}).meta({ id: 'CountTokensRequest' });
export type CountTokensRequest = z.infer<typeof CountTokensRequest>;

export const CountTokensAnswer = z.object({ input_tokens: z.int() }).meta({ id: 'CountTokensAnswer' });
export type CountTokensAnswer = z.infer<typeof CountTokensAnswer>;

export interface MessagesUsage {
  input_tokens: number;
  output_tokens: number;
  cache_creation_input_tokens: number;
  cache_read_input_tokens: number;
}

export type MessagesContent =
  | { type: 'text'; text: string }
  | { type: 'tool_use'; id: string; name: string; input: Record<string, unknown> };

export type MessagesStopReason = 'end_turn' | 'max_tokens' | 'stop_sequence' | 'tool_use';

/** The answer. */
export interface MessagesAnswer {
  id: string;
  type: 'message';
  role: 'assistant';
  model: string;
  content: MessagesContent[];
  stop_reason: MessagesStopReason | null;
  stop_sequence: string | null;
  usage: MessagesUsage;
}

export type MessagesEvent =
  | { type: 'message_start'; message: MessagesAnswer }
  | { type: 'content_block_start'; index: number; content_block: MessagesContent }
  | {
      type: 'content_block_delta';
      index: number;
      delta: { type: 'text_delta'; text: string } | { type: 'input_json_delta'; partial_json: string };
    }
  | { type: 'content_block_stop'; index: number }
  | {
      type: 'message_delta';
      delta: Pick<MessagesAnswer, 'stop_reason' | 'stop_sequence'>;
      usage: MessagesUsage;
    }
  | { type: 'message_stop' }
  | { type: 'ping' }
  | MessagesError;

export interface MessagesError {
  type: 'error';
  /** `code` is graft's extension. */
  error: { type: string; message: string; code: string };
}

/** Anthropic's names of errors, by status. */
const ERROR_TYPES: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};

const typeOf = (status: number): string =>
  ERROR_TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error');

export const messagesError = (error: ApiError): MessagesError => ({
  type: 'error',
  error: { type: typeOf(errorStatus(error)), message: error.message, code: error.code },
});

const Told = z.object({ error: z.object({ message: z.string(), code: z.string() }) });

/** An `ErrorBody` answer in Anthropic's format; status and headers stay. */
export async function asMessagesError(answer: Response): Promise<Response> {
  const { message, code } = Told.parse(await answer.json()).error;
  const { status, headers } = answer;
  const said: MessagesError = { type: 'error', error: { type: typeOf(status), message, code } };
  return new Response(JSON.stringify(said), { status, headers });
}

const BLOCKS = ['text', 'thinking', 'redacted_thinking', 'tool_use', 'tool_result'];

/** Block types of Anthropic's API that are not supported here: refused where they occur. */
function refuseBlocks(messages: unknown): ApiError | null {
  if (!Array.isArray(messages)) return null;
  for (const [at, message] of messages.entries()) {
    const content: unknown = isMap(message) ? message['content'] : undefined;
    if (!Array.isArray(content)) continue;
    for (const [place, block] of content.entries()) {
      const type: unknown = isMap(block) ? block['type'] : undefined;
      if (typeof type === 'string' && !BLOCKS.includes(type)) {
        const param = issuePath(['messages', at, 'content', place, 'type']);
        return unsupported(
          param,
          'this server reads and writes text only',
          `A block of type '${short(type)}'`,
        );
      }
    }
  }
  return null;
}

function parse<T>(
  schema: z.ZodType<T> & { shape: object },
  body: unknown,
  options: ParseOptions,
): Result<Parsed<T>, ApiError> {
  const messages: unknown = isMap(body) ? body['messages'] : undefined;
  const refusal = refuseCrowd(messages, 'messages') ?? refuseBlocks(messages);
  return refusal === null ? parseRequest(schema, body, options) : err(refusal);
}

/** A request and its equivalent chat, so that what the chat would refuse is refused at once. */
function parseBoth(body: unknown, options: ParseOptions) {
  const parsed = parse(MessagesRequest, body, options);
  if (!parsed.ok) return parsed;
  const chat = messagesToChat(parsed.value.request);
  return chat.ok ? ok({ parsed: parsed.value, chat: chat.value }) : chat;
}

/** @param body parsed JSON. */
export function parseMessagesRequest(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<MessagesRequest>, ApiError> {
  const both = parseBoth(body, options);
  return both.ok ? ok(both.value.parsed) : both;
}

/** The equivalent chat completion. @param body parsed JSON. */
export function parseMessagesAsChat(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<ChatCompletionRequest>, ApiError> {
  const both = parseBoth(body, options);
  if (!both.ok) return both;
  const { parsed, chat } = both.value;
  return ok({ request: chat.request, ignored: [...parsed.ignored, ...chat.ignored] });
}

/** @param body parsed JSON. */
export const parseCountTokens = (
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<CountTokensRequest>, ApiError> => parse(CountTokensRequest, body, options);

type Turn = Pick<CountTokensRequest, 'model' | 'messages' | 'system' | 'tools' | 'tool_choice'>;

/** The chat completion equivalent to an Anthropic request. Errors name the chat's fields. */
export function messagesToChat(request: MessagesRequest): Result<Parsed<ChatCompletionRequest>, ApiError> {
  const { metadata, stop_sequences: stop } = request;
  const format = request.output_config?.format ?? request.output_format;
  return parseChatCompletion({
    ...conversation(request),
    max_tokens: request.max_tokens,
    ...given({ stream: request.stream, temperature: request.temperature, top_p: request.top_p }),
    ...given({ top_k: request.top_k, seed: request.seed, user: metadata?.user_id }),
    ...(stop == null || stop.length === 0 ? {} : { stop }),
    ...(format == null ? {} : { response_format: responseFormat(format.schema) }),
  });
}

const responseFormat = (schema: Record<string, unknown>) => ({
  type: 'json_schema',
  json_schema: { name: 'output', schema, strict: true },
});

/** The same, for a request that is only counted. */
export const countedToChat = (request: Turn): Result<Parsed<ChatCompletionRequest>, ApiError> =>
  parseChatCompletion(conversation(request));

const given = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));

function conversation({ model, messages, system, tools, tool_choice: choice }: Turn) {
  const instructions = system == null ? '' : textOf(system);
  const turns = turnsOf(messages).flatMap(chatMessages);
  return {
    model,
    messages: [...(instructions === '' ? [] : [{ role: 'system', content: instructions }]), ...turns],
    ...(isBegun(turns.at(-1)) ? { continue_final_message: true } : {}),
    ...(tools == null || tools.length === 0
      ? {}
      : {
          tools: tools.map(({ name, description, input_schema: parameters, strict }) => ({
            type: 'function',
            function: { name, parameters, ...given({ description, strict }) },
          })),
          ...given({ tool_choice: choiceOf(choice) }),
          ...(choice?.disable_parallel_tool_use === true ? { parallel_tool_calls: false } : {}),
        }),
  };
}

function choiceOf(choice: Turn['tool_choice']): unknown {
  if (choice == null) return null;
  if (choice.type === 'any') return 'required';
  if (choice.type === 'tool') return { type: 'function', function: { name: choice.name ?? '' } };
  return choice.type;
}

const textOf = (content: string | readonly { text: string }[]): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('');

interface ChatTurn {
  role: string;
  content: string;
  tool_calls?: object[];
}

/** Whether the last message is the beginning of the answer, which then continues it, as in Anthropic's API. */
const isBegun = (last: ChatTurn | undefined): boolean =>
  last?.role === 'assistant' && last.content !== '' && last.tool_calls === undefined;

interface MessagesTurn {
  role: MessagesInput['role'];
  content: MessagesBlock[];
}

/**
 * Adjacent messages of one role are one turn, as in Anthropic's API; some templates refuse turns that do not
 * alternate. Their texts become separate paragraphs.
 */
function turnsOf(messages: readonly MessagesInput[]): MessagesTurn[] {
  const turns: MessagesTurn[] = [];
  for (const { role, content } of messages) {
    const blocks = typeof content === 'string' ? [{ type: 'text' as const, text: content }] : content;
    const last = turns.at(-1);
    if (last?.role !== role) turns.push({ role, content: [...blocks] });
    else {
      const divided = last.content.some(isText) && blocks.some(isText);
      last.content.push(...(divided ? [{ type: 'text' as const, text: '\n\n' }] : []), ...blocks);
    }
  }
  return turns;
}

const isText = (block: MessagesBlock): boolean => block.type === 'text' && block.text !== '';

/** A turn is one message, except that tool results are separate messages and come first. */
function chatMessages({ role, content }: MessagesTurn): ChatTurn[] {
  const of = <T extends MessagesBlock['type']>(type: T) =>
    content.filter((block): block is Extract<MessagesBlock, { type: T }> => block.type === type);
  const text = textOf(of('text'));
  if (role === 'assistant') {
    const calls = of('tool_use').map(({ id, name, input }) => ({
      id,
      type: 'function',
      function: { name, arguments: JSON.stringify(input) },
    }));
    return [{ role, content: text, ...(calls.length === 0 ? {} : { tool_calls: calls }) }];
  }
  const results = of('tool_result').map((block) => ({
    role: 'tool',
    tool_call_id: block.tool_use_id,
    // A chat has only this for errors. Details belong in the text.
    content: textOf(block.content ?? '') || (block.is_error === true ? 'error' : ''),
  }));
  return results.length > 0 && text === '' ? results : [...results, { role, content: text }];
}
