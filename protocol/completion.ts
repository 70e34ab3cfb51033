/** Requests and responses of OpenAI's chat and text completions, as far as graft speaks them. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import { MAX_MESSAGES, MAX_STOP_CHARACTERS, MAX_STOP_SEQUENCES, MAX_TOP_LOGPROBS } from './limits.ts';
import { err, ok, type Result } from './result.ts';

const stop = z.union([
  z.string().min(1).max(MAX_STOP_CHARACTERS),
  z.array(z.string().min(1).max(MAX_STOP_CHARACTERS)).max(MAX_STOP_SEQUENCES),
]);

/** Fields that chat and text completions share. `null` means "not given", as in OpenAI's schema. */
const common = {
  model: z.string().min(1).max(512),
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().optional(), include_obfuscation: z.boolean().optional() })
    .nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  /** 0 and -1 mean "off", as in vLLM. */
  top_k: z.int().min(-1).max(1_000_000).nullish(),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  max_tokens: z.int().positive().nullish(),
  ignore_eos: z.boolean().nullish(),
  user: z.string().max(512).nullish(),
  /** Accepted because clients send them by default or by habit; they do not change what is generated. */
  metadata: z.record(z.string(), z.unknown()).nullish(),
  store: z.boolean().nullish(),
  service_tier: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  n: z.literal(1, 'n other than 1 is not supported yet').nullish(),
  frequency_penalty: z.literal(0, 'penalties are not supported yet').nullish(),
  presence_penalty: z.literal(0, 'penalties are not supported yet').nullish(),
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

export const TextCompletionRequest = z.strictObject({
  ...common,
  /** One prompt, as text or as token ids. */
  prompt: z.union([z.string(), z.array(z.int().min(0)).min(1)]),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  best_of: z.literal(1, 'best_of other than 1 is not supported').nullish(),
  suffix: z.literal('', 'suffix is not supported').nullish(),
  /** `max_tokens: 0` with `echo` scores the prompt. */
  max_tokens: z.int().min(0).nullish(),
});
export type TextCompletionRequest = z.infer<typeof TextCompletionRequest>;

/** Fields of OpenAI's API (and of common extensions) that graft knows and does not support yet: refused by name. */
const KNOWN_UNSUPPORTED = new Set([
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'functions',
  'function_call',
  'response_format',
  'logit_bias',
  'modalities',
  'audio',
  'prediction',
  'reasoning_effort',
  'verbosity',
  'web_search_options',
  'min_p',
  'repetition_penalty',
  'guided_json',
  'guided_regex',
  'guided_choice',
  'guided_grammar',
  'strict',
  'adapters',
]);

const issuePath = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (text, key) =>
      typeof key === 'number' ? `${text}[${key}]` : text ? `${text}.${String(key)}` : String(key),
    '',
  );

function parse<T>(schema: z.ZodType<T>, body: unknown): Result<T, ApiError> {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    return err({ code: 'invalid_request', message: 'The body must be a JSON object.', param: null });
  for (const key of Object.keys(body)) {
    const value = (body as Record<string, unknown>)[key];
    if (KNOWN_UNSUPPORTED.has(key) && value !== null)
      return err({
        code: 'unsupported_parameter',
        message: `'${key}' is not supported by this server yet.`,
        param: key,
      });
  }
  const parsed = schema.safeParse(body);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = issuePath([...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])]) || null;
  const message =
    unknown === undefined ? `Invalid value for '${param}': ${issue?.message}.` : `Unknown field '${param}'.`;
  return err({ code: 'invalid_request', message, param });
}

/** @param body parsed JSON. */
export const parseChatCompletion = (body: unknown): Result<ChatCompletionRequest, ApiError> =>
  parse(ChatCompletionRequest, body);
/** @param body parsed JSON. */
export const parseTextCompletion = (body: unknown): Result<TextCompletionRequest, ApiError> =>
  parse(TextCompletionRequest, body);

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

export interface Model {
  id: string;
  object: 'model';
  created: number;
  owned_by: string;
  /** Ours: the base model or the parent adapter's name. */
  parent?: string | null;
  root?: string;
}
