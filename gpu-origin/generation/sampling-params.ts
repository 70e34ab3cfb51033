import type { ChatCompletionRequest, TextCompletionRequest } from '../../protocol/index.ts';

/** How the tokens of one answer are chosen and when it ends. Checked and defaulted; no field is optional. */
export interface SamplingParams {
  /** 0 = greedy. */
  readonly temperature: number;
  /** Only the k likeliest tokens; null = all of them. */
  readonly topK: number | null;
  /** Only the smallest set of tokens whose probability reaches this; 1 = all of them. */
  readonly topP: number;
  /** Makes the draws reproducible; null = draws from the engine's random source. */
  readonly seed: number | null;
  /** Texts that end the answer; they are not part of it. */
  readonly stop: readonly string[];
  /** Tokens to generate at most; null = as many as fit the context. 0 only scores the prompt. */
  readonly maxTokens: number | null;
  /** Go on after an end-of-sequence token. */
  readonly ignoreEos: boolean;
  /** Log-probability of each token, and of so many alternatives; null = none at all. */
  readonly logprobs: number | null;
}

export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: null,
  topP: 1,
  seed: null,
  stop: [],
  maxTokens: null,
  ignoreEos: false,
  logprobs: null,
};

/** OpenAI's defaults: temperature 1 and no truncation. */
export function samplingParamsOf(request: ChatCompletionRequest | TextCompletionRequest): SamplingParams {
  const { stop, top_k: topK } = request;
  const chatMax = 'max_completion_tokens' in request ? request.max_completion_tokens : null;
  return {
    temperature: request.temperature ?? 1,
    topK: topK === null || topK === undefined || topK < 1 ? null : topK,
    topP: request.top_p ?? 1,
    seed: request.seed ?? null,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    maxTokens: chatMax ?? request.max_tokens ?? null,
    ignoreEos: request.ignore_eos ?? false,
    logprobs: logprobsOf(request),
  };
}

function logprobsOf(request: ChatCompletionRequest | TextCompletionRequest): number | null {
  if ('messages' in request) return request.logprobs === true ? (request.top_logprobs ?? 0) : null;
  return request.logprobs ?? null;
}
