/** Answers and stream events of OpenAI's Responses. */
import type { TokenLogprob } from './completion-answers.ts';
import type { TextFormat } from './structured-output.ts';
import type { ResponseTool, ResponseToolChoice } from './tools.ts';

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
  /** What never differs here. */
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
