/** Answers of OpenAI's API: chat and text completions, whole and in chunks, and models. */
import { z } from 'zod';

export type FinishReason = 'stop' | 'length';
/** A chat's answer may end with calls. */
export type ChatFinishReason = FinishReason | 'tool_calls';

/** A call that a model asks for. */
export interface ModelToolCall {
  id: string;
  type: 'function';
  /** `arguments`: JSON, cut where the answer is. */
  function: { name: string; arguments: string };
}

/** A piece of one in a stream: the first of each has all of its fields, the others arguments alone. */
export interface ToolCallDelta {
  index: number;
  id?: string;
  type?: 'function';
  function: { name?: string; arguments: string };
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Tokens of the prompt that were kept from an earlier request, where some were. */
  prompt_tokens_details?: { cached_tokens: number };
}

export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top_logprobs: { token: string; logprob: number; bytes: number[] | null }[];
}

/** vLLM's: of each token of a prompt, by the ids of those that were likeliest there and of the token itself. */
export type PromptLogprobs = (Record<
  string,
  { logprob: number; rank: number; decoded_token: string }
> | null)[];

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: 'assistant'; content: string | null; refusal: null; tool_calls?: ModelToolCall[] };
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
    finish_reason: ChatFinishReason;
  }[];
  usage: Usage;
  /** Only when asked for. */
  prompt_logprobs?: PromptLogprobs;
}

export interface ChatCompletionChunk {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: 'assistant'; content?: string | null; tool_calls?: ToolCallDelta[] };
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
    finish_reason: ChatFinishReason | null;
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
    /** Only when asked for. */
    prompt_logprobs?: PromptLogprobs;
  }[];
  usage?: Usage | null;
}

/** `GET /v1/models/<name>`. */
export const Model = z.object({
  id: z.string(),
  object: z.literal('model'),
  /** Unix seconds. */
  created: z.int(),
  owned_by: z.string(),
  /** Ours: the base model or the parent adapter's name. */
  parent: z.string().nullable().optional(),
  /** Ours: the base model. */
  root: z.string().optional(),
});
export type Model = z.infer<typeof Model>;

/** `GET /v1/models?prefix=&after=` of the edge. */
export const ModelList = z.object({
  object: z.literal('list'),
  data: z.array(Model),
  /** Ours: there are more, or may be: the registry is asked a few times for one answer. */
  has_more: z.boolean(),
  /** Ours: pass it back as `after` to go on; a page can be empty and have more behind it. */
  after: z.string().optional(),
});
export type ModelList = z.infer<typeof ModelList>;

/** Whether an answer with these headers is a stream of server-sent events. */
export const isEventStream = (headers: Headers): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') ?? false;
