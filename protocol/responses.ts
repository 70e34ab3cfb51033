/** Requests, answers and stream events of OpenAI's Responses, without state: nothing is stored, tools are refused. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import type { TokenLogprob } from './completion.ts';
import {
  MAX_CLIENT_KEY,
  MAX_MESSAGES,
  MAX_METADATA,
  MAX_TOP_LOGPROBS,
  MAX_USER_CHARACTERS,
} from './limits.ts';
import {
  isMap,
  issuePath,
  parseBody,
  refuseCrowd,
  refuseParts,
  short,
  unsupported,
  type RefusedFields,
} from './parse-body.ts';
import { err, type Result } from './result.ts';
import { samplingFields } from './sampling-fields.ts';

/** The one value of `include` that stateless text has a meaning for. */
const LOGPROBS = 'message.output_text.logprobs';

const inputPart = z.strictObject({ type: z.literal('input_text'), text: z.string() });
/** Clients send an answer's parts back as they got them. */
const outputPart = z.strictObject({
  type: z.literal('output_text'),
  text: z.string(),
  annotations: z.array(z.unknown()).nullish(),
  logprobs: z.array(z.unknown()).nullish(),
});

export const ResponseInputItem = z.strictObject({
  type: z.literal('message').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union(
    [z.string(), z.array(z.discriminatedUnion('type', [inputPart, outputPart])).min(1)],
    'must be a string or an array of input_text and output_text parts',
  ),
  /** An answer's own fields, when it is sent back. */
  id: z.string().nullish(),
  status: z.string().nullish(),
  phase: z.string().nullish(),
});
export type ResponseInputItem = z.infer<typeof ResponseInputItem>;

const metadata = z
  .record(z.string().max(MAX_METADATA.key), z.string().max(MAX_METADATA.value))
  .refine(
    (map) => Object.keys(map).length <= MAX_METADATA.pairs,
    `must not have more than ${MAX_METADATA.pairs} pairs`,
  );

export const ResponseRequest = z.strictObject({
  model: z.string().min(1).max(512),
  input: z.union(
    [z.string(), z.array(ResponseInputItem).min(1).max(MAX_MESSAGES)],
    `must be a string or an array of 1 to ${MAX_MESSAGES} message items`,
  ),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().positive().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_obfuscation: z.boolean().optional() }).nullish(),
  ...samplingFields,
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  include: z.array(z.literal(LOGPROBS)).max(1).nullish(),
  metadata: metadata.nullish(),
  /** Accepted, and answered with false: nothing is kept. */
  store: z.boolean().nullish(),
  user: z.string().max(MAX_USER_CHARACTERS).nullish(),
  /** Accepted because clients send them by default or by habit; they do not change what is generated. */
  parallel_tool_calls: z.boolean().nullish(),
  service_tier: z.string().max(MAX_CLIENT_KEY).nullish(),
  safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
  prompt_cache_key: z.string().max(MAX_CLIENT_KEY).nullish(),
  prompt_cache_retention: z.string().max(MAX_CLIENT_KEY).nullish(),
  tool_choice: z.enum(['auto', 'none']).nullish(),
});
export type ResponseRequest = z.infer<typeof ResponseRequest>;

const isPlainText = (value: unknown): boolean => {
  if (!isMap(value)) return false;
  const { format, ...rest } = value;
  return (
    hasNoValue(rest) &&
    (format === undefined || format === null || (isMap(format) && format['type'] === 'text'))
  );
};
const hasNoValue = (value: unknown): boolean =>
  isMap(value) && Object.values(value).every((inner) => inner === null);

/** Fields that would change the answer or need state, and which of their values ask for nothing. */
const REFUSED: RefusedFields = new Map([
  ['previous_response_id', () => false],
  ['conversation', () => false],
  ['prompt', () => false],
  ['context_management', () => false],
  ['moderation', () => false],
  ['max_tool_calls', () => false],
  ['prompt_cache_options', () => false],
  ['n', () => false],
  ['response_format', () => false],
  ['adapters', () => false],
  ['strict', () => false],
  ['background', (value) => value === false],
  ['tools', (value) => Array.isArray(value) && value.length === 0],
  ['truncation', (value) => value === 'disabled'],
  ['reasoning', hasNoValue],
  ['text', isPlainText],
]);

