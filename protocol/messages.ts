/** `POST /v1/messages`: requests, answers, stream events and errors of Anthropic's Messages API. */
import { z } from 'zod';
import { errorStatus, type ApiError } from './api-error.ts';
import { MAX_MESSAGES, MAX_USER_CHARACTERS } from './limits.ts';
import { isMap } from './parse-body.ts';
import { samplingFields } from './answer-fields.ts';

const textBlock = z.object({ type: z.literal('text'), text: z.string() });
/** Thoughts that are sent back: they are not shown to the model again. */
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
  /** `custom` or nothing: Anthropic's own tools run on its servers. */
  type: z.literal('custom', 'only tools of your own are supported').nullish(),
  name: z.string().min(1).max(128),
  description: z.string().nullish(),
  input_schema: z.custom<Record<string, unknown>>(isMap, 'must be an object').meta({ type: 'object' }),
  /** As a chat's function has it: a schema that its calls cannot be held to is refused. */
  strict: z.boolean().nullish(),
});

const toolChoice = z.object({
  type: z.enum(['auto', 'any', 'tool', 'none']),
  name: z.string().nullish(),
  disable_parallel_tool_use: z.boolean().nullish(),
});

/** What the answer is held to. */
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
  /** Ours. */
  seed: samplingFields.seed,
  metadata: z.object({ user_id: z.string().max(MAX_USER_CHARACTERS).nullish() }).nullish(),
  tools: z.array(MessagesTool).max(128).nullish(),
  tool_choice: toolChoice.nullish(),
  output_config: z.object({ format: outputFormat.nullish() }).nullish(),
  /** Its name before there was `output_config`, which wins. */
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
});
export type CountTokensRequest = z.infer<typeof CountTokensRequest>;

export const CountTokensAnswer = z.object({ input_tokens: z.int() });
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
  /** `code` is ours. */
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

/** An answer that says an `ErrorBody`, in Anthropic's words; status and headers stay. */
export async function asMessagesError(answer: Response): Promise<Response> {
  const { message, code } = Told.parse(await answer.json()).error;
  const { status, headers } = answer;
  const said: MessagesError = { type: 'error', error: { type: typeOf(status), message, code } };
  return new Response(JSON.stringify(said), { status, headers });
}
