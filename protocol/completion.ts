/** Requests and responses of OpenAI's chat and text completions, as far as graft speaks them. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import {
  MAX_CHOICES,
  MAX_CLIENT_KEY,
  MAX_MESSAGES,
  MAX_TOP_LOGPROBS,
  MAX_USER_CHARACTERS,
} from './limits.ts';
import { isMap, parseBody, refuseCrowd, refuseParts, unsupported, type RefusedFields } from './parse-body.ts';
import { err, type Result } from './result.ts';
import { samplingFields } from './sampling-fields.ts';

/** Fields that chat and text completions share. `null` means "not given", as in OpenAI's schema. */
const common = {
  model: z.string().min(1).max(512),
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().optional(), include_obfuscation: z.boolean().optional() })
    .nullish(),
  ...samplingFields,
  max_tokens: z.int().positive().nullish(),
  /** Answers to the one prompt. */
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  user: z.string().max(MAX_USER_CHARACTERS).nullish(),
  /** Accepted because clients send them by default or by habit; they do not change what is generated. */
  metadata: z
    .custom<Record<string, unknown>>(isMap, 'must be an object')
    .meta({ type: 'object', additionalProperties: {} })
    .nullish(),
  store: z.boolean().nullish(),
  service_tier: z.string().max(MAX_CLIENT_KEY).nullish(),
  safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
  prompt_cache_key: z.string().max(MAX_CLIENT_KEY).nullish(),
};

const textPart = z.strictObject({
  type: z.literal('text', 'only text parts are supported'),
  text: z.string(),
});
const content = z.union([z.string(), z.array(textPart).min(1)], 'must be a string or an array of text parts');

export const ChatMessage = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content,
  name: z.string().optional(),
  /** Clients send an assistant's answer back as they got it. */
  refusal: z.null().optional(),
});
export type ChatMessage = z.infer<typeof ChatMessage>;

export const ChatCompletionRequest = z.strictObject({
  ...common,
  messages: z.array(ChatMessage).min(1).max(MAX_MESSAGES),
  max_completion_tokens: z.int().positive().nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
});
export type ChatCompletionRequest = z.infer<typeof ChatCompletionRequest>;

/** Not `z.array`, which takes seconds to list what is wrong with each of half a million. */
const tokenIds = z
  .custom<number[]>((value) => Array.isArray(value) && value.length > 0, 'must not be empty')
  .superRefine((ids, context) => {
    const at = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
    if (at !== -1)
      context.addIssue({
        code: 'custom',
        message: 'is no token id: a request has one prompt, as text or as token ids',
        path: [at],
      });
  })
  .meta({ type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 });

export const TextCompletionRequest = z.strictObject({
  ...common,
  /** One prompt, as text or as token ids. */
  prompt: z.union([z.string(), tokenIds]),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  best_of: z.literal(1, 'best_of other than 1 is not supported').nullish(),
  suffix: z.literal('', 'suffix is not supported').nullish(),
  /** `max_tokens: 0` with `echo` scores the prompt. */
  max_tokens: z.int().min(0).nullish(),
});
export type TextCompletionRequest = z.infer<typeof TextCompletionRequest>;

/** Fields of OpenAI's API (and of common extensions) that graft knows and does not support yet: refused by name. */
const REFUSED: RefusedFields = new Map(
  [
    'tools',
    'tool_choice',
    'parallel_tool_calls',
    'functions',
    'function_call',
    'response_format',
    'modalities',
    'audio',
    'prediction',
    'reasoning_effort',
    'verbosity',
    'web_search_options',
    'guided_json',
    'guided_regex',
    'guided_choice',
    'guided_grammar',
    'strict',
    'adapters',
  ].map((key) => [key, () => false]),
);

/** Tools' messages and parts that are no text, where they stand. */
function refuseMessages(messages: unknown): ApiError | null {
  if (!Array.isArray(messages)) return null;
  for (const [at, message] of messages.entries()) {
    if (!isMap(message)) continue;
    const { role, tool_calls: calls, function_call: call } = message;
    if (role === 'tool' || role === 'function')
      return unsupported(`messages[${at}].role`, `A message of role '${role}'`);
    if (calls != null || call != null)
      return unsupported(`messages[${at}].${calls == null ? 'function_call' : 'tool_calls'}`);
    const refusal = refuseParts(message['content'], ['messages', at], ['text']);
    if (refusal !== null) return refusal;
  }
  return null;
}

/** @param body parsed JSON. */
export function parseChatCompletion(body: unknown): Result<ChatCompletionRequest, ApiError> {
  const crowd = isMap(body) ? refuseCrowd(body['messages'], 'messages') : null;
  if (crowd !== null) return err(crowd);
  const parsed = parseBody(ChatCompletionRequest, body, REFUSED);
  if (parsed.ok || parsed.error.code !== 'invalid_request') return parsed;
  const refusal = isMap(body) ? refuseMessages(body['messages']) : null;
  return refusal === null ? parsed : err(refusal);
}
/** @param body parsed JSON. */
export const parseTextCompletion = (body: unknown): Result<TextCompletionRequest, ApiError> =>
  parseBody(TextCompletionRequest, body, REFUSED);

export type FinishReason = 'stop' | 'length';

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top_logprobs: { token: string; logprob: number; bytes: number[] | null }[];
}

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: 'assistant'; content: string; refusal: null };
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
    finish_reason: FinishReason;
  }[];
  usage: Usage;
}

export interface ChatCompletionChunk {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: 'assistant'; content?: string };
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
    finish_reason: FinishReason | null;
  }[];
  usage?: Usage | null;
}

export interface TextLogprobs {
  tokens: string[];
  /** null for the first token of an echoed prompt, which nothing predicts. */
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}

export interface TextCompletion {
  id: string;
  object: 'text_completion';
  created: number;
  model: string;
  choices: {
    index: number;
    text: string;
    logprobs: TextLogprobs | null;
    finish_reason: FinishReason | null;
  }[];
  usage?: Usage | null;
}
