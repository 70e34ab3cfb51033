/** Answers of OpenAI's chat and text completions, whole and in chunks. */
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
