/**
 * Answers of OpenAI's API: chat and text completions, whole and in chunks; models; responses and their stream
 * events.
 */
import { z } from 'zod';
import type { TextFormat, ResponseTool, ResponseToolChoice } from './request-fields.ts';

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

/** A chunk of one in a stream: the first has all fields, the others only arguments. */
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
  /** Prompt tokens that were reused from an earlier request, if any. */
  prompt_tokens_details?: { cached_tokens: number };
}

export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top_logprobs: { token: string; logprob: number; bytes: number[] | null }[];
}

/** vLLM's: for each prompt token, the likeliest ids there and the token itself. */
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
  /** Only if requested. */
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
    /** Only if requested. */
    prompt_logprobs?: PromptLogprobs;
  }[];
  usage?: Usage | null;
}

/** `GET /v1/models/<name>`. */
export const Model = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    /** Unix seconds. */
    created: z.int(),
    owned_by: z.string(),
    /** graft's extension: the base model or the parent adapter's name. */
    parent: z.string().nullable().optional(),
    /** graft's extension: the base model. */
    root: z.string().optional(),
  })
  .meta({ id: 'Model' });
export type Model = z.infer<typeof Model>;

/** `GET /v1/models?prefix=&after=` of the edge. */
export const ModelList = z
  .object({
    object: z.literal('list'),
    data: z.array(Model),
    /** graft's extension: there are, or may be, more: one answer asks the registry only a few times. */
    has_more: z.boolean(),
    /** graft's extension: pass it as `after` for the next page; a page can be empty and still have a next one. */
    after: z.string().optional(),
  })
  .meta({ id: 'ModelList' });
export type ModelList = z.infer<typeof ModelList>;

/** A call that the model asks for. */
export interface OutputFunctionCall {
  id: string;
  type: 'function_call';
  status: 'in_progress' | 'completed' | 'incomplete';
  call_id: string;
  name: string;
  /** JSON, cut where the answer is. */
  arguments: string;
}

export type OutputItem = OutputMessage | OutputFunctionCall;

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

/** OpenAI's `Response`. The name avoids the platform's class. */
export interface ModelResponse {
  id: string;
  object: 'response';
  /** Unix seconds, like all times here. */
  created_at: number;
  completed_at: number | null;
  status: 'in_progress' | 'completed' | 'incomplete' | 'failed';
  error: { code: 'server_error' | 'rate_limit_exceeded'; message: string } | null;
  incomplete_details: { reason: 'max_output_tokens' } | null;
  model: string;
  output: OutputItem[];
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
  safety_identifier: string | null;
  prompt_cache_key: string | null;
  /** Constant fields. */
  background: false;
  max_tool_calls: null;
  parallel_tool_calls: boolean;
  previous_response_id: null;
  reasoning: { effort: null; summary: null };
  service_tier: 'default';
  store: false;
  text: { format: TextFormat };
  tool_choice: ResponseToolChoice;
  tools: ResponseTool[];
  truncation: 'disabled';
}

export interface ResponseUsage {
  input_tokens: number;
  input_tokens_details: { cached_tokens: number; cache_write_tokens: 0 };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: 0 };
  total_tokens: number;
}

interface Placed {
  item_id: string;
  output_index: number;
  content_index: 0;
}

/** Every event that is ever sent: the official clients throw on unknown ones. */
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
      output_index: number;
      item: OutputItem;
    }
  | ({ type: 'response.content_part.added' | 'response.content_part.done'; part: OutputText } & Placed)
  | ({ type: 'response.output_text.delta'; delta: string; logprobs: TokenLogprob[] } & Placed)
  | {
      type: 'response.function_call_arguments.delta';
      item_id: string;
      output_index: number;
      delta: string;
    }
  | {
      type: 'response.function_call_arguments.done';
      item_id: string;
      output_index: number;
      name: string;
      arguments: string;
    }
  | ({ type: 'response.output_text.done'; text: string; logprobs: TokenLogprob[] } & Placed)
);