/** What is known and not supported inside of fields that are: named where it stands. */
function refuseInside({ tool_choice: choice, include, input }: Record<string, unknown>): ApiError | null {
  if (choice === 'required' || isMap(choice)) return unsupported('tool_choice');
  const at = Array.isArray(include)
    ? include.findIndex((one) => typeof one === 'string' && one !== LOGPROBS)
    : -1;
  if (at !== -1) return unsupported(`include[${at}]`);
  return refuseInput(input);
}

/** Items and parts of other types are known by OpenAI's clients: refused as such, where they stand. */
function refuseInput(input: unknown): ApiError | null {
  if (!Array.isArray(input)) return null;
  for (const [at, item] of input.entries()) {
    if (!isMap(item)) continue;
    const { type, content } = item;
    if (typeof type === 'string' && type !== 'message')
      return unsupported(issuePath(['input', at, 'type']), `An input item of type '${short(type)}'`);
    const refusal = refuseParts(content, ['input', at], ['input_text', 'output_text']);
    if (refusal !== null) return refusal;
  }
  return null;
}

/** @param body parsed JSON. */
export function parseResponse(body: unknown): Result<ResponseRequest, ApiError> {
  const crowd = isMap(body) ? refuseCrowd(body['input'], 'input') : null;
  if (crowd !== null) return err(crowd);
  const parsed = parseBody(ResponseRequest, body, REFUSED);
  if (parsed.ok || parsed.error.code !== 'invalid_request') return parsed;
  const refusal = isMap(body) ? refuseInside(body) : null;
  return refusal === null ? parsed : err(refusal);
}

/** Log-probabilities are given only when `include` asks for them. */
export const wantsLogprobs = (request: ResponseRequest): boolean =>
  request.include?.includes(LOGPROBS) ?? false;

export interface OutputText {
  type: 'output_text';
  text: string;
  annotations: [];
  logprobs: TokenLogprob[];
}

export interface OutputMessage {
  id: string;
  type: 'message';
  role: 'assistant';
  status: 'in_progress' | 'completed' | 'incomplete';
  content: OutputText[];
}

/** OpenAI's `Response`. Named apart from the platform's class. */
export interface ModelResponse {
  id: string;
  object: 'response';
  /** Unix seconds, as are all times here. */
  created_at: number;
  completed_at: number | null;
  status: 'in_progress' | 'completed' | 'incomplete' | 'failed';
  error: { code: 'server_error' | 'rate_limit_exceeded'; message: string } | null;
  incomplete_details: { reason: 'max_output_tokens' } | null;
  model: string;
  output: OutputMessage[];
  usage: ResponseUsage | null;
  instructions: string | null;
  max_output_tokens: number | null;
  metadata: Record<string, string>;
  temperature: number;
  top_p: number;
  top_logprobs: number;
  presence_penalty: number;
  frequency_penalty: number;
  user?: string;
  safety_identifier?: string;
  prompt_cache_key?: string;
  /** What never differs here. */
  background: false;
  max_tool_calls: null;
  parallel_tool_calls: boolean;
  previous_response_id: null;
  reasoning: { effort: null; summary: null };
  service_tier: 'default';
  store: false;
  text: { format: { type: 'text' } };
  tool_choice: 'auto' | 'none';
  tools: [];
  truncation: 'disabled';
}

export interface ResponseUsage {
  input_tokens: number;
  input_tokens_details: { cached_tokens: 0; cache_write_tokens: 0 };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: 0 };
  total_tokens: number;
}

interface Placed {
  item_id: string;
  output_index: 0;
  content_index: 0;
}

/** Every event that is ever sent: the official clients throw at one that they do not know. */
export type ResponseEvent = { sequence_number: number } & (
  | {
      type:
        | 'response.created'
        | 'response.in_progress'
        | 'response.completed'
        | 'response.incomplete'
        | 'response.failed';
      response: ModelResponse;
    }
  | {
      type: 'response.output_item.added' | 'response.output_item.done';
      output_index: 0;
      item: OutputMessage;
    }
  | ({ type: 'response.content_part.added' | 'response.content_part.done'; part: OutputText } & Placed)
  | ({ type: 'response.output_text.delta'; delta: string; logprobs: TokenLogprob[] } & Placed)
  | ({ type: 'response.output_text.done'; text: string; logprobs: TokenLogprob[] } & Placed)
);
